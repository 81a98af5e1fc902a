"""What the method of a run told, as views: how a value per unit is distributed, how a value per weight changed, over epochs."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from parsinet.report.page.curves import thinned
from parsinet.report.records import Run

BINS = 24
DISTRIBUTIONS = {
    "theta": ("Gate probabilities θ", "How likely each unit's gate is open. Units drift to 0 and leave, or to 1 and stay."),
    "score": ("Score of every unit", "What units are ranked by; those with the lowest leave."),
    "factor": ("Factor on every unit", "What a unit's output is multiplied with; units near 0 leave."),
}
EIGENVALUES = ("Eigenvalue score of every unit", "What the eigenvalues of the layers say of each unit; units with the lowest leave.")
LEVELS = {
    "hoyer": (
        "Hoyer sparsity",
        "0 for weights that are all of one size, 1 for a single one that is not zero; mean over the units of a weight.",
    ),
    "p": ("Exponent p of the spheres", "Weights lie on the unit sphere of this p; the nearer to 1, the sparser they become."),
    "density": ("Density", "Share of the entries of a weight that are not masked."),
}


def views(run: Run, cells: int) -> list[dict[str, Any]]:
    """Every view the record has numbers for, distributions first. cells: so many numbers a view may have; beyond, epochs are left out."""
    found = [_distribution(run, kind, cells) for kind in DISTRIBUTIONS] + [_levels(run, kind, cells) for kind in LEVELS]
    return [view for view in found if view is not None]


def _values(run: Run, kind: str) -> list[Mapping[str, tuple[float, ...]]]:
    return [epoch.theta if kind == "theta" else epoch.told.units.get(kind, {}) for epoch in run.epochs]


def _distribution(run: Run, kind: str, cells: int) -> dict[str, Any] | None:
    """bins: lowest and highest value; groups: name, and per epoch shown the units per bin, None where the epoch tells none."""
    told = _values(run, kind)
    names = list(dict.fromkeys(name for epoch in told for name, values in epoch.items() if values))
    if not names:
        return None
    places = thinned(len(told), max(2, min(160, cells // (BINS * len(names)))))
    low, high = _domain(told, kind)
    groups = [
        {"name": name, "counts": [_counts(told[place].get(name, ()), low, high) for place in places], "latest": _latest(told, name)}
        for name in names
    ]
    title, words = EIGENVALUES if kind == "score" and run.method == "spectral" else DISTRIBUTIONS[kind]
    epochs = [run.epochs[place].epoch for place in places]
    told_of = {"form": "distribution", "kind": kind, "title": title, "words": words}
    return {**told_of, "low": low, "high": high, "epochs": epochs, "groups": groups}


def _domain(told: Sequence[Mapping[str, tuple[float, ...]]], kind: str) -> tuple[float, float]:
    if kind == "theta":
        return 0.0, 1.0
    every = [value for epoch in told for values in epoch.values() for value in values]
    low, high = min(0.0, *every, 0.0), max(0.0, *every, 0.0)
    return low, high if high > low else low + 1.0


def _counts(values: Sequence[float], low: float, high: float) -> list[int] | None:
    finite = np.asarray(values, dtype=np.float64)
    finite = finite[np.isfinite(finite)]
    if not finite.size:
        return None
    return [int(count) for count in np.histogram(np.clip(finite, low, high), BINS, (low, high))[0]]


def _latest(told: Sequence[Mapping[str, tuple[float, ...]]], name: str) -> dict[str, Any]:
    """The place of the last epoch that tells of the group, with its number of units and their mean."""
    place = max(place for place, epoch in enumerate(told) if epoch.get(name))
    values = np.asarray(told[place][name], dtype=np.float64)
    finite = values[np.isfinite(values)]
    return {"place": place, "units": int(finite.size), "mean": float(finite.mean()) if finite.size else None}


def _levels(run: Run, kind: str, cells: int) -> dict[str, Any] | None:
    """One line per weight: its value at each epoch shown, None where the epoch tells none."""
    told = [epoch.told.weights.get(kind, {}) for epoch in run.epochs]
    names = list(dict.fromkeys(name for epoch in told for name in epoch))
    if not names:
        return None
    places = thinned(len(told), max(2, min(600, cells // (8 * len(names)))))
    lines = [{"name": name, "values": [told[place].get(name) for place in places]} for name in names]
    title, words = LEVELS[kind]
    epochs = [run.epochs[place].epoch for place in places]
    return {"form": "levels", "kind": kind, "title": title, "words": words, "epochs": epochs, "lines": lines}
