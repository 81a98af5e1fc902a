"""Prices that lead to a target: the price of the network moves until what is worth it costs what is wanted, then units are trimmed."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import astuple
from typing import Any

import torch
from torch import Tensor, nn

from parsinet.errors import UsageError
from parsinet.gates import ema_weight
from parsinet.methods.base import Alive, Budget
from parsinet.methods.complexity import Blocks
from parsinet.methods.limits import Limit
from parsinet.methods.pricing import Costed, Pricing, Rows
from parsinet.methods.target import Target
from parsinet.methods.trimming import CLOSE, Ranked, smallest
from parsinet.structure import Plan, Structure

FIRST_NATS = 0.1
"""ν before anything is known of the units."""
LEAST_NATS = 1e-2
"""ν does not fall below: gates that pay next to nothing only follow the noise of their estimates."""
WARMUP = 500
"""Steps before ν moves, at most a tenth of the gated phase: the averages of usefulness begin at 0."""
ARRIVAL = 0.55
"""Part of the gated phase at which the reference has come down to the target: what falls then has time to arrive before ends absorb."""
RESPONSE = 0.25
"""Time constant of log ν in fall times."""
PURSUIT = 1.0
"""κ. Without it a network that is to become small stays behind, and much leaves at once at the end: at 2 % of LeNet-300-100 .8 points more
error on held-out images, with a tenth more work (benchmarks/gates/pursuit.py)."""
LARGEST_MOVE = math.log(1.5)
"""Bound of one change of log ν."""
MOST_BEHIND = 4.0
"""Bound of how far behind the reference the open gates count as."""
CLOSED = 0.02
"""θ below which a gate counts as closed at the last decision; open within this of 1."""


class Targeted(Pricing):
    """`Costed` prices whose ν follows a reference from the dense network down to a target, and a last decision that fits into it.

    At every refresh, with q_i = Δ̂_i/(∂R/∂θ_i) the price of the whole network at which unit i just pays: ν* is the q of the best unit that
    does not fit into the reference r(t), and log ν moves towards log ν*; where all fit, ν falls to the lowest q, so that what stays in any
    case can learn. With a pursuit κ, ν* is multiplied by (cost of the open gates ÷ cost wanted by r)^κ where that is above 1: a gate whose
    price is just what it is worth hardly falls, so that a network stays behind a reference that falls fast.

    r falls from 1 to the target τ as τ + (1−τ)(1−u)³, u being the part of the way to `ARRIVAL`. No removal comes nearer to τ than the
    largest unit costs, since none can be taken back. At the end the units are ranked, open before undecided before closed and then by q;
    the longest row whose cost is within the target stays, multiples of round_to counted in. A block (blocks: its name → its modules,
    factors: β) is ranked as a unit of its own, and may leave; the units in it cost nothing without it.

    Raises UsageError when attached without the length of the run, and for a target above what the network has or below what one unit
    per group costs. Source: ours; no such controller is in the abstracts of Guenter & Sideris.
    """

    def __init__(
        self,
        target: Target,
        shares: Mapping[str, float],
        pursuit: float = PURSUIT,
        *,
        factors: Mapping[str, float] | None = None,
        blocks: Blocks | None = None,
        evenness: float = 0.0,
        left_out: Mapping[str, str] | None = None,
    ) -> None:
        self._left_out = left_out
        self.target, self.pursuit = target, pursuit
        self._costed = Costed(FIRST_NATS, shares, factors=factors, blocks=blocks, evenness=evenness)
        self._blocks = blocks or {}
        self._budget = Budget()
        self._last, self._fall, self._seen = 0, 1, 0
        self._reached: float | None = None

    def attach(self, model: nn.Module, structure: Structure, budget: Budget, rows: Rows, last: int, fall_steps: int) -> None:
        """Count, and refuse what cannot be reached."""
        if not last:
            raise UsageError("Gates: target needs the length of the run; give Pruner(..., steps=N).")
        if budget.sharded and self.target.kind == "latency":
            raise UsageError(
                "Gates: a latency is measured on copies of the whole network, and this one is sharded. Give the target in macs."
            )
        self._model, self._structure, self._budget, self._last, self._fall = model, structure, budget, last, fall_steps
        self._costed.attach(model, structure, budget, rows, last, fall_steps)
        self._limit = Limit("Gates", self.target, model, structure, budget, [name for name, _, _ in rows], self._blocks, timed=True)
        self._cost = self._limit.whole
        sizes = {name: len(theta) for name, theta, _ in rows}
        self._limit.check(smallest(self._cost.of, sizes, budget.round_to, may_empty=self._blocks), self._left_out)

    def moved(self, model: nn.Module) -> None:
        """Count in the new network."""
        self._model = model
        self._costed.moved(model)

    def of(self, group: str) -> Tensor:
        """[units]."""
        return self._costed.of(group)

    def row(self) -> Tensor:
        """[all units]."""
        return self._costed.row()

    def refresh(self, step: int, rows: Rows) -> None:
        """Move ν; prices for θ as it is now."""
        if step > self._warm:
            share = self._share(step)
            worth = self._worth(step, rows)
            goal = Ranked(worth, may_empty=self._blocks).boundary(self._cost.of, share * self._limit.dense)
            if goal is None:
                goal = min(self._costed.nats, *(float(row.min()) for row in worth.values()))
            elif self.pursuit:
                goal *= self._behind(rows, share * self._limit.dense) ** self.pursuit
            self._move(max(goal, LEAST_NATS), step - max(self._seen, self._warm))
        self._seen = step
        self._costed.refresh(step, rows)

    def leaving(self, alive: dict[str, Tensor], rows: Rows) -> Alive:
        """Those that could; the best of them stay where the network would come nearer to the target than its largest unit costs: what is
        left beyond it fills, at the last decision, the room that a large unit makes when it is one too many.

        With blocks, where it would become smaller than the reference, without those that may still leave: they fall slowly, and units
        would use the room up before. Where all units together come to less than the target, the best of the closing blocks stay too.
        """
        least = self._share(self._seen) * self._limit.dense if self._blocks else self._floor(rows)
        unsure = {name for name, theta, _ in rows if name in self._blocks and float(theta) <= 1 - CLOSED}
        there = {**alive, **{name: torch.zeros(1, dtype=torch.bool) for name in unsure}}
        if self._cost.of(there) >= least:
            return alive
        worth = self._worth(self._seen, rows)
        ranks = {name: row.clone() for name, row in worth.items()}
        above = 1 + max(float(row.max()) for row in ranks.values()) - min(float(row.min()) for row in ranks.values())
        for name, row in ranks.items():
            row[there[name].cpu()] += above
        ranks |= {name: torch.full((1,), -torch.inf, dtype=torch.float64) for name in unsure}
        kept = {**self._within(ranks, least, exchange=False), **{name: alive[name] for name in unsure}}
        for name in sorted(unsure, key=lambda name: -float(worth[name])):
            if self._cost.of(kept) >= self._limit.count:
                break
            kept[name] = torch.ones(1, dtype=torch.bool)
        return kept

    def settled(self, alive: dict[str, Tensor], rows: Rows) -> Alive:
        """The best units that fit."""
        ranks = _ranks(rows, self._worth(self._seen, rows))
        self._limit.caution(self._cost.of(alive), "A longer run lets the price bring it there.")
        masks, reached = self._limit.fit(lambda count: self._within(ranks, count), self._cost, self._model, self._structure)
        self._limit.judge(reached)
        self._reached = reached
        return masks

    def removed(self, structure: Structure, plan: Plan) -> None:
        """Cut the prices; the cost is that of the smaller network."""
        self._structure = structure
        self._costed.removed(structure, plan)
        self._cost = self._limit.cost(self._model, structure)

    def describe(self) -> dict[str, Any]:
        """Those of the prices, the target and what was reached."""
        return {**self._costed.describe(), "target": self._limit.told(self._reached)}

    def state_dict(self) -> dict[str, Any]:
        """ν, prices, the last refresh, the calibration of a latency, what was reached."""
        points, count = self._limit.stopwatch.points, self._limit.count
        limit = {"target": astuple(self.target), "points": list(points), "count": count, "wanted": self._limit.wanted}
        return {**self._costed.state_dict(), "seen": self._seen, "reached": self._reached, "limit": limit}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue where the state was taken; to another target, if this one is another."""
        self._costed.load_state_dict(state)
        self._costed.nats = float(state["nats"])
        self._seen, self._reached = int(state["seen"]), state["reached"]
        limit = state["limit"]
        if tuple(limit.get("target", astuple(self.target))) != astuple(self.target):
            return
        self._limit.stopwatch.points = [(float(x), float(y)) for x, y in limit["points"]]
        self._limit.count, self._limit.wanted = float(limit["count"]), float(limit["wanted"])

    def _floor(self, rows: Rows) -> float:
        """The target and the largest units that leave together, `round_to` of a group: to so much, or nearly, a removal may lead."""
        each = self._cost.gradient({name: torch.ones(len(theta), dtype=torch.float64) for name, theta, _ in rows})
        largest = self._budget.round_to * max((float(row.max()) for row in each.values()), default=0.0)
        return (self._limit.count + largest) / (1 - CLOSE)

    def _within(self, ranks: Mapping[str, Tensor], count: float, *, exchange: bool = True) -> dict[str, Tensor]:
        """The best that cost no more than a count."""
        return Ranked(ranks, self._budget.round_to, self._blocks).within(self._cost.of, count, exchange=exchange)

    def _share(self, step: int) -> float:
        """The reference: the share of the dense count wanted at a step."""
        warm, share = self._warm, self._limit.count / self._limit.dense
        way = max(0.0, step - warm) / max(1.0, ARRIVAL * self._last - warm)
        return share + (1 - share) * (1 - min(1.0, way)) ** 3

    @property
    def _warm(self) -> int:
        return min(WARMUP, self._last // 10)

    def _behind(self, rows: Rows, wanted: float) -> float:
        """How many times the wanted cost the gates at θ ≥ ½ have, from 1 to `MOST_BEHIND`."""
        cost = self._cost.of({name: (theta >= 0.5).cpu() for name, theta, _ in rows})
        return min(MOST_BEHIND, max(1.0, cost / wanted))

    def _move(self, worth: float, steps: int) -> None:
        """log ν towards log worth, as far as the steps since the last move allow."""
        now = self._costed.nats
        goal = math.log(max(worth, now / 10)) - math.log(now)
        gain = min(1.0, steps / (RESPONSE * self._fall))
        self._costed.nats = now * math.exp(max(-LARGEST_MOVE, min(LARGEST_MOVE, gain * goal)))

    def _worth(self, step: int, rows: Rows) -> dict[str, Tensor]:
        """q per unit, float64 on the CPU: infinite where closing it saves nothing."""
        savings = self._costed.savings({name: theta for name, theta, _ in rows})
        begun = ema_weight(step)
        return {name: usefulness.double().cpu() / begun / savings[name].clamp(min=1e-12) for name, _, usefulness in rows}


def _ranks(rows: Rows, worth: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Places in one order of all units, the best highest: open, undecided, closed, and by worth among those."""
    every = torch.cat([worth[name] for name, _, _ in rows])
    place = torch.empty_like(every)
    place[every.argsort(stable=True)] = torch.arange(len(every), dtype=every.dtype)
    classes = [(theta > 1 - CLOSED).double() + (theta >= CLOSED) for _, theta, _ in rows]
    parts = torch.split(place, [len(theta) for _, theta, _ in rows])
    return {name: part + len(every) * kind.cpu() for (name, _, _), part, kind in zip(rows, parts, classes, strict=True)}
