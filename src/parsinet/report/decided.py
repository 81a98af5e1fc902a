"""What decided over the units of a run, in words: the price of a gate, and when each group had its last loss."""

import math
from collections.abc import Mapping

from parsinet.report import numbers, timeline
from parsinet.report.records import Run

FEW = 6
"""Up to this many groups are told one by one."""
NEAR = 0.01
"""Prices within this part of each other are told as one."""


def decided(run: Run) -> list[str]:
    """Sentences about the prices and about where each group came to rest; none for a run from which nothing left."""
    return [*_prices(run), *_rest(run)]


def _prices(run: Run) -> list[str]:
    """ρ nats per example are a factor e^−ρ on the geometric mean of the probabilities given to the right answers."""
    paid = [epoch for epoch in run.epochs if epoch.price is not None and epoch.theta]
    if not paid:
        return []
    first, last = (epoch.price or 0.0 for epoch in (paid[0], paid[-1]))
    if not _differ(paid[-1].prices):
        risen = "" if math.isclose(first, last, rel_tol=NEAR) else f"; after the first epoch, by {_worth(first)}"
        return [f"a unit stayed if without it the probability of the right answer fell by more than {_worth(last)}{risen}."]
    return [
        "a unit stayed if without it the probability of the right answer fell by more than its price, on average over the units "
        f"{_worth(first)} after the first epoch and {_worth(last)} when the last gates were decided.",
        *_by_group(paid[-1].prices),
    ]


def _differ(prices: Mapping[str, float]) -> bool:
    return bool(prices) and not math.isclose(min(prices.values()), max(prices.values()), rel_tol=NEAR)


def _by_group(prices: Mapping[str, float]) -> list[str]:
    """What a unit of each group paid at the end; of many groups the dearest and the cheapest."""
    if not _differ(prices):
        return []
    if len(prices) <= FEW:
        return [f"a unit then paid {', '.join(f'{_worth(price)} in {name}' for name, price in prices.items())}."]
    dear, cheap = max(prices, key=lambda name: prices[name]), min(prices, key=lambda name: prices[name])
    return [f"a unit then paid most in {dear}, {_worth(prices[dear])}, and least in {cheap}, {_worth(prices[cheap])}."]


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
