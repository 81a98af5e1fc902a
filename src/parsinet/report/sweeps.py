"""What a report knows of a sweep, from its study.json: trials, those no other beats, and the ones worth training again."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from parsinet.errors import DataError, StorageError
from parsinet.report.pareto import unbeaten

STUDY = "study.json"
STUDY_FORMAT = 1


@dataclass(frozen=True)
class Trial:
    """One trial. state: complete, pruned, failed, running or waiting. values: of the objectives, None unless complete.

    sizes: parameters, macs, bytes and latency (seconds), each the mean over the runs. epochs: epoch → validation error, where they were
    reported. reason: why it was given up or failed.
    """

    number: int
    state: str
    values: tuple[float, ...] | None
    params: Mapping[str, Any]
    recipe: Mapping[str, Any] | None
    sizes: Mapping[str, float]
    epochs: Mapping[int, float]
    reason: str


@dataclass(frozen=True)
class Reference:
    """A run to compare with. values: of the sweep's objectives."""

    name: str
    method: str
    values: tuple[float, ...]


@dataclass(frozen=True)
class Sweep:
    """A sweep. front: numbers of the trials no other beats, by growing size; best: of the lowest error; knee: see `chosen`."""

    folder: Path
    name: str
    objectives: tuple[str, ...]
    seeds: tuple[int, ...]
    trials: tuple[Trial, ...]
    front: tuple[int, ...]
    best: int | None
    knee: int | None
    reference: Reference | None

    def trial(self, number: int) -> Trial:
        """The trial of that number."""
        return next(trial for trial in self.trials if trial.number == number)

    @property
    def complete(self) -> tuple[Trial, ...]:
        """The trials that have values."""
        return tuple(trial for trial in self.trials if trial.values is not None)


def is_sweep(folder: Path) -> bool:
    """Whether `folder` holds a sweep."""
    return (folder / STUDY).is_file()


def read_sweep(folder: str | Path) -> Sweep:
    """Read `folder`/study.json; unknown keys are ignored.

    Errors: StorageError if it cannot be read, DataError if it is damaged or of another format.
    """
    path = Path(folder) / STUDY
    try:
        told = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise StorageError(f"Cannot read {path}: {error.strerror}. Name the folder given to `parsinet tune --out`.") from None
    except (ValueError, RecursionError):
        raise DataError(f"{path} is no JSON. Run the command of the sweep again: it writes the file anew.") from None
    if not isinstance(told, dict) or told.get("format") != STUDY_FORMAT:
        found = told.get("format") if isinstance(told, dict) else None
        raise DataError(f"{path}: format {found!r} is unknown; this parsinet reads format {STUDY_FORMAT}.")
    try:
        return _sweep(Path(folder), told)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise DataError(f"{path} is damaged ({type(error).__name__}: {error}). Run the command of the sweep again.") from None


def chosen(values: Mapping[int, Sequence[float]]) -> dict[str, Any]:
    """front, best and knee of complete trials, given error (and size) of each; best and knee None where there are none.

    best: of the lowest error, of several the smallest. knee, of two objectives: the trial of the front that lies furthest below the line
    between its ends, d = 1 − u − v with u the logarithm of the size and v the error, both scaled to [0, 1] over the front; of several, the
    one of lowest error.
    """
    if not values:
        return {"front": [], "best": None, "knee": None}
    trials = sorted(values)
    best = min(trials, key=lambda number: tuple(values[number]))
    points = np.array([values[number] for number in trials], dtype=float)
    if points.shape[1] == 1:
        return {"front": [best], "best": best, "knee": None}
    front = unbeaten(points[:, 1], points[:, 0])
    sizes, errors = points[front, 1], points[front, 0]
    below = 1 - _scaled(np.log(sizes) if sizes.min() > 0 else sizes) - _scaled(errors)
    knee = front[max(range(len(front)), key=lambda place: (round(float(below[place]), 9), place))]
    return {"front": [trials[place] for place in front], "best": best, "knee": trials[knee]}


def _scaled(numbers: Any) -> Any:
    return (numbers - numbers.min()) / (float(np.ptp(numbers)) or 1.0)


def _sweep(folder: Path, told: Mapping[str, Any]) -> Sweep:
    objectives = tuple(str(name) for name in told["objectives"])
    reference = told.get("reference")
    trials = tuple(_trial(trial, objectives) for trial in told["trials"])
    picks = chosen({trial.number: trial.values for trial in trials if trial.values is not None})
    return Sweep(
        folder=folder,
        name=str(told["name"]),
        objectives=objectives,
        seeds=tuple(int(seed) for seed in told["seeds"]),
        trials=trials,
        front=tuple(picks["front"]),
        best=picks["best"],
        knee=picks["knee"],
        reference=None if not reference else Reference(reference["name"], reference["method"], _values(reference["values"], objectives)),
    )


def _trial(told: Mapping[str, Any], objectives: Sequence[str]) -> Trial:
    runs = told.get("runs") or []
    keys = ("parameters", "macs", "bytes", "latency") if runs else ()
    return Trial(
        number=int(told["number"]),
        state=str(told["state"]),
        values=None if told["values"] is None else _values(told["values"], objectives),
        params=dict(told["params"]),
        recipe=told.get("recipe"),
        sizes={key: math.fsum(float(run[key]) for run in runs) / len(runs) for key in keys},
        epochs={int(epoch): float(error) for epoch, error in told.get("epochs", {}).items() if error is not None},
        reason=str(told.get("reason", "")),
    )


def _values(told: Mapping[str, Any], objectives: Sequence[str]) -> tuple[float, ...]:
    values = tuple(float(told[name]) for name in objectives)
    if not all(map(math.isfinite, values)):
        raise ValueError(f"values {values} are not finite")
    return values
