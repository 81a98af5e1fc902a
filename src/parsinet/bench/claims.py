"""Claims: printed numbers with the records they come from, checked against these records and against the documents that print them."""

import json
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import zip_longest
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import Field, ValidationError, model_validator

from parsinet.bench.documents import Read, Table, holds, numbers, position, read, table_after
from parsinet.bench.page import PAGE, text
from parsinet.bench.quantities import Entry, Quantity, computed, entries, fits, matching
from parsinet.bench.running import stored as records
from parsinet.bench.sentences import Page, unclaimed
from parsinet.bench.suite import load
from parsinet.errors import DataError, RunError, StorageError, UsageError
from parsinet.training.recipe_parts import Part

Kind = TypeVar("Kind", bound=Part)
Match = str | dict[str, dict[str, Any]]
Select = Callable[[str, str], list[Entry]]
"""From a source and a description as JSON to the entries that fit."""
Picked = tuple[str, str]
"""A source and a description as JSON."""
COUNT = re.compile(r"\d{1,3}(,\d{3})+")


class Claim(Part):
    """A table of numbers.

    claim: what is said. provenance: where the numbers come from: measured here, derived, or printed by whom. source, entries, where: the
    records, relative to the claims file (`quantities.entries`). against: what the entries have that all rows are set against. match:
    column title → how its cells pick a row's entries: the field that has their value, or per cell text the description to fit, in which
    `source` names records, `against` names records or describes other entries of the same ones, and `path` is a key, or several, that
    leads to the number. columns: column title → the quantities its cells show, none where the number is not ours. cells: rows as printed,
    by the text of their matched cells joined with ` | `; a cell without a number claims nothing. tolerance: how far a record may be off,
    without it half a unit of the last digit printed. documents: where the table is printed, relative to the claims file; after: words in
    a line before it or in it. partial: it prints further rows, of which nothing is claimed.
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


class _Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]
    """A key that stands twice in a mapping is refused; YAML would take the last one without a word."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        names = [key.value for key, _ in node.value]
        for place, (key, _) in enumerate(node.value):
            if key.value in names[:place]:
                raise yaml.constructor.ConstructorError(problem=f"{key.value!r} stands twice", problem_mark=key.start_mark)
        return super().construct_mapping(node, deep)  # type: ignore[no-any-return]


@dataclass(frozen=True)
class Finding:
    """Something that does not hold."""

    claim: str
    place: str
    reason: str

    def __str__(self) -> str:
        return f"{self.claim}: {self.place}: {self.reason}"


@dataclass(frozen=True)
class Stored:
    """A claims file. pages: the sentences with numbers, by the file they stand in. prose: documents of which every number of running text
    that looks measured has to stand in a sentence. reports: suite → folder with its records and the page that is made of them."""

    claims: list[Claim]
    pages: dict[Path, Page]
    prose: list[Path]
    reports: dict[str, Path]


def load_claims(path: Path) -> Stored:
    """The claims of a YAML file, with the sentences of the files that it names.

    Errors: UsageError for what cannot be used, StorageError for a file that cannot be read.
    """
    values = _loaded(path)
    if not isinstance(values, dict) or not isinstance(values.get("claims"), list):
        raise UsageError(f"{path} is no file of claims: it must be YAML with a list under `claims`.")
    told = _valid(File, values, path)
    reports = {suite: path.parent / folder for suite, folder in told.reports.items()}
    pages = {file: _valid(Page, _loaded(file), file) for file in _named(path.parent, told.sentences)}
    return Stored(list(told.claims), pages, _named(path.parent, told.prose), reports)


def _named(folder: Path, patterns: Sequence[str]) -> list[Path]:
    """The files that patterns name. Errors: UsageError for a pattern that names none."""
    found = {pattern: matching(folder, pattern) for pattern in patterns}
    for pattern, paths in found.items():
        if not paths:
            raise UsageError(f"No file fits {pattern}, which the claims file names.")
    return [path for paths in found.values() for path in paths]


def _loaded(path: Path) -> Any:
    try:
        return yaml.load(path.read_text(encoding="utf-8"), _Loader)
    except OSError as error:
        raise StorageError(f"Cannot read the claims {path}: {error.strerror}. Name the file with --claims.") from None
    except yaml.MarkedYAMLError as error:
        place = "" if error.problem_mark is None else f" in line {error.problem_mark.line + 1}"
        raise UsageError(f"{path} is no file of claims: {error.problem}{place}; it must be YAML.") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UsageError(f"{path} is no file of claims ({type(error).__name__}): it must be YAML.") from None


def _valid(kind: type[Kind], values: Any, path: Path) -> Kind:
    try:
        return kind.model_validate(values)
    except ValidationError as error:
        finding = error.errors(include_url=False)[0]
        told = [path.name, ".".join(map(str, finding["loc"])), finding["msg"]]
        got = "" if finding["type"] == "value_error" else f", got {finding['input']!r}"
        raise UsageError(f"{': '.join(filter(None, told))}{got}.") from None


def check(path: Path) -> str:
    """What holds, where every claim of a file does; else RunError that names each which does not, and each number without a claim."""
    stored, folder = load_claims(path), path.parent
    found = [finding for claim in stored.claims for finding in findings(claim, folder)]
    for page in stored.pages.values():
        found += [Finding(page.document, words, reason) for words, reason in page.findings(folder)]
    tables = [(document, claim.after) for claim in stored.claims for document in claim.documents]
    for document, words, reason in unclaimed(stored.pages.values(), stored.prose, tables, folder):
        found.append(Finding(document.relative_to(folder).as_posix(), words, reason))
    found += [finding for suite, out in stored.reports.items() for finding in _against_report(suite, out)]
    cells = sum(len(row) for claim in stored.claims for row in claim.cells.values())
    told = f"{sum(page.count for page in stored.pages.values()):,} numbers of running text"
    if found:
        listed = "\n".join(f"  {finding}" for finding in found)
        raise RunError(f"{len(found)} of {cells:,} claimed cells and {told} do not hold, or have no claim:\n{listed}")
    more = f" So do {told} in the tables and records that they repeat." if stored.pages else ""
    if stored.reports:
        more += f" {len(stored.reports)} pages of suites are what their records make."
    return f"All {cells:,} claimed cells of {len(stored.claims)} tables hold in the records, and stand so in the documents.{more}"


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


def selector(claim: Claim, folder: Path) -> Select:
    """Picks entries of a claim's records, each file read once."""
    known = cache(lambda source: entries(folder, source, claim.entries))
    return cache(lambda source, description: [entry for entry in known(source) if fits(entry, json.loads(description))])


def expected(claim: Claim, row: str, column: str, select: Select) -> list[tuple[float, float | None]]:
    """The numbers a cell should show, each with how far off it may be (None: half a unit of the last digit printed).

    Errors: DataError where the records do not hold them.
    """
    found: list[tuple[float, float | None]] = []
    for quantity in claim.columns[column]:
        picked, against, path = _picked(claim, row, quantity)
        fitting = select(*picked)
        divisors = select(*against) if against and quantity.relative else []
        tolerance = claim.tolerance if quantity.tolerance is None else quantity.tolerance
        found += [(value, tolerance) for value in computed(quantity, fitting, path, divisors)]
    return found


def _against_records(printed: str, wanted: Sequence[tuple[float, float | None]]) -> str:
    """Why a cell does not hold, "" if it does."""
    shown = numbers(printed)
    if wanted and len(shown) > len(wanted):
        return f"prints {printed!r}, more numbers than the {len(wanted)} that the claim explains"
    for number, value in zip(shown, wanted, strict=False):
        if not holds(number, value):
            return f"prints {number[0]:g} in {printed!r}, the records say {value[0]:.6g}"
    return ""


def _picked(claim: Claim, row: str, quantity: Quantity) -> tuple[Picked, Picked | None, list[str]]:
    """A row's entries, the entries they are set against, and which keys lead to their number."""
    description, source, path = {**claim.where, **quantity.where}, quantity.source or claim.source, list[str]()
    against: str | dict[str, Any] | None = claim.against
    for word, match in zip(row.split(" | "), claim.match.values(), strict=True):
        if isinstance(match, str):
            description[match] = word.replace(",", "") if COUNT.fullmatch(word) else word
            continue
        if word not in match:
            raise DataError(f"match does not say which entries {word!r} has")
        told = dict(match[word])
        source, against, keys = told.pop("source", source), told.pop("against", against), told.pop("path", [])
        path += keys if isinstance(keys, list) else [keys]
        description |= told
    if isinstance(against, str):
        return (source, json.dumps(description)), (against, json.dumps(claim.where)), path
    return (source, json.dumps(description)), None if against is None else (source, json.dumps({**claim.where, **against})), path


def _against_document(claim: Claim, path: Path) -> Iterator[Finding]:
    """Cells that a document prints otherwise, and rows of it that nothing is claimed of."""
    try:
        table = table_after(path, claim.after)
        printed = _rows(claim, table, path.name)
    except DataError as error:
        yield Finding(claim.claim, path.name, str(error))
        return
    for row, cells in claim.cells.items():
        for column, cell in cells.items():
            if row not in printed:
                yield Finding(claim.claim, f"{row}, {column}", f"{path.name} has no such row")
            elif printed[row][column] != cell:
                yield Finding(claim.claim, f"{row}, {column}", f"{path.name} prints {printed[row][column]!r}, the claim is {cell!r}")
    for row, count in Counter(" | ".join(row[key] for key in _keys(claim, table, path.name)) for row in table.body).items():
        if count > 1 and row in claim.cells:
            yield Finding(claim.claim, row, f"{path.name} prints {count} such rows")
    for row in printed:
        if row not in claim.cells and not claim.partial:
            yield Finding(claim.claim, row, f"{path.name} prints a row without a claim")


def _rows(claim: Claim, table: Table, document: str) -> Mapping[str, dict[str, str]]:
    keys = _keys(claim, table, document)
    places = {column: position(table.head, column, document) for column in claim.columns}
    return {" | ".join(row[key] for key in keys): {column: row[place] for column, place in places.items()} for row in table.body}


def _keys(claim: Claim, table: Table, document: str) -> list[int]:
    """Where the columns stand that name a row."""
    return [position(table.head, title, document) for title in claim.match]


def drafted(claim: Claim, folder: Path, read: Read = read) -> dict[str, dict[str, str]]:
    """The cells a claim would have if its first document were right, to write a claims file from."""
    document = folder / claim.documents[0]
    return dict(_rows(claim, table_after(document, claim.after, read), document.name))
