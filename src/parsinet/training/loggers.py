"""What a run tells TensorBoard, MLflow, Weights & Biases or trackio: the numbers of its record, as they come."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, Protocol

from parsinet.draws import kept
from parsinet.errors import ParsinetWarning, UsageError, suggest
from parsinet.training.trackers import TRACKERS, Tracker

EPOCH = ("loss", "train_error", "validation_loss", "validation_error", "learning_rate", "parameters", "macs", "seconds", "cpu_seconds")
END = ("test_loss", "test_error", "validation_error", "train_seconds", "train_cpu_seconds", "train_macs")
SIZES = ("parameters", "macs", "nonzeros", "bytes")
FAILED = object()
"""What a call of a logger gives that has raised."""


class Logger(Protocol):
    """Whoever is told numbers by step."""

    def log(self, values: Mapping[str, float], step: int) -> None:
        """Numbers by name, after so many optimizer steps."""

    def close(self) -> None:
        """Nothing comes any more."""


class Loggers:
    """Tells events of the run record to several loggers; give it to what takes a sink, or call `log` in a loop of your own.

    loggers: names (tensorboard, mlflow, wandb, trackio) or objects like `Logger`. folder: of the run; what loggers keep lies in its
    `loggers`. settings: of the run, for loggers that show them.

    A logger that raises is told nothing any more, with one warning, and the run goes on: its record has everything. Global random
    generators are put back after every call.

    Errors: UsageError for an unknown name, MissingExtraError where its package is not installed; both at once, before a run begins.
    """

    def __init__(self, loggers: Iterable[str | Logger], folder: str | Path, settings: Mapping[str, Any] | None = None) -> None:
        given = list(loggers)
        self._named = known(logger for logger in given if isinstance(logger, str))
        objects = [logger for logger in given if not isinstance(logger, str)]
        self._open: list[tuple[str, Logger]] = [(type(logger).__name__, logger) for logger in objects]
        self._folder, self._settings = Path(folder) / "loggers", dict(settings or {})
        self._begun = False
        self._step = 0

    def __call__(self, event: Mapping[str, Any]) -> None:
        """Tell what an event of the record holds; start and resumed open what is named, the last events close it."""
        kind = event["event"]
        self._step = int(event.get("step", self._step))
        if kind in ("start", "resumed"):
            self.begin(self._step if kind == "resumed" else None)
        values = numbers(event)
        if values:
            self.log(values, self._step)
        if kind in ("end", "failed", "interrupted"):
            self.close()

    def begin(self, resumed: int | None = None) -> None:
        """Open the named loggers. resumed: the step a run goes on from; what was told of later ones is replaced where a logger can."""
        self._begun = True
        for tracker in self._named:
            made = self._guarded(tracker.name, partial(tracker, self._folder, self._settings, resumed))
            self._open += [] if made is FAILED else [(tracker.name, made)]

    def log(self, values: Mapping[str, float], step: int) -> None:
        """Tell numbers by name; those that are not finite are left out."""
        if not self._begun:
            self.begin()
        finite = {name: float(value) for name, value in values.items() if math.isfinite(value)}
        told = [(name, logger) for name, logger in self._open if self._guarded(name, partial(logger.log, finite, step)) is not FAILED]
        self._open = told

    def close(self) -> None:
        """Let every logger write out what it holds."""
        for name, logger in self._open:
            self._guarded(name, logger.close)
        self._open = []

    def _guarded(self, name: str, call: Callable[[], Any]) -> Any:
        """What the call returns; FAILED, after a warning, where it raises."""
        try:
            with kept():
                return call()
        except Exception as error:
            warnings.warn(
                f"The logger {name} is told nothing any more: {type(error).__name__}: {error}. The run goes on; its record has everything.",
                ParsinetWarning,
                stacklevel=3,
            )
            return FAILED


def known(names: Iterable[str]) -> list[type[Tracker]]:
    """The adapters of these names; UsageError for an unknown one, MissingExtraError where its package is not installed."""
    found = []
    for name in names:
        if name not in TRACKERS:
            raise UsageError(f"There is no logger {name!r}.{suggest(name, TRACKERS)}")
        TRACKERS[name].check()
        found.append(TRACKERS[name])
    return found


def numbers(event: Mapping[str, Any]) -> dict[str, float]:
    """What is plotted of an event: losses, errors, sizes, `widths/<group>` after a removal; nothing of events without numbers."""
    kind = event["event"]
    if kind == "epoch":
        found = {name: event.get(name) for name in EPOCH} | _widths(event.get("widths", {}))
    elif kind == "removal":
        found = {name: event.get(name) for name in SIZES} | _widths({name: after for name, (_, after) in event["groups"].items()})
    elif kind == "end":
        found = {name: event.get(name) for name in END} | {name: event["after"].get(name) for name in SIZES} | _widths(event["widths"])
    else:
        return {}
    return {name: float(value) for name, value in found.items() if value is not None and math.isfinite(value)}


def _widths(widths: Mapping[str, int]) -> dict[str, Any]:
    return {f"widths/{name}": units for name, units in widths.items()}
