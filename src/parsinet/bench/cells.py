"""Cells of a claim: what they should show by its records, and what a document prints in them."""

import json
import re
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

from parsinet.bench.claims import Claim
from parsinet.bench.documents import Read, Table, position, read, table_after
from parsinet.bench.quantities import Entry, Quantity, computed, entries, fits
from parsinet.errors import DataError

Select = Callable[[str, str], list[Entry]]
"""From a source and a description as JSON to the entries that fit."""
Picked = tuple[str, str]
"""A source and a description as JSON."""
COUNT = re.compile(r"\d{1,3}(,\d{3})+")


def selector(claim: Claim, folder: Path) -> Select:
    """Picks entries of a claim's records, each file read once."""
    known = cache(lambda source: entries(folder, source, claim.entries))

    @cache
    def select(source: str, description: str) -> list[Entry]:
        wanted = json.loads(description)
        return [entry for entry in known(source) if fits(entry, wanted)]

    return select


def expected(claim: Claim, row: str, column: str, select: Select) -> list[tuple[float, float | None]]:
    """The numbers a cell should show, each with how far off it may be (None: half a unit of the last digit printed). A row that is set
    against nothing has no relative ones.

    Errors: DataError where the records do not hold them.
    """
    found: list[tuple[float, float | None]] = []
    for quantity in claim.columns[column]:
        picked, against, path = _picked(claim, row, quantity)
        if quantity.relative and against is None:
            continue
        fitting = select(*picked)
        if not fitting and not (quantity.where and select(*_picked(claim, row, quantity.model_copy(update={"where": {}}))[0])):
            raise DataError("no entry fits")
        divisors = select(*against) if against is not None and quantity.relative else []
        tolerance = claim.tolerance if quantity.tolerance is None else quantity.tolerance
        found += [(value, tolerance) for value in computed(quantity, fitting, path, divisors)]
    return found


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


def rows(claim: Claim, table: Table, document: str) -> list[tuple[str, dict[str, str]]]:
    """Rows of a table, named as in the claim, each with the cells of its columns. Errors: DataError where the table has no such column."""
    keys = [position(table.head, title, document) for title in claim.match]
    places = {column: position(table.head, column, document) for column in claim.columns}
    return [(" | ".join(row[key] for key in keys), {column: row[place] for column, place in places.items()}) for row in table.body]


def drafted(claim: Claim, folder: Path, read: Read = read) -> dict[str, dict[str, str]]:
    """The cells a claim would have if its first document were right, to write a claims file from."""
    document = folder / claim.documents[0]
    return dict(rows(claim, table_after(document, claim.after, read), document.name))
