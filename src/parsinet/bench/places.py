"""Where a number of running text comes from: a cell of a printed table, records, or two such numbers."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import Discriminator, Field, Tag, model_validator

from parsinet.bench.documents import Read, numbers, position, read, table_after
from parsinet.bench.quantities import Quantity, computed, entries, fits
from parsinet.errors import DataError
from parsinet.training.recipe_parts import Part


class Printed(Part):
    """A table of a document. document: relative to the claims file. after: words in a line before the table or in it."""

    document: str
    after: str


class Cell(Part):
    """A number that a table prints.

    table: its name among the page's tables. row: texts of neighbouring cells that no other row has, joined with ` | `. column: title.
    number: which of the cell's numbers, from 0.
    """

    table: str
    row: str
    column: str
    number: int = Field(default=0, ge=0)

    def value(self, folder: Path, tables: Mapping[str, Printed], read: Read = read) -> float:
        """Errors: DataError where the document has no such table, row, column or number."""
        if self.table not in tables:
            raise DataError(f"no table is named {self.table!r}; there are {', '.join(tables) or 'none'}")
        document = tables[self.table].document
        table = table_after(folder / document, tables[self.table].after, read)
        rows = [row for row in table.body if f"| {self.row} |" in f"| {' | '.join(row)} |"]
        if len(rows) != 1:
            raise DataError(f"{document} has {len(rows)} rows with {self.row}")
        found = numbers(rows[0][position(table.head, self.column, document)])
        if self.number >= len(found):
            raise DataError(f"{document} prints {len(found)} numbers for {self.row} under {self.column}")
        return found[self.number][0]

    def __str__(self) -> str:
        return f"the table {self.table} ({self.row}; {self.column})"


class Recorded(Part):
    """A number made of records. source, entries, where: as in a claim. number, over, times, give: as in its quantities. between: only
    entries whose number (over the other) lies in there, both ends included, so that `give: count` says how many do."""

    source: str
    entries: str | None = None
    where: dict[str, Any] = Field(default_factory=dict)
    number: str | None = None
    over: str | None = None
    times: float = 1.0
    give: str = "mean"
    between: tuple[float, float] | None = None

    def value(self, folder: Path, tables: Mapping[str, Printed], read: Read = read) -> float:
        """Errors: DataError where the records do not hold it, or hold several."""
        each = Quantity(number=self.number, over=self.over)
        found = [entry for entry in entries(folder, self.source, self.entries) if fits(entry, self.where)]
        if not found:
            raise DataError("no entry fits")
        if self.between is not None:
            low, high = self.between
            found = [entry for entry in found if low <= computed(each, [entry], (), ())[0] <= high]
        given = computed(each.model_copy(update={"times": self.times, "give": (self.give,)}), found, (), ())
        if len(given) != 1:
            raise DataError(f"{self} are {len(given)} numbers; a place in a sentence has one")
        return given[0]

    def __str__(self) -> str:
        return f"{self.give} of {self.number or 'entries'} in {self.source}"


class Worked(Part):
    """A difference, the first less the second, or a ratio, the first over the second, of two numbers; times: a factor."""

    difference: tuple[Where, Where] | None = None
    ratio: tuple[Where, Where] | None = None
    times: float = 1.0

    @model_validator(mode="after")
    def _one(self) -> Worked:
        if (self.difference is None) == (self.ratio is None):
            raise ValueError("needs a difference or a ratio, one of the two")
        return self

    def value(self, folder: Path, tables: Mapping[str, Printed], read: Read = read) -> float:
        """Errors: DataError where one of the two is not there, or the second of a ratio is 0."""
        first, second = (each.value(folder, tables, read) for each in self.difference or self.ratio or ())
        if self.ratio and not second:
            raise DataError(f"{self}: that is divided by 0")
        return self.times * (first - second if self.difference else first / second)

    def __str__(self) -> str:
        word, (first, second) = ("less", self.difference) if self.difference else ("over", self.ratio or ("", ""))
        return f"{first} {word} {second}"


KINDS = {"table": "cell", "source": "records", "difference": "worked", "ratio": "worked"}
"""By the key that only it has."""
MAY_BE = "a cell of a table (`table`, `row`, `column`), made of records (`source`, `number`), or the `difference` or `ratio` of two such"


def kind(place: Any) -> str | None:
    """Which of them a place in a file is meant to be."""
    return next((name for key, name in KINDS.items() if key in place), None) if isinstance(place, Mapping) else None


Where = Annotated[
    Annotated[Cell, Tag("cell")] | Annotated[Recorded, Tag("records")] | Annotated[Worked, Tag("worked")],
    Discriminator(kind, custom_error_type="place", custom_error_message=f"a number is {MAY_BE}"),
]
