"""What decided over the units of a run, in words: the price of a gate, and when each group had its last loss."""

import math

from parsinet.report import numbers, timeline
from parsinet.report.records import Run

FEW = 6
"""Up to this many groups are told one by one."""


def decided(run: Run) -> list[str]:
    """Sentences about the prices and about where each group came to rest; none for a run from which nothing left."""
    return [*_prices(run), *_rest(run)]


def _prices(run: Run) -> list[str]:
    """ρ nats per example are a factor e^−ρ on the geometric mean of the probabilities given to the right answers."""
    paid = [epoch.price for epoch in run.epochs if epoch.price is not None and epoch.theta]
    if not paid:
        return []
    if math.isclose(paid[0], paid[-1], rel_tol=0.01):
        return [f"a unit stayed if without it the probability of the right answer fell by more than {_worth(paid[-1])}."]
    return [
        "a unit stayed if without it the probability of the right answer fell by more than its price, on average over the units "
        f"{_worth(paid[0])} after the first epoch and {_worth(paid[-1])} when the last gates were decided."
    ]


def _worth(price: float) -> str:
    return f"{numbers.small(-math.expm1(-price))} ({price:.2g} nats per example)"


def _rest(run: Run) -> list[str]:
    last = {name: removal.step for removal in run.removals for name in removal.widths}
    if not last or not run.epochs:
        return []
    watched = timeline.groups(run)
    known = {name: (watched[name], _epoch(run, step)) for name, step in last.items() if name in watched}
    if len(known) <= FEW:
        told = [f"{name} {start:,} → {_width(run, name):,} in epoch {epoch}" for name, (start, epoch) in known.items()]
        return [f"the last unit left {', '.join(told)}."] if told else []
    order = sorted(known, key=lambda name: known[name][1])
    first, late = order[0], order[-1]
    return [
        f"units left {len(known)} groups; the first to come to rest was {first} in epoch {known[first][1]}, "
        f"the last {late} in epoch {known[late][1]}."
    ]


def _width(run: Run, name: str) -> int:
    return next(removal.widths[name] for removal in reversed(run.removals) if name in removal.widths)


def _epoch(run: Run, step: int) -> int:
    """1-based: the epoch in which a step lies."""
    return next((epoch.epoch for epoch in run.epochs if step <= epoch.step), run.epochs[-1].epoch + 1)
