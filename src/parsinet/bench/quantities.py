"""Numbers out of stored records: entries that fit a description, one number of each, and what is made of them."""

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import mean, median, pstdev, stdev
from typing import Annotated, Any

from pydantic import Field

from parsinet.bench.curves import at_size
from parsinet.errors import DataError, UsageError, suggest
from parsinet.training.recipe_parts import Part

Entry = Mapping[str, Any]
GIVEN = {"mean": mean, "min": min, "max": max, "median": median, "count": len, "pstdev": pstdev}
"""What is made of the numbers of all fitting entries; `stdev` (n − 1) is 0 for one number."""


class Quantity(Part):
    """What a printed cell shows, number by number.

    number: where it stands in an entry, a dotted path or a list of keys. over: what it is divided by, in the same entry.
    relative: divided by the mean of the records the row is set against. times: a factor. at: {field: size}, for the number at that
    size between the neighbouring curves' means; curve: the field that tells the points of a curve apart. where: further description.
    give: which summaries, in the order of the printed numbers. source, tolerance: instead of the claim's.
    """

    number: str | tuple[str, ...] | None = None
    over: str | tuple[str, ...] | None = None
    relative: bool = False
    times: float = 1.0
    at: dict[str, float] | None = None
    curve: str = "strength"
    where: dict[str, Any] = Field(default_factory=dict)
    give: Annotated[tuple[str, ...], Field(min_length=1)] = ("mean",)
    source: str | None = None
    tolerance: float | None = None


def entries(folder: Path, source: str, key: str | None) -> list[Entry]:
    """All entries of the files a pattern names, below `folder`. key: where a JSON file holds them; a mapping gives its values, each with
    its own key as `key`. JSON lines are entries themselves; each entry knows its file's name as `file`.

    Errors: DataError if no file fits, or one holds no such entries.
    """
    paths = sorted(folder.glob(source))
    if not paths:
        raise DataError(f"No record fits {source} below the claims file. Check the claim's source.")
    return [{"file": path.name, **entry} for path in paths for entry in _read(path, key)]


def _read(path: Path, key: str | None) -> list[Entry]:
    try:
        text = path.read_text(encoding="utf-8")
        if path.suffix == ".jsonl":
            return [json.loads(line) for line in text.splitlines() if line.strip()]
        found = json.loads(text)
        found = found if key is None else found[key]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{path.name}: no entries can be read ({type(error).__name__}: {error}).") from None
    if isinstance(found, Mapping):
        inner = list(found.items())
        return [{"key": name, **value} for name, value in inner] if all(isinstance(value, Mapping) for _, value in inner) else [found]
    return list(found)


def fits(entry: Entry, description: Mapping[str, Any]) -> bool:
    """Whether an entry has all these values; numbers may differ by a part in 10,000, as printed ones do."""
    return all(_same(value_at(entry, path, missing=None), wanted) for path, wanted in description.items())


def _same(found: Any, wanted: Any) -> bool:
    if isinstance(found, bool) or isinstance(wanted, bool) or isinstance(found, str) or found is None:
        return bool(found == wanted)
    try:
        return math.isclose(float(found), float(wanted), rel_tol=1e-4)
    except (TypeError, ValueError):
        return bool(found == wanted)


def value_at(entry: Any, path: str | Sequence[str], missing: Any = ...) -> Any:
    """What stands at a path; places in lists are numbers. Errors: DataError if nothing does, unless `missing` says what then."""
    value = entry
    for key in path.split(".") if isinstance(path, str) else path:
        try:
            value = value[int(key)] if isinstance(value, list) else value[key]
        except (KeyError, IndexError, TypeError, ValueError):
            if missing is ...:
                raise DataError(f"An entry has no {path!r}; it has {', '.join(map(str, entry))}.") from None
            return missing
    return value


def computed(quantity: Quantity, found: Sequence[Entry], path: Sequence[str], divisors: Sequence[Entry]) -> list[float]:
    """The numbers of a cell from the entries that fit. path: keys the row adds behind `number`. divisors: what they are set against.

    Errors: DataError if nothing fits or a size lies outside of the curve; UsageError for an unknown summary.
    """
    if not found:
        raise DataError("no entry fits")
    unknown = [name for name in quantity.give if name not in (*GIVEN, "stdev")]
    if unknown:
        raise UsageError(f"There is no summary {unknown[0]!r}.{suggest(unknown[0], (*GIVEN, 'stdev'))}")
    if quantity.give == ("count",):
        return [float(len(found))]
    if quantity.at is not None:
        return [quantity.times * _between(quantity, found, path)]
    numbers = [quantity.times * float(value_at(entry, _path(quantity.number, path))) for entry in found]
    if divisors:
        below = mean(float(value_at(entry, _path(quantity.number, path))) for entry in divisors)
        numbers = [number / below for number in numbers]
    elif quantity.over is not None:
        numbers = [number / float(value_at(entry, quantity.over)) for number, entry in zip(numbers, found, strict=True)]
    return [_summary(name, numbers) for name in quantity.give]


def _summary(name: str, numbers: Sequence[float]) -> float:
    if name == "stdev":
        return stdev(numbers) if len(numbers) > 1 else 0.0
    return float(GIVEN[name](numbers))  # type: ignore[operator]


def _path(number: str | Sequence[str] | None, further: Sequence[str]) -> list[str]:
    first = [] if number is None else number.split(".") if isinstance(number, str) else list(number)
    return [*first, *further]


def _between(quantity: Quantity, found: Sequence[Entry], path: Sequence[str]) -> float:
    """Between the means of neighbouring points of the curve, on straight lines of log number over log size."""
    assert quantity.at is not None
    ((field, size),) = quantity.at.items()
    points = []
    for name in dict.fromkeys(str(value_at(entry, quantity.curve)) for entry in found):
        same = [entry for entry in found if str(value_at(entry, quantity.curve)) == name]
        x = mean(float(value_at(entry, field)) for entry in same)
        points.append((x, mean(float(value_at(entry, _path(quantity.number, path))) for entry in same)))
    level = at_size(points, size)
    if level is None:
        raise DataError(f"{field} {size:,.0f} lies outside of the curve")
    return level
