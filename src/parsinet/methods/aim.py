"""A target for methods that remove a share of the lowest-scored units: the share is found on the plan, not guessed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from parsinet.methods.limits import Limit
from parsinet.methods.ranking import round_up
from parsinet.methods.trimming import CLOSE, Ranked, smallest
from parsinet.structure import Plan

HALVINGS = 40

ByShare = Callable[[float], Mapping[str, Tensor]]
"""Share of the original units that leaves → masks over the present ones."""


class Aim:
    """Finds what stays so that the network meets a target of multiply-adds, parameters or bytes, and keeps what it came to.

    limit: the target, for the plain network as it is before anything leaves. sizes: units per group that may lose some. round_to: numbers
    of units are multiples of it, or all. least: units that stay in every group. left_out: the other groups, each with the reason. The
    cost is that of the original with masks over its units, so that it needs no model later.
    Raises UsageError for a target the method cannot reach.
    """

    def __init__(
        self, limit: Limit, sizes: Mapping[str, int], round_to: int, least: int = 1, left_out: Mapping[str, str] | None = None
    ) -> None:
        self._limit, self._cost, self._round_to = limit, limit.whole, round_to
        self._there = {name: torch.ones(size, dtype=torch.bool) for name, size in sizes.items()}
        self._reached: float | None = None
        limit.check(smallest(self._cost.of, sizes, max(least, round_to)), left_out)

    def choose(self, best: ByShare, scores: Mapping[str, Tensor], progress: float) -> tuple[dict[str, Tensor], float]:
        """What stays when part `progress` of the way to the target is gone, and the share that is.

        On the way the largest share whose rounded plan is not below what is wanted by then: what has left cannot come back, and a large
        unit whose turn comes late must find small ones that can stay in its place. At the end the smallest share whose plan fits, and what
        else fits is taken in, best scores first.
        """
        allowed = self._limit.dense - progress * (self._limit.dense - self._limit.count)
        low, high = 0.0, 1.0
        for _ in range(HALVINGS):
            middle = (low + high) / 2
            low, high = (low, middle) if self._of(self._rounded(best(middle), scores)) <= allowed else (middle, high)
        if progress < 1:
            return self._rounded(best(low), scores), low
        return Ranked(scores, self._round_to).fill(self._of, self._rounded(best(high), scores), allowed), high

    def held(self, masks: Mapping[str, Tensor], ranks: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """What stays on the way: these units, and the best of the others while the target and the largest unit have room for them.

        What is left beyond the target fills, at the end, the room that a large unit makes when it is one too many.
        """
        kept = Ranked(ranks, self._round_to, kept=self._rounded(masks, ranks))
        return kept.within(self._of, (self._limit.count + self._largest()) / (1 - CLOSE), exchange=False)

    def filled(self, masks: Mapping[str, Tensor], ranks: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """These units, and the best of the others that the target has room for; none of these gives way to one."""
        return Ranked(ranks, self._round_to, kept=self._rounded(masks, ranks)).within(self._of, self._limit.count)

    def best(self, masks: Mapping[str, Tensor], ranks: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The best units of `masks`, one of every group at least, that fit under the target together; all, where these do.

        The others fill what room these leave, and make their numbers up to multiples of round_to.
        """
        filled, count = self.filled(masks, ranks), self._limit.count
        if self._of(filled) <= count:
            return filled
        live = {name: mask.cpu() for name, mask in masks.items()}

        def whole(chosen: Mapping[str, Tensor]) -> dict[str, Tensor]:
            return self._rounded({name: _spread(live[name], mask) for name, mask in chosen.items()}, ranks)

        among = Ranked({name: ranks[name].detach().cpu()[mask] for name, mask in live.items()}, self._round_to)
        kept = whole(among.within(lambda chosen: self._of(whole(chosen)), count))
        return Ranked(ranks, self._round_to, kept=kept).fill(self._of, kept, count)

    def caution(self, masks: Mapping[str, Tensor], above: str, below: str) -> None:
        """Warn if what these masks of live units leave is far above the target, or far below. above, below: what to do then."""
        found = self._of(masks)
        self._limit.caution(found, above)
        self._limit.regret(found, below)

    def judge(self, masks: Mapping[str, Tensor]) -> None:
        """Keep what the network with the units under `masks` comes to; warn if that is not near the target."""
        reached = self._of(masks)
        self._limit.judge(reached)
        self._reached = reached

    def removed(self, plan: Plan) -> None:
        """Follow a removal."""
        for name, mask in plan.masks().items():
            if name in self._there:
                self._there[name] = self._original(name, mask)

    def told(self) -> dict[str, Any]:
        """The target, for the record."""
        return {"target": self._limit.told(self._reached)}

    def state_dict(self) -> dict[str, Any]:
        """What was reached."""
        return {"reached": self._reached}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue where `state_dict` was taken."""
        self._reached = state["reached"]

    def _largest(self) -> float:
        """What the largest unit costs that is there, or round_to of its group."""
        each = self._cost.gradient(self._there)
        return self._round_to * max(float(row[self._there[name]].max()) for name, row in each.items())

    def _of(self, masks: Mapping[str, Tensor]) -> float:
        return self._cost.of({name: self._original(name, masks[name]) if name in masks else there for name, there in self._there.items()})

    def _original(self, name: str, mask: Tensor) -> Tensor:
        """A mask over the present units as one over the original ones."""
        return _spread(self._there[name], mask.cpu())

    def _rounded(self, masks: Mapping[str, Tensor], scores: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return {name: round_up(mask.cpu(), scores[name], self._round_to) for name, mask in masks.items()}


def _spread(there: Tensor, mask: Tensor) -> Tensor:
    """A mask over the units under `there` as one over all."""
    return there.masked_scatter(there, mask)
