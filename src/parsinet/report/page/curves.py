"""Curves of a run as plain lists: errors, losses and sizes over epochs and over seconds of training."""

from typing import Any

import numpy as np

from parsinet.report import timeline
from parsinet.report.records import Run, Size
from parsinet.report.style import Floats

CLOCKS: tuple[timeline.Unit, ...] = ("epoch", "seconds")


def thinned(length: int, most: int) -> list[int]:
    """Places 0 … length − 1, at most `most` of them, evenly spread, first and last included."""
    if length <= most:
        return list(range(length))
    return [round(place * (length - 1) / (most - 1)) for place in range(most)]


def curves(run: Run, most: int) -> dict[str, Any]:
    """One list per quantity, an entry per epoch shown; None where the record has no number. `every` tells how many epochs there are."""
    shown = [run.epochs[place] for place in thinned(len(run.epochs), most)]
    return {
        "epochs": len(run.epochs),
        "epoch": [one.epoch for one in shown],
        "seconds": [one.seconds for one in shown],
        "loss": [one.loss for one in shown],
        "validation_loss": [one.validation_loss for one in shown],
        "train_error": [one.train_error for one in shown],
        "validation_error": [one.validation_error for one in shown],
        "parameters": [one.size.parameters for one in shown],
        "macs": [one.size.macs for one in shown],
    }


def sizes(run: Run, most: int) -> dict[str, list[float]]:
    """Parameters and MACs from the start to the end of the last epoch, changing at every removal, over both clocks."""
    last = run.epochs[-1].step if run.epochs else 0
    steps: list[tuple[int, Size]] = [(removal.step, removal.size) for removal in run.removals if removal.step <= last]
    steps += [(epoch.step, epoch.size) for epoch in run.epochs]
    points = [(0, run.start), *sorted(steps, key=lambda point: point[0])]
    shown = [points[place] for place in thinned(len(points), most)]
    at = np.array([step for step, _ in shown], dtype=np.float64)
    told: dict[str, list[float]] = {unit: _rounded(timeline.clock(run, at, unit)) for unit in CLOCKS}
    return told | {"parameters": [size.parameters for _, size in shown], "macs": [size.macs for _, size in shown]}


def settled(run: Run) -> dict[str, float] | None:
    """When the structure became final, on both clocks."""
    if run.settled is None or not run.epochs:
        return None
    at = np.array([float(run.settled)])
    return {unit: _rounded(timeline.clock(run, at, unit))[0] for unit in CLOCKS}


def _rounded(times: Floats) -> list[float]:
    return [round(float(time), 4) for time in times]
