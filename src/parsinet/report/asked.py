"""The size that was asked for in advance and the one there is, in a sentence."""

from parsinet.report import numbers
from parsinet.report.records import Run
from parsinet.report.told import Goal

NEAR = 0.02
"""A target counts as met within this part of itself, as methods count it."""
UNITS = {
    "parameters": "parameters",
    "nonzeros": "parameters that are not zero",
    "macs": "MACs",
    "bytes": "bytes",
    "latency": "per forward pass",
}


def asked(run: Run) -> list[str]:
    """One sentence for a run with a target, else none.

    Counts are those of the result; a latency is the one the method measured at its last decision, on the example inputs.
    """
    goal = _goal(run)
    if goal is None:
        return []
    wanted = f"{_amount(goal.kind, goal.wanted)} {UNITS[goal.kind]}"
    return [f"asked for {f'{run.target} ({wanted})' if run.target else wanted}{_met(goal, _there(run, goal))}."]


def _met(goal: Goal, there: float | None) -> str:
    if there is None:
        return "; what stays is not decided"
    has, off = _amount(goal.kind, there), there / goal.wanted - 1
    if has == _amount(goal.kind, goal.wanted):
        return f", has {has} (as asked)"
    part = numbers.small(abs(off)) if abs(off) < 0.0995 else numbers.share(abs(off))
    return f", has {has} ({part} {'below' if off < 0 else 'above'})" if abs(off) <= NEAR else f", missed by {part}: it has {has}"


def _there(run: Run, goal: Goal) -> float | None:
    counts = {} if run.end is None else vars(run.end.after)
    found: float | None = counts.get(goal.kind)
    return goal.reached if found is None else found


def _goal(run: Run) -> Goal | None:
    """The last one the method told."""
    told = [epoch.told.goal for epoch in run.epochs if epoch.told.goal is not None]
    return told[-1] if told else None


def _amount(kind: str, amount: float) -> str:
    return numbers.milliseconds(amount) if kind == "latency" else numbers.count(amount)
