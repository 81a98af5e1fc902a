"""Claims: printed numbers with the records they come from, and what stands in a file of them."""

from typing import Any

from pydantic import Field, model_validator

from parsinet.bench.quantities import Quantity
from parsinet.training.recipe_parts import Part

Match = str | dict[str, dict[str, Any]]


class Claim(Part):
    """A table of numbers.

    claim: what is said. provenance: where the numbers come from: measured here, derived, or printed by whom. source, entries, where: the
    records, relative to the claims file (`quantities.entries`). against: what the entries have that all rows are set against. match:
    column title → how its cells pick a row's entries: the field that has their value, or per cell text the description to fit, in which
    `source` names records, `against` names records or describes other entries of the same ones, and `path` is a key, or several, that
    leads to the number. columns: column title → the quantities its cells show, none where the numbers are not ours. cells: rows as printed,
    by the text of their matched cells joined with ` | `; a cell without a number claims nothing. Cells of a column without quantities are
    held against the documents alone; if none are listed, the column is read as running text. tolerance: how far a record may be off,
    without it half a unit of the last digit printed. documents: where the table is printed, relative to the claims file; after: words in
    a line before it or in it. partial: it prints further rows, of which nothing is claimed here.
    """

    claim: str
    provenance: str
    source: str
    entries: str | None = None
    where: dict[str, Any] = Field(default_factory=dict)
    against: dict[str, Any] | None = None
    match: dict[str, Match]
    columns: dict[str, tuple[Quantity, ...]]
    cells: dict[str, dict[str, str]]
    tolerance: float | None = None
    documents: tuple[str, ...] = ()
    after: str = ""
    partial: bool = False

    @model_validator(mode="after")
    def _cells_are_explained(self) -> "Claim":
        for row, cells in self.cells.items():
            if len(row.split(" | ")) != len(self.match):
                raise ValueError(f"the row {row!r} needs as many texts, joined with ` | `, as match has columns: {len(self.match)}")
            if unknown := [column for column in cells if column not in self.columns]:
                raise ValueError(f"the row {row!r} has a cell for {unknown[0]!r}, which is none of the columns")
        return self


class File(Part):
    """What stands in a claims file. sentences, prose: patterns of files. reports: suite → folder with its page."""

    claims: tuple[Claim, ...]
    sentences: tuple[str, ...] = ()
    prose: tuple[str, ...] = ()
    reports: dict[str, str] = Field(default_factory=dict)
