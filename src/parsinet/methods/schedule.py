"""The steps of a run as methods divide it: time between removals, the end of a phase, a cubic way."""

from __future__ import annotations

from parsinet.errors import UsageError


def length_of_run(who: str, steps: int | None) -> int:
    """The steps of the run; UsageError if they are not known."""
    if steps is None:
        raise UsageError(f"{who}: its schedule needs the length of the run; give Pruner(..., steps=N).")
    return steps


def usual_interval(steps: int | None) -> int:
    """Steps between two removals: a two-hundredth of the run, at least 10 and at most 100; 100 if its length is unknown."""
    return min(100, max(10, steps // 200)) if steps else 100


def last_step(share: float, steps: int | None) -> int:
    """The last step, at least 1, of the first `share` of the run; 0 if its length is unknown."""
    return max(1, round(share * steps)) if steps else 0


def cubic(step: float, first: float, last: float) -> float:
    """1 − (1 − u)³ at part u of the way from `first` to `last`: 0 before, 1 after; fast at first, then ever slower.

    Source: M. Zhu and S. Gupta 2017, arXiv 1710.01878.
    """
    way = min(1.0, max(0.0, (step - first) / (last - first))) if last > first else float(step >= last)
    return 1 - (1 - way) ** 3
