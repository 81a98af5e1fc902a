"""Runs that differ in nothing but their seeds: what they have in the mean, and how far they lie apart."""

import json
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from parsinet.report import numbers
from parsinet.report.records import Run

DRAWS = ("seed", "method.seed", "data.split_seed")
"""Entries of a recipe that only draw anew."""
ASIDE = ("data.folder", "data.download", "threads", "checkpoint", "loggers")
"""Entries of a recipe that say where and how a run was made, and change no number but times."""
NAMED = 4
"""More runs than these are named by the first and the last."""


def alike(recipe: Mapping[str, Any]) -> str:
    """A text that is the same for recipes which differ only in their seeds and in where they were run; '' for an empty one."""
    kept = {key: dict(value) if isinstance(value, Mapping) else value for key, value in recipe.items()}
    for entry in (*DRAWS, *ASIDE):
        section, _, key = entry.rpartition(".")
        holder = kept.get(section) if section else kept
        if isinstance(holder, dict):
            holder.pop(key, None)
    return json.dumps(kept, sort_keys=True) if kept else ""


def over_seeds(runs: Sequence[Run]) -> list[str]:
    """A sentence for each recipe that finished under two or more seeds: mean ± standard deviation, errors with their range."""
    together: dict[tuple[Any, ...], list[Run]] = {}
    for run in runs:
        if run.end is not None and run.end.test_error is not None and run.recipe:
            together.setdefault((run.recipe, run.start), []).append(run)
    return [_told(same) for same in together.values() if len({run.seed for run in same}) == len(same) > 1]


def _told(runs: Sequence[Run]) -> str:
    errors = [100 * run.end.test_error for run in runs if run.end is not None and run.end.test_error is not None]
    names = [f"'{run.name}'" for run in runs]
    listed = ", ".join(names) if len(names) <= NAMED else f"{names[0]} … {names[-1]}"
    told = [
        f"test error {statistics.mean(errors):.2f} ± {statistics.stdev(errors):.2f} % ({min(errors):.2f} to {max(errors):.2f})",
        f"{_spread([run.size.parameters for run in runs])} parameters",
        f"{_spread([run.size.macs for run in runs])} MACs",
    ]
    return f"{listed}, {len(runs)} seeds of one recipe: {', '.join(told)}. ± is the standard deviation over seeds."


def _spread(counts: Sequence[int]) -> str:
    return f"{numbers.count(statistics.mean(counts))} ± {numbers.count(statistics.stdev(counts))}"
