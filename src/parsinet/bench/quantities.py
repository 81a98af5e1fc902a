"""Numbers out of stored records: entries that fit a description, one number of each, and what is made of them."""

import json
import math
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from statistics import mean, median, pstdev, stdev
from typing import Annotated, Any

from pydantic import Field

from parsinet.bench.curves import at_size
from parsinet.errors import DataError, UsageError, suggest
from parsinet.training.recipe_parts import Part

Entry = Mapping[str, Any]


def _stdev(numbers: Sequence[float]) -> float:
    return stdev(numbers) if len(numbers) > 1 else 0.0


GIVEN: dict[str, Callable[[Sequence[float]], float]] = {
    "mean": mean,
    "min": min,
    "max": max,
    "median": median,
    "count": len,
    "pstdev": pstdev,
    "stdev": _stdev,
    "variation": lambda numbers: 100 * _stdev(numbers) / mean(numbers),
}
"""What is made of the numbers of all fitting entries. `stdev` (n − 1) is 0 for one number; `variation` is it in per cent of the mean."""
EACH = "each"
"""All numbers one by one, in the order of the records."""


class Quantity(Part):
    """What a printed cell shows, number by number.

    number: where it stands in an entry, a dotted path or a list of keys; `*` among them is where the keys that a row adds go, else they
    go behind; a row that adds none takes all that stands at `*`, one after the other. A list or a mapping that stands there gives all of
    its numbers; counted: how many things it holds, instead. minus, over: what is taken from it, then what it is divided by, in the same
    entry. relative: divided by the mean of the records the row is set against; pair: only of those that have the same there, such as the
    same seed. times: a factor. at: {field: size}, for the number at that size between the neighbouring curves' means; curve: the field
    that tells the points of a curve apart. where: further description. give: which summaries, in the order of the printed numbers, `each`
    for all numbers one by one. source, tolerance: instead of the claim's.
    """

    number: str | tuple[str, ...] | None = None
    counted: bool = False
    minus: str | tuple[str, ...] | None = None
    over: str | tuple[str, ...] | None = None
    relative: bool = False
    pair: str | None = None
    times: float = 1.0
    at: Annotated[dict[str, float], Field(min_length=1, max_length=1)] | None = None
    curve: str = "strength"
    where: dict[str, Any] = Field(default_factory=dict)
    give: Annotated[tuple[str, ...], Field(min_length=1)] = ("mean",)
    source: str | None = None
    tolerance: float | None = None


def entries(folder: Path, source: str, key: str | None) -> list[Entry]:
    """All entries of the files a pattern names, below `folder`. key: where a JSON file holds them; a mapping gives its values, or what
    lists as its values hold, each with its own key as `key`. JSON lines are entries themselves; where the first is the event `start` of a
    run, each has it as `start`. Each entry knows its file's name as `file`.

    Errors: DataError if no file fits, or one holds no such entries.
    """
    paths = matching(folder, source)
    if not paths:
        raise DataError(f"No record fits {source} below the claims file. Check the claim's source.")
    return [{"file": path.name, **entry} for path in paths for entry in _read(path, key)]


def matching(folder: Path, pattern: str) -> list[Path]:
    """The paths that a pattern names below a folder; none for what is no such pattern."""
    try:
        return sorted(folder.glob(pattern))
    except (ValueError, NotImplementedError):
        return []


def _read(path: Path, key: str | None) -> list[Entry]:
    try:
        found = _parsed(path.read_text(encoding="utf-8"), path.suffix == ".jsonl")
        found = found if key is None or path.suffix == ".jsonl" else found[key]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{path.name}: no entries can be read ({type(error).__name__}: {error}).") from None
    found = _listed(found) if isinstance(found, Mapping) else found
    if not isinstance(found, list) or not all(isinstance(entry, Mapping) for entry in found):
        raise DataError(f"{path.name}: entries are mappings, or a list of them; name the key under which they stand as entries.")
    return found


@lru_cache(maxsize=256)
def _parsed(text: str, lines: bool) -> Any:
    """A file of JSON, or of JSON lines; many claims ask for the same one, and nobody changes what is in it."""
    return _with_start([json.loads(line) for line in text.splitlines() if line.strip()]) if lines else json.loads(text)


def _with_start(events: list[Any]) -> list[Any]:
    first = events[0] if events else None
    if not isinstance(first, Mapping) or first.get("event") != "start":
        return events
    return [{"start": first, **event} if isinstance(event, Mapping) else event for event in events]


def _listed(found: Mapping[str, Any]) -> list[Entry]:
    """The values of a mapping, or what lists as its values hold, if these are entries; else the mapping is one itself."""
    inner = [(name, each) for name, value in found.items() for each in (value if isinstance(value, list) else [value])]
    return [{"key": name, **each} for name, each in inner] if all(isinstance(each, Mapping) for _, each in inner) else [found]


def fits(entry: Entry, description: Mapping[str, Any]) -> bool:
    """Whether an entry has all these values, or one of those listed; numbers may differ by a part in 10,000, as printed ones do."""
    return all(_same(value_at(entry, path, missing=None), wanted) for path, wanted in description.items())


def _same(found: Any, wanted: Any) -> bool:
    if isinstance(wanted, list) and not isinstance(found, list):
        return any(_same(found, each) for each in wanted)
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
    """The numbers of a cell from the entries that fit. path: keys the row adds to `number`. divisors: what they are set against.

    Errors: DataError if nothing fits (but a count is 0 then), no finite number stands there or a size lies outside of the curve; UsageError
    for an unknown summary.
    """
    unknown = [name for name in quantity.give if name not in (*GIVEN, EACH)]
    if unknown:
        raise UsageError(f"There is no summary {unknown[0]!r}.{suggest(unknown[0], (*GIVEN, EACH))}")
    if quantity.give == ("count",):
        return [float(len(found))]
    if not found:
        raise DataError("no entry fits")
    try:
        numbers = [quantity.times * _between(quantity, found, path)] if quantity.at else _each(quantity, found, path, divisors)
        given = numbers if quantity.at else [each for name in quantity.give for each in _given(name, numbers)]
    except ZeroDivisionError:
        raise DataError(f"{quantity.number} is divided by 0") from None
    if not all(map(math.isfinite, (*numbers, *given))):
        raise DataError(f"the entries have a number at {quantity.number} that is not finite")
    return given


def _given(name: str, numbers: Sequence[float]) -> list[float]:
    return list(numbers) if name == EACH else [float(GIVEN[name](numbers))]


def _each(quantity: Quantity, found: Sequence[Entry], path: Sequence[str], divisors: Sequence[Entry]) -> list[float]:
    """The numbers of all entries."""
    numbers = [
        quantity.times * number / below
        for entry in found
        for below in [_below(quantity, entry, path, divisors)]
        for number in _numbers(quantity, entry, path)
    ]
    if not numbers:
        raise DataError(f"the entries have no number at {quantity.number}")
    return numbers


def _below(quantity: Quantity, entry: Entry, path: Sequence[str], divisors: Sequence[Entry]) -> float:
    """What an entry is set against; 1 for nothing."""
    if not divisors:
        return 1.0
    if quantity.pair is not None:
        divisors = [each for each in divisors if _same(value_at(each, quantity.pair), value_at(entry, quantity.pair))]
    found = [number for each in divisors for number in _numbers(quantity, each, path)]
    if not found:
        raise DataError(f"nothing with the same {quantity.pair} to set an entry against")
    return mean(found)


def _numbers(quantity: Quantity, entry: Entry, path: Sequence[str]) -> list[float]:
    """What one entry has at a quantity's place, less and over what it says."""
    found = _standing(entry, _path(quantity.number, path))
    if quantity.counted and not isinstance(found, list | Mapping):
        raise DataError(f"an entry has nothing to count at {quantity.number}: {found!r}")
    held = list(found.values()) if isinstance(found, Mapping) else found if isinstance(found, list) else [found]
    numbers = [float(len(held))] if quantity.counted else [_number(number, quantity.number) for number in held]
    less = 0.0 if quantity.minus is None else _number(value_at(entry, quantity.minus), quantity.minus)
    below = 1.0 if quantity.over is None else _number(value_at(entry, quantity.over), quantity.over)
    return [(number - less) / below for number in numbers]


def _standing(entry: Entry, keys: Sequence[str]) -> Any:
    """What stands at a path, for `*` a list of all that stand there."""
    if "*" not in keys:
        return value_at(entry, keys)
    place = keys.index("*")
    held = value_at(entry, keys[:place])
    if not isinstance(held, list | Mapping):
        raise DataError(f"an entry holds no several things at {'.'.join(keys[:place])}: {held!r}")
    return [value_at(each, keys[place + 1 :]) for each in (held.values() if isinstance(held, Mapping) else held)]


def _number(found: Any, place: Any) -> float:
    try:
        return float(found)
    except (TypeError, ValueError):
        raise DataError(f"an entry has no number at {place}: {found!r}") from None


def _path(number: str | Sequence[str] | None, further: Sequence[str]) -> list[str]:
    keys = [] if number is None else number.split(".") if isinstance(number, str) else list(number)
    if "*" not in keys:
        return [*keys, *further]
    place = keys.index("*")
    return [*keys[:place], *further, *keys[place + 1 :]] if further else keys


def _between(quantity: Quantity, found: Sequence[Entry], path: Sequence[str]) -> float:
    """Between the means of neighbouring points of the curve, on straight lines of log number over log size."""
    assert quantity.at is not None
    ((field, size),) = quantity.at.items()
    points = []
    for name in dict.fromkeys(str(value_at(entry, quantity.curve)) for entry in found):
        same = [entry for entry in found if str(value_at(entry, quantity.curve)) == name]
        x = mean(_number(value_at(entry, field), field) for entry in same)
        y = mean(_number(value_at(entry, _path(quantity.number, path)), quantity.number) for entry in same)
        points.append((x, y))
    if min(size, *(x for x, _ in points)) <= 0:
        raise DataError(f"{field} must be above 0 on a curve")
    level = at_size(points, size)
    if level is None:
        raise DataError(f"{field} {size:,.0f} lies outside of the curve")
    return level
