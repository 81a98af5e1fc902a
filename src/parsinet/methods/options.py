"""What a method is given as options: refused where it cannot be used, in the caller's words."""

from __future__ import annotations

import math
import numbers
import operator
from collections.abc import Collection
from typing import TypeGuard

from parsinet.errors import UsageError, suggest

MOST_SEED = 2**63 - 1
"""The largest that generators of torch take."""


def check_number(
    who: str,
    name: str,
    value: float | None,
    meaning: str = "",
    *,
    above: float | None = None,
    least: float | None = None,
    most: float | None = None,
    below: float | None = None,
) -> None:
    """UsageError unless above < value, least ≤ value, value ≤ most and value < below, as far as they are given; None is no value.

    meaning: what the number is, for the error.
    """
    if value is None:
        return
    if not _is_number(value):
        raise UsageError(f"{who}: {name} must be a number, got {value!r}.")
    bounds = ((">", above, operator.gt), ("≥", least, operator.ge), ("≤", most, operator.le), ("<", below, operator.lt))
    given = [(sign, bound, holds) for sign, bound, holds in bounds if bound is not None]
    if all(holds(value, bound) for _, bound, holds in given):
        return
    limits = [f"{sign} {bound}" for sign, bound, _ in given if bound != math.inf]
    told = " and ".join([*limits, "finite"] if value == math.inf == below else limits)
    raise UsageError(f"{who}: {name} {f'is {meaning} and ' if meaning else ''}must be {told}, got {value}.")


def _is_number(value: object) -> bool:
    return isinstance(value, numbers.Real) and not isinstance(value, bool)


def _is_whole(value: object) -> TypeGuard[int]:
    return isinstance(value, numbers.Integral) and not isinstance(value, bool)


def check_seed(who: str, seed: int) -> None:
    """UsageError for what no generator takes."""
    check_whole(who, "seed", seed, least=0, needed=True)
    check_number(who, "seed", seed, most=MOST_SEED)


def check_flags(who: str, **flags: object) -> None:
    """UsageError for a value that is neither True nor False."""
    for name, value in flags.items():
        if not isinstance(value, bool):
            raise UsageError(f"{who}: {name} must be True or False, got {value!r}.")


def check_above_zero(who: str, **numbers: float | None) -> None:
    """UsageError for a number that is not above zero."""
    for name, value in numbers.items():
        check_number(who, name, value, above=0)


def check_whole(who: str, name: str, value: int | None, *, least: int = 1, of: str = "", needed: bool = False) -> None:
    """UsageError unless the value is a whole number of at least `least`, or None.

    of: what it counts, for the error. needed: whether None is refused too.
    """
    if value is None and not needed:
        return
    if not _is_whole(value) or value < least:
        raise UsageError(f"{who}: {name} must be a whole number{f' of {of}' if of else ''} ≥ {least}, got {value!r}.")


def check_window(who: str, begin: float, end: float) -> None:
    """UsageError unless begin and end are shares of a run, in this order."""
    if not 0 <= begin <= end <= 1:
        raise UsageError(f"{who}: begin and end are shares of the run with 0 ≤ begin ≤ end ≤ 1, got {begin} and {end}.")


def check_known(who: str, what: str, value: object, known: Collection[str]) -> None:
    """UsageError, with the nearest name, for a name that is none of those there are."""
    if not isinstance(value, str) or value not in known:
        raise UsageError(f"{who}: there is no {what} {value!r}.{suggest(str(value), known)}")


def check_either(who: str, name: str, value: object, first: str, second: str) -> None:
    """UsageError unless the value is one of two words."""
    if value not in (first, second):
        raise UsageError(f"{who}: {name} must be {first!r} or {second!r}, got {value!r}.")


def check_list(who: str, name: str, value: object, of: str) -> None:
    """UsageError for a single word where a list of names is meant. of: what is named."""
    if isinstance(value, str):
        raise UsageError(f"{who}: {name} must be {of}, got the single word {value!r}. Write [{value!r}].")


def check_one_way(who: str, **ways: object) -> None:
    """UsageError if two options that say the same are both given."""
    given = [name for name, value in ways.items() if value is not None]
    if len(given) > 1:
        raise UsageError(f"{who}: give {' or '.join(ways)}, not both.")
