"""Claims checked against their records and against the documents that print them."""

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path

from parsinet.bench.cells import expected, rows, selector
from parsinet.bench.claims import Claim
from parsinet.bench.coverage import tables
from parsinet.bench.documents import holds, numbers, read, table_after
from parsinet.bench.page import PAGE, text
from parsinet.bench.reading import load_claims
from parsinet.bench.running import stored as records
from parsinet.bench.sentences import unclaimed
from parsinet.bench.suite import load
from parsinet.errors import DataError, RunError, UsageError


@dataclass(frozen=True)
class Finding:
    """Something that does not hold."""

    claim: str
    place: str
    reason: str

    def __str__(self) -> str:
        return f"{self.claim}: {self.place}: {self.reason}"


def check(path: Path) -> str:
    """What holds, where every claim of a file does; else RunError that names each which does not, and each number without a claim."""
    stored, folder = load_claims(path), path.parent
    found = [finding for claim in stored.claims for finding in findings(claim, folder)]
    for page in stored.pages.values():
        found += [Finding(page.document, words, reason) for words, reason in page.findings(folder)]
    cells = defaultdict[Path, list[tuple[int, int]]](list)
    for table in tables(stored.claims, folder):
        cells[table.path] += table.places()
        for column, reason in table.uncovered():
            found.append(Finding(table.document, f"the table of {table.claims[0].after!r}, column {column!r}", reason))
    for document, words, reason in unclaimed(stored.pages.values(), stored.prose, cells, folder):
        found.append(Finding(document.relative_to(folder).as_posix(), words, reason))
    found += [finding for suite, out in stored.reports.items() for finding in _against_report(suite, out)]
    count = sum(len(row) for claim in stored.claims for row in claim.cells.values())
    told = f"{sum(page.count for page in stored.pages.values()):,} numbers of running text"
    if found:
        listed = "\n".join(f"  {finding}" for finding in found)
        raise RunError(f"{len(found)} of {count:,} claimed cells and {told} do not hold, or have no claim:\n{listed}")
    more = f" So do {told} in the tables and records that they repeat." if stored.pages else ""
    if stored.reports:
        more += f" {len(stored.reports)} pages of suites are what their records make."
    return f"All {count:,} claimed cells of {len(stored.claims)} tables hold in the records, and stand so in the documents.{more}"


def _against_report(suite: str, out: Path) -> Iterator[Finding]:
    """Whether the page of a suite is what its records make."""
    try:
        lines = read(out / PAGE).splitlines()
    except DataError as error:
        yield Finding(out.name, PAGE, str(error))
        return
    made = text(load(suite), records(out)).splitlines()
    for number, (old, new) in enumerate(zip_longest(lines, made), start=1):
        if old != new:
            yield Finding(f"{out.name}/{PAGE}", f"line {number}", f"the records make it {new!r}, it is {old!r}")
            return


def findings(claim: Claim, folder: Path) -> Iterator[Finding]:
    """What does not hold: in the records first, then in the documents."""
    select = selector(claim, folder)
    for row, cells in claim.cells.items():
        for column, printed in cells.items():
            place = f"{row}, {column}"
            try:
                reason = _against_records(printed, expected(claim, row, column, select))
            except (DataError, UsageError) as error:
                reason = str(error) if numbers(printed) else ""
            if reason:
                yield Finding(claim.claim, place, reason)
    for document in claim.documents:
        yield from _against_document(claim, folder / document)


def _against_records(printed: str, wanted: Sequence[tuple[float, float | None]]) -> str:
    """Why a cell does not hold, "" if it does. It may leave out ends of a range that is one number, and a spread of 0."""
    shown = numbers(printed)
    if wanted and len(shown) > len(wanted):
        return f"prints {printed!r}, more numbers than the {len(wanted)} that the claim explains"
    for number, value in zip(shown, wanted, strict=False):
        if not holds(number, value):
            return f"prints {number[0]:g} in {printed!r}, the records say {value[0]:.6g}"
    left = [value for value in wanted[len(shown) :] if shown and value[0] and not holds(shown[-1], value)]
    return f"prints {printed!r}, the records say {left[0][0]:.6g} as well" if left else ""


def _against_document(claim: Claim, path: Path) -> Iterator[Finding]:
    """Cells that a document prints otherwise, and rows of it that nothing is claimed of."""
    try:
        printed = rows(claim, table_after(path, claim.after), path.name)
    except DataError as error:
        yield Finding(claim.claim, path.name, str(error))
        return
    known = dict(printed)
    for row, cells in claim.cells.items():
        for column, cell in cells.items():
            if row not in known:
                yield Finding(claim.claim, f"{row}, {column}", f"{path.name} has no such row")
            elif known[row][column] != cell:
                yield Finding(claim.claim, f"{row}, {column}", f"{path.name} prints {known[row][column]!r}, the claim is {cell!r}")
    for row, count in Counter(row for row, _ in printed).items():
        if count > 1 and row in claim.cells:
            yield Finding(claim.claim, row, f"{path.name} prints {count} such rows")
        if row not in claim.cells and not claim.partial:
            yield Finding(claim.claim, row, f"{path.name} prints a row without a claim")
