"""Error over size as curves, one per row and seed, and what is read off them: errors at a size, sizes at an error."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import mean, stdev
from typing import Any

Event = Mapping[str, Any]
Point = tuple[float, float]
BEYOND = 1.02
"""A curve speaks for sizes so far outside of its points."""


@dataclass(frozen=True)
class Spread:
    """Numbers of several seeds."""

    values: tuple[float, ...]

    @property
    def mean(self) -> float:
        """Their mean."""
        return mean(self.values)

    @property
    def deviation(self) -> float | None:
        """Their standard deviation (n − 1), None for one."""
        return stdev(self.values) if len(self.values) > 1 else None


def curves(events: Sequence[Event], title: str, size: str, metric: str) -> list[list[Point]]:
    """Per seed the points (size, error) of a row, by size."""
    own = [event for event in events if event["event"] == "row" and event["row"] == title]
    seeds = sorted({event["seed"] for event in own})
    return [sorted((float(event[size]), float(event[metric])) for event in own if event["seed"] == seed) for seed in seeds]


def at_size(points: Sequence[Point], size: float) -> float | None:
    """The error at a size, along straight lines of log error over log size between neighbouring points; None outside of them."""
    for (x0, y0), (x1, y1) in pairwise(sorted(points)):
        if x0 / BEYOND <= size <= x1 * BEYOND and x0 < x1:
            part = math.log(size / x0) / math.log(x1 / x0)
            return float(_positive(y0) * (_positive(y1) / _positive(y0)) ** part)
    return None


def at_error(points: Sequence[Point], error: float) -> float | None:
    """The least size with no more than an error, along the same lines; None if no point reaches it."""
    ordered = sorted(points)
    for place, (x, y) in enumerate(ordered):
        if y <= error:
            if place == 0:
                return x
            x0, y0 = ordered[place - 1]
            part = math.log(_positive(y0) / error) / math.log(_positive(y0) / _positive(y)) if y < y0 else 1.0
            return float(x0 * (x / x0) ** part)
    return None


def spread(values: Sequence[float | None]) -> Spread | None:
    """Of all seeds; None if one of them has no value."""
    known = [value for value in values if value is not None]
    return Spread(tuple(known)) if known and len(known) == len(values) else None


def ranked(cells: Mapping[str, Sequence[Spread | None]]) -> dict[str, float]:
    """Rows by the mean of their places over the columns, least first; who has no value in a column shares the places behind the others."""
    places: dict[str, list[float]] = {title: [] for title in cells}
    for column in range(max((len(each) for each in cells.values()), default=0)):
        means = {title: each[column] for title, each in cells.items()}
        known = sorted(found.mean for found in means.values() if found is not None)
        if not known:
            continue
        behind = (len(known) + 1 + len(cells)) / 2
        for title, found in means.items():
            places[title].append(behind if found is None else known.index(found.mean) + 1)
    means_of = {title: mean(each) if each else math.inf for title, each in places.items()}
    return dict(sorted(means_of.items(), key=lambda item: item[1]))


def _positive(value: float) -> float:
    """No error at all has no logarithm."""
    return max(value, 1e-6)
