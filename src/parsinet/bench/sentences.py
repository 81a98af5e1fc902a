"""Sentences of documents that repeat numbers of tables: each number in braces is held against the cell that it repeats."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from pydantic import Field

from parsinet.bench.documents import NUMBER, holds, numbers, position, table_after
from parsinet.errors import DataError
from parsinet.training.recipe_parts import Part

BRACED = re.compile(r"\{([^{}]*)\}")


class Place(Part):
    """A number that a table prints.

    document: relative to the claims file. after: words in a line before the table or in it. where: column title → text, of the row's
    cells. column: title of the cell's column. number: which of the cell's numbers, from 0.
    """

    document: str
    after: str
    where: dict[str, str]
    column: str
    number: int = Field(default=0, ge=0)


class Sentence(Part):
    """Words of a document with numbers of tables.

    document: relative to the claims file. says: the words as they stand there, line breaks aside, each claimed number in braces. numbers:
    where each of them is printed, in this order.
    """

    document: str
    says: str
    numbers: tuple[Place, ...]

    def findings(self, folder: Path) -> Iterator[str]:
        """What does not hold: words that the document has not, numbers that their tables print otherwise."""
        words = BRACED.findall(self.says)
        if len(words) != len(self.numbers):
            yield f"{len(words)} numbers in braces, and {len(self.numbers)} places"
            return
        try:
            text = (folder / self.document).read_text(encoding="utf-8")
        except OSError as error:
            yield f"{self.document} cannot be read: {error.strerror}"
            return
        if _joined(BRACED.sub(r"\1", self.says)) not in _joined(text):
            yield f"{self.document} does not say so"
        for word, place in zip(words, self.numbers, strict=True):
            try:
                value = _printed(place, folder)
            except DataError as error:
                yield str(error)
                continue
            shown = numbers(word)
            if len(shown) != 1 or not NUMBER.fullmatch(word):
                yield f"{{{word}}} is no number"
            elif not holds(shown[0], (value, None)):
                yield f"says {word}, {place.document} prints {value:g} ({', '.join(place.where.values())}; {place.column})"


def _printed(place: Place, folder: Path) -> float:
    """The number. Errors: DataError where the document has no such table, row, column or number."""
    table = table_after(folder / place.document, place.after)
    keys = {position(table.head, title, place.document): text for title, text in place.where.items()}
    rows = [row for row in table.body if all(row[key] == text for key, text in keys.items())]
    if len(rows) != 1:
        raise DataError(f"{place.document} has {len(rows)} rows with {', '.join(place.where.values())}")
    found = numbers(rows[0][position(table.head, place.column, place.document)])
    if place.number >= len(found):
        raise DataError(f"{place.document} prints {len(found)} numbers for {', '.join(place.where.values())} under {place.column}")
    return found[place.number][0]


def _joined(text: str) -> str:
    """Words with one space between them."""
    return " ".join(text.split())
