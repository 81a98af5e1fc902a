"""The trainings of a suite: trials on a validation split first, then the rows of the table at the strengths they chose."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import mean
from typing import Any

from parsinet.bench.suite import Row, Suite
from parsinet.errors import UsageError
from parsinet.training import with_values

TRIAL_SEED = 1000
"""Of weights and batches of every trial; no row of a table has it. What trials hold out is drawn by `data.split_seed`."""
Event = Mapping[str, Any]


@dataclass(frozen=True)
class Job:
    """One training. kind: "trial" (validated, never tested) or "row" (tested once, at its end). settings: the recipe as plain values.
    start: the common network, which latencies are compared with."""

    kind: str
    row: str
    strength: Any
    candidate: Mapping[str, Any]
    settings: Mapping[str, Any]
    start: Mapping[str, Any]

    @property
    def seed(self) -> int:
        """Of the training."""
        return int(self.settings["seed"])

    def done(self, events: Iterable[Event]) -> bool:
        """Whether a record holds the result of this very training."""
        return any(self.told(event) for event in events)

    def told(self, event: Event) -> bool:
        """Whether an event is the result of this very training."""
        return (event["event"], event["row"]) == (self.kind, self.row) and bool(event["settings"] == self.settings)


def trials(suite: Suite, rows: Sequence[str]) -> list[Job]:
    """Every strength with every candidate, on the same held-out part."""
    found = []
    for title in rows:
        row = suite.rows[title]
        for candidate in row.tune:
            for strength in row.strengths:
                found.append(_job("trial", suite, title, candidate, strength, TRIAL_SEED, suite.validation))
    return found


def finals(suite: Suite, rows: Sequence[str], seeds: Sequence[int], events: Sequence[Event]) -> list[Job]:
    """The table's trainings, seed by seed, for rows whose trials are all there."""
    chosen = {title: choice(suite, title, events) for title in rows if _tried(suite, title, events)}
    return [
        _job("row", suite, title, candidate, strength, seed, 0.0)
        for seed in seeds
        for title, (candidate, strengths) in chosen.items()
        for strength in strengths
    ]


def choice(suite: Suite, title: str, events: Sequence[Event]) -> tuple[Mapping[str, Any], list[Any]]:
    """What the trials say: the candidate with the least validation error at the suite's sizes, and its strengths.

    Candidates are compared by the mean over sizes of log error, read off straight lines of log error over log size (flat beyond their
    ends). Strengths are chosen by size alone, never by an error.
    """
    row, tried = suite.rows[title], _tried(suite, title, events)
    if not tried:
        raise UsageError(f"Row {title!r} has trials that are not run yet.")
    each = [[event for event in tried if event["candidate"] == candidate] for candidate in row.tune]
    best = min(range(len(each)), key=lambda place: _score(suite, each[place]))
    return row.tune[best], _strengths(suite, row, each[best])


def _job(kind: str, suite: Suite, title: str, candidate: Mapping[str, Any], strength: Any, seed: int, held: float) -> Job:
    settings = suite.settings(suite.rows[title], candidate, strength)
    settings = with_values(settings, {"seed": seed, "threads": 1, "data.validation": held})
    return Job(kind, title, strength, candidate, settings, suite.recipe.get("model", {}))


def _tried(suite: Suite, title: str, events: Sequence[Event]) -> list[Event]:
    """The results of all trials of a row; none if one is missing."""
    wanted = trials(suite, [title])
    found = [next((event for event in events if job.told(event)), None) for job in wanted]
    return [event for event in found if event is not None] if all(event is not None for event in found) else []


def _strengths(suite: Suite, row: Row, tried: Sequence[Event]) -> list[Any]:
    if row.strength is None:
        return [None]
    if row.strength.values is not None:
        return list(row.strength.values)
    points = [(float(event["strength"]), float(event[suite.size])) for event in tried]
    return list(dict.fromkeys(strength_for(size, points) for size in suite.sizes))


def strength_for(size: float, points: Sequence[tuple[float, float]]) -> float:
    """The strength that leaves a size, by trials (strength, size): straight lines of log size over log strength, the outer ones lengthened.

    Larger strengths leave less. The slope is held in [−3, −0.2], where trials leave almost the same or fall off a cliff. Two digits.
    """
    logs = sorted((math.log(strength), math.log(left)) for strength, left in points)
    goal = math.log(size)
    if len(logs) == 1:
        return _rounded(math.exp(logs[0][0] + logs[0][1] - goal))
    inside = [pair for pair in pairwise(logs) if pair[0][1] >= goal >= pair[1][1]]
    (x0, y0), (x1, y1) = inside[0] if inside else (logs[:2] if goal > logs[0][1] else logs[-2:])
    slope = min(-0.2, max(-3.0, (y1 - y0) / (x1 - x0)))
    near = (x0, y0) if abs(y0 - goal) < abs(y1 - goal) else (x1, y1)
    return _rounded(math.exp(near[0] + (goal - near[1]) / slope))


def _rounded(value: float) -> float:
    return float(f"{value:.2g}")


def _score(suite: Suite, tried: Sequence[Event]) -> float:
    points = sorted((math.log(event[suite.size]), math.log(max(event[suite.metric], 1e-6))) for event in tried)
    return mean(_level(math.log(size), points) for size in suite.sizes)


def _level(x: float, points: Sequence[tuple[float, float]]) -> float:
    for (x0, y0), (x1, y1) in pairwise(points):
        if x0 < x1 and x0 <= x <= x1:
            return y0 + (y1 - y0) * (x - x0) / (x1 - x0)
    return points[0][1] if x < points[0][0] else points[-1][1]
