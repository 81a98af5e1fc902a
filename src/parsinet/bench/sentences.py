"""Sentences with numbers: each number of running text is held against the table or the records that it repeats, or told to be none of ours."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from functools import cached_property
from pathlib import Path

from pydantic import Field

from parsinet.bench.documents import NUMBER, holds, numbers, table_lines
from parsinet.bench.places import Printed, Where
from parsinet.bench.prose import BRACED, measured, standing
from parsinet.errors import DataError, StorageError
from parsinet.training.recipe_parts import Part


class Sentence(Part):
    """Words of a document with numbers.

    says: the words as they stand there, line breaks aside, each number that is claimed in braces. numbers: for each, in this order, where
    it comes from; or words, where no record of ours holds it: a setting, a definition, who published it. Words alone are those of all.
    """

    says: str
    numbers: tuple[Where | str, ...] | str

    @cached_property
    def printed(self) -> list[str]:
        """The numbers, as they stand in the document."""
        return BRACED.findall(self.says)

    @property
    def places(self) -> list[Where | str]:
        """One per number."""
        return [self.numbers] * len(self.printed) if isinstance(self.numbers, str) else list(self.numbers)


class Page(Part):
    """The sentences of one document. document: relative to the claims file. tables: name → table that the sentences repeat. unmeasured: words
    before or in each of its tables that prints nothing measured: options and defaults, or what a formula gives."""

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
        text = read(folder / self.document)
        for sentence in self.sentences:
            for reason in self._about(sentence, text, folder):
                yield sentence.says, reason

    def _about(self, sentence: Sentence, text: str, folder: Path) -> Iterator[str]:
        if len(sentence.printed) != len(sentence.places):
            yield f"{len(sentence.printed)} numbers in braces, and {len(sentence.places)} places"
            return
        if not standing(sentence.says, text):
            yield f"{self.document} does not say so"
        for word, place in zip(sentence.printed, sentence.places, strict=True):
            if not NUMBER.fullmatch(word.removesuffix("k")):
                yield f"{{{word}}} is no number"
            elif not isinstance(place, str):
                yield from self._against(word, place, folder)

    def _against(self, word: str, place: Where, folder: Path) -> Iterator[str]:
        try:
            value = place.value(folder, self.tables)
        except DataError as error:
            yield str(error)
            return
        if not holds(shown(word), (value, None)):
            yield f"says {word}, but it is {value:.6g}: {place}"


def shown(word: str) -> tuple[float, float]:
    """A printed number with half a unit of its last digit; `43k` is 43,000."""
    ((value, half),) = numbers(word)
    scale = 1000 if word.endswith("k") else 1
    return scale * value, scale * half


def unclaimed(
    pages: Iterable[Page], documents: Iterable[Path], claimed: Iterable[tuple[str, str]], folder: Path
) -> Iterator[tuple[Path, str]]:
    """Numbers that look measured and stand neither in a sentence's braces nor in a claimed table: the document, and the words around each.

    claimed: document and words of each table with a claim. Errors: DataError where a document has no such table.
    """
    sentences, tables = defaultdict(list), defaultdict(list)
    for document, words in claimed:
        tables[(folder / document).resolve()].append(words)
    for page in pages:
        sentences[(folder / page.document).resolve()] += page.sentences
        tables[(folder / page.document).resolve()] += page.unmeasured
    for path in documents:
        text, document = read(path), path.resolve()
        lines = [table_lines(text.splitlines(), words, path.name) for words in tables[document]]
        known = {place for sentence in sentences[document] for places in standing(sentence.says, text) for place in places}
        for first, last in measured(text, lines):
            if not any(start <= first and last <= end for start, end in known):
                yield path, f"line {text.count(chr(10), 0, first) + 1}: {' '.join(text[max(0, first - 40) : last + 20].split())}"


def read(document: Path) -> str:
    """Its text. Errors: StorageError where it cannot be read."""
    try:
        return document.read_text(encoding="utf-8")
    except OSError as error:
        raise StorageError(f"{document.name} cannot be read: {error.strerror}.") from None
