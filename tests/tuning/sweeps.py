"""What tests of sweeps share: a recipe that trains at once, a space, a definition, and a checker of ledgers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from parsinet.tuning.definition import Definition, define

BASE: dict[str, Any] = {
    "data": {"source": "digits", "batch_size": 256, "validation": 0.2},
    "model": {"name": "mlp", "widths": [8]},
    "epochs": 2,
    "threads": 1,
}
SPACE: dict[str, Any] = {
    "optimizer.lr": {"low": 1e-3, "high": 1e-1, "log": True},
    "model.widths": {"choices": [[4], [8], [16]]},
}


def definition(base: Mapping[str, Any] = BASE, space: Mapping[str, Any] = SPACE, **options: Any) -> Definition:
    settings: dict[str, Any] = {"objectives": ("error", "macs"), "seeds": None, "sampler": "random", "pruner": "none", "seed": 0}
    return define(base, space, **{**settings, **options})


def count_faults(trials: list[Mapping[str, Any]], limit: int) -> list[str]:
    """What is wrong with the trials of a study.json: as many as asked for, each number once, each over, each drawn anew."""
    faults = [] if len(trials) == limit else [f"{len(trials)} trials instead of {limit}"]
    faults += [f"trial {number} is there {many} times" for number, many in Counter(t["number"] for t in trials).items() if many > 1]
    faults += [f"trial {trial['number']} is {trial['state']}" for trial in trials if trial["state"] not in ("complete", "pruned", "failed")]
    drawn = Counter(str(trial["params"]) for trial in trials)
    return faults + [f"{params} was drawn {many} times" for params, many in drawn.items() if many > 1]


def dead_worker(folder: Path, name: str = "dead") -> str:
    """A worker that left its place without a word, as after kill -9."""
    (folder / ".workers" / name).mkdir(parents=True)
    (folder / ".workers" / name / ".lock").touch()
    return name
