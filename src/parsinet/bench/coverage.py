"""Tables that claims are about: which of their cells a claim holds, and columns with numbers of which none does."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from parsinet.bench.cells import rows
from parsinet.bench.claims import Claim
from parsinet.bench.documents import Table, cell_places, numbers, read, table_at, table_lines
from parsinet.errors import DataError


@dataclass(frozen=True)
class About:
    """A table with the claims about it. document: relative to the claims file, as the first claim has it; path: the same, resolved."""

    document: str
    path: Path
    text: str
    lines: range
    claims: list[Claim]

    @cached_property
    def table(self) -> Table:
        """What is printed."""
        return table_at(self.text.splitlines(), self.lines)

    @cached_property
    def held(self) -> list[set[str]]:
        """Per row, titles of the columns of which a claim holds the cell: it names the row, or the claim lists it."""
        found = [set[str]() for _ in self.table.body]
        for claim in self.claims:
            for titles, (name, _) in zip(found, rows(claim, self.table, self.document), strict=True):
                titles.update(claim.match, claim.cells.get(name, ()))
        return found

    @cached_property
    def others(self) -> set[str]:
        """Titles of the columns of which a claim says that the numbers are none of ours, and of which none lists a cell."""
        empty = {title for claim in self.claims for title, quantities in claim.columns.items() if not quantities}
        return empty.difference(*(cells for claim in self.claims for cells in claim.cells.values()))

    def places(self) -> Iterator[tuple[int, int]]:
        """Where the cells stand in the document that are no running text: all but those of `others`."""
        for places in cell_places(self.text, self.lines[2:]):
            yield from (place for title, place in zip(self.table.head, places, strict=False) if title not in self.others)

    def uncovered(self) -> Iterator[tuple[str, str]]:
        """Columns with numbers that no claim holds, and why."""
        named = {title for claim in self.claims for title in claim.columns}
        for column, title in enumerate(self.table.head):
            cells = [(row[column], title in titles) for row, titles in zip(self.table.body, self.held, strict=True) if numbers(row[column])]
            left = [cell for cell, is_held in cells if not is_held]
            if left and title not in self.others:
                why = "no claim about the table lists them" if title in named else "no claim about the table names it"
                yield title, f"{why}: {len(left)} of {len(cells)} cells with numbers, such as {left[0]!r}"


def tables(claims: Sequence[Claim], folder: Path) -> list[About]:
    """The tables of all claims. One that is not there, or lacks columns, is left out: what does not hold of its claim names it."""
    found: dict[tuple[Path, range], About] = {}
    for claim in claims:
        for document in claim.documents:
            path = (folder / document).resolve()
            try:
                text = read(path)
                lines = table_lines(text.splitlines(), claim.after, path.name)
                rows(claim, table_at(text.splitlines(), lines), path.name)
            except DataError:
                continue
            found.setdefault((path, lines), About(document, path, text, lines, [])).claims.append(claim)
    return list(found.values())
