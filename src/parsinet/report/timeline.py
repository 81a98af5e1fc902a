"""How a run's numbers changed: values over steps, and steps as epochs or seconds."""

from dataclasses import dataclass
from typing import Literal

import numpy as np

from parsinet.report.records import Run, Size
from parsinet.report.style import Floats

Unit = Literal["epoch", "seconds"]


@dataclass(frozen=True)
class Series:
    """Values y at optimizer steps x; between two steps a size keeps the earlier value."""

    x: Floats
    y: Floats


def errors(run: Run, part: Literal["train", "validation"]) -> Series:
    """The error of each epoch that has one, as a fraction."""
    found = [(e.step, e.train_error if part == "train" else e.validation_error) for e in run.epochs]
    known = [(float(step), value) for step, value in found if value is not None]
    return _series(known)


def sizes(run: Run, of: Literal["parameters", "macs"]) -> Series:
    """Parameters or MACs as a fraction of the start, changing at every removal."""

    def value(size: Size) -> float:
        if of == "parameters":
            return size.parameters / max(run.start.parameters, 1)
        return size.macs / max(run.start.macs, 1)

    removed = [(float(removal.step), value(removal.size)) for removal in run.removals]
    ended = [(float(epoch.step), value(epoch.size)) for epoch in run.epochs]
    return _series([(0.0, 1.0), *sorted([*removed, *ended], key=lambda point: point[0])])


def groups(run: Run) -> dict[str, int]:
    """Groups that the run could make narrower, with their units at the start, in the network's order."""
    watched: dict[str, int] = {}
    for epoch in run.epochs:
        for name, units in epoch.widths.items():
            watched.setdefault(name, run.groups.get(name, units))
    order = {name: place for place, name in enumerate(run.groups)}
    return dict(sorted(watched.items(), key=lambda item: order.get(item[0], len(order))))


def widths(run: Run, group: str, start: int) -> Series:
    """Units of `group`, changing at every removal."""
    removed = [(float(removal.step), float(removal.widths[group])) for removal in run.removals if group in removal.widths]
    ended = [(float(epoch.step), float(epoch.widths[group])) for epoch in run.epochs if group in epoch.widths]
    return _series([(0.0, float(start)), *sorted([*removed, *ended], key=lambda point: point[0])])


def _series(points: list[tuple[float, float]]) -> Series:
    table = np.asarray(points, dtype=np.float64).reshape(-1, 2)
    return Series(table[:, 0], table[:, 1])


def clock(run: Run, steps: Floats, unit: Unit) -> Floats:
    """Optimizer steps as epochs or seconds, linear within an epoch."""
    known = [0.0, *(float(epoch.step) for epoch in run.epochs)]
    shown = [0.0, *(float(epoch.epoch) if unit == "epoch" else epoch.seconds for epoch in run.epochs)]
    return np.interp(steps, known, shown).astype(np.float64)


def time_unit(seconds: float) -> tuple[str, float]:
    """The unit in which a training time reads well, and its length in seconds."""
    if seconds < 600:
        return "s", 1.0
    return ("min", 60.0) if seconds < 3 * 3600 else ("h", 3600.0)
