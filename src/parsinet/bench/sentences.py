"""Sentences with numbers: each is held against the table or the records that it repeats, or told to be none of ours."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import Annotated

from pydantic import Discriminator, Field, StringConstraints, Tag

from parsinet.bench.documents import NUMBER, cell_places, holds, numbers, read, table_lines
from parsinet.bench.places import MAY_BE, Cell, Printed, Recorded, Where, Worked, kind
from parsinet.bench.prose import BRACED, SUFFIXES, measured, standing
from parsinet.errors import DataError, UsageError
from parsinet.training.recipe_parts import Part

Words = Annotated[str, StringConstraints(min_length=1)]
Place = Annotated[
    Annotated[Cell, Tag("cell")] | Annotated[Recorded, Tag("records")] | Annotated[Worked, Tag("worked")] | Annotated[Words, Tag("words")],
    Discriminator(
        lambda place: "words" if isinstance(place, str) else kind(place),
        custom_error_type="place",
        custom_error_message=f"a number is {MAY_BE}, or words where no record of ours holds it",
    ),
]
Places = Annotated[
    Annotated[tuple[Place, ...], Tag("each")] | Annotated[Words, Tag("all")],
    Discriminator(
        lambda places: {list: "each", str: "all"}.get(type(places)),
        custom_error_type="places",
        custom_error_message="must be a list that says of each number where it comes from, or words about all of them",
    ),
]


class Sentence(Part):
    """Words of a document with numbers.

    says: the words as they stand there, line breaks aside, each number that is claimed in braces. numbers: for each, in this order, where
    it comes from; or words, where no record of ours holds it: a setting, a definition, who published it. Words alone are those of all.
    """

    says: str
    numbers: Places

    @cached_property
    def printed(self) -> list[str]:
        """The numbers, as they stand in the document."""
        return BRACED.findall(self.says)

    @property
    def places(self) -> list[Where | str]:
        """One per number."""
        return [self.numbers] * len(self.printed) if isinstance(self.numbers, str) else list(self.numbers)


class Page(Part):
    """The sentences of one document.

    document: relative to the claims file. tables: name → table that the sentences repeat. unmeasured: words before or in each of its
    tables that prints nothing measured, but options and their defaults, or what a formula gives.
    """

    document: str
    tables: dict[str, Printed] = Field(default_factory=dict)
    unmeasured: tuple[str, ...] = ()
    sentences: tuple[Sentence, ...] = ()

    @property
    def count(self) -> int:
        """How many numbers are held against tables and records."""
        return sum(1 for sentence in self.sentences for place in sentence.places if not isinstance(place, str))

    def findings(self, folder: Path) -> Iterator[tuple[str, str]]:
        """What does not hold: words that the document has not, numbers that come out otherwise; the words, and why."""
        try:
            text = read(folder / self.document)
        except DataError as error:
            yield "its sentences", str(error)
            return
        for sentence in self.sentences:
            for reason in self._about(sentence, text, folder):
                yield sentence.says, reason

    def _about(self, sentence: Sentence, text: str, folder: Path) -> Iterator[str]:
        if len(sentence.printed) != len(sentence.places):
            yield f"{len(sentence.printed)} numbers in braces, and {len(sentence.places)} places"
            return
        if not sentence.printed:
            yield "no number in braces"
        if not standing(sentence.says, text):
            yield f"{self.document} does not say so"
        for word, place in zip(sentence.printed, sentence.places, strict=True):
            if not NUMBER.fullmatch(bare(word)):
                yield f"{{{word}}} is no number"
            elif not isinstance(place, str):
                yield from self._against(word, place, folder)

    def _against(self, word: str, place: Where, folder: Path) -> Iterator[str]:
        try:
            value = place.value(folder, self.tables)
        except (DataError, UsageError) as error:
            yield str(error)
            return
        if not holds(shown(word), (value, None)):
            yield f"says {word}, but it is {value:.6g}: {place}"


def shown(word: str) -> tuple[float, float]:
    """A printed number with half a unit of its last digit; `43k` is 43,000."""
    ((value, half),) = numbers(word)
    return scale(word) * value, scale(word) * half


def bare(word: str) -> str:
    """A number without the letter behind it."""
    return word[:-1] if word[-1:] in SUFFIXES else word


def scale(word: str) -> float:
    """What the letter behind a number stands for: `43k`."""
    return SUFFIXES.get(word[-1:], 1.0)


def unclaimed(
    pages: Iterable[Page], documents: Iterable[Path], claimed: Mapping[Path, Iterable[tuple[int, int]]], folder: Path
) -> Iterator[tuple[Path, str, str]]:
    """Numbers that look measured and stand neither in a sentence's braces nor in a claimed cell: the document, the words around each,
    and that it has no claim. Also documents that cannot be read, and tables that they do not have.

    claimed: where the cells stand that claims hold, by document.
    """
    sentences: dict[Path, list[Sentence]] = defaultdict(list)
    unmeasured: dict[Path, list[str]] = defaultdict(list)
    for page in pages:
        sentences[(folder / page.document).resolve()] += page.sentences
        unmeasured[(folder / page.document).resolve()] += page.unmeasured
    for path in documents:
        try:
            text, cells = read(path), list(claimed.get(path.resolve(), ()))
        except DataError as error:
            yield path, "all of it", str(error)
            continue
        for words in unmeasured[path.resolve()]:
            try:
                lines = table_lines(text.splitlines(), words, path.name)
                cells += [place for line in cell_places(text, lines) for place in line]
            except DataError as error:
                yield path, words, str(error)
        known = {place for sentence in sentences[path.resolve()] for places in standing(sentence.says, text) for place in places}
        for first, last in measured(text, cells):
            if not any(start <= first and last <= end for start, end in known):
                around = " ".join(text[max(0, first - 40) : last + 20].split())
                yield path, f"line {text.count(chr(10), 0, first) + 1}: {around}", "a number without a claim"
