"""Which units stay if the best of them are to fit into a budget."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from functools import cached_property

import torch
from torch import Tensor

from parsinet.methods.ranking import round_up

Cost = Callable[[Mapping[str, Tensor]], float]
"""Masks of what stays → what it costs."""

CLOSE = 0.01
"""Once the budget is used up to this part, no worse unit is taken in only to fill it."""


@dataclass(frozen=True)
class Ranked:
    """Units of all groups in one order, the best first.

    ranks: per group [units], higher stays. round_to: numbers of units are multiples of it, or all. Every group but those of `may_empty`
    (blocks) keeps its best unit, whatever it costs. kept: per group a mask of units that stay in any case, too.
    """

    ranks: Mapping[str, Tensor]
    round_to: int = 1
    may_empty: Collection[str] = ()
    kept: Mapping[str, Tensor] = field(default_factory=dict)

    def within(self, cost: Cost, limit: float, *, exchange: bool = True) -> dict[str, Tensor]:
        """Masks of the units that stay: the longest row of best units whose cost is within `limit`, then what else fits, see `fill`.

        The cost of the result is above `limit` only if already those cost more that stay in any case.
        """
        return self.fill(cost, self._first(self.longest(cost, limit)), limit, exchange=exchange)

    def longest(self, cost: Cost, limit: float) -> int:
        """How many of the best units fit into `limit` together, those that stay in any case counted first and always."""
        return _most(lambda count: cost(self._first(count)) <= limit, self._always(self.ranks), len(self._order))

    def boundary(self, cost: Cost, limit: float) -> float | None:
        """The rank of the best unit that does not fit into `limit`; None if all fit."""
        count = self.longest(cost, limit)
        return None if count == len(self._order) else float(torch.cat(list(self.ranks.values()))[self._order[count]])

    def fill(self, cost: Cost, masks: dict[str, Tensor], limit: float, *, exchange: bool = True) -> dict[str, Tensor]:
        """Take further units in, the best that cost something and fit first, until the limit is used up to `CLOSE` of it.

        exchange: where none fits, one that is too large may take the place of the worst small ones, if the limit is better used then.
        Groups of `may_empty` are not taken in to fill what is left of a limit, unless there are no others.
        """
        while limit - cost(masks) >= 0 and limit - cost(masks) > CLOSE * limit:
            larger = [self._with_next(masks, name) for name in self._by_next(masks)]
            found = next((more for more in larger if cost(masks) < cost(more) <= limit), None)
            if found is None and exchange:
                found = max((self._without_worst(cost, more, masks, limit) for more in larger), key=cost, default=None)
            if found is None or not cost(masks) < cost(found) <= limit:
                break
            masks = found
        return masks

    @cached_property
    def _order(self) -> Tensor:
        """Places in the row of all units; those that stay in any case come first."""
        return self._sorted(self.ranks)

    def _sorted(self, ranks: Mapping[str, Tensor]) -> Tensor:
        lifted = []
        for name, row in ranks.items():
            values = row.detach().double().cpu().clone()
            if name in self.kept:
                values[self.kept[name]] = torch.inf
            if name not in self.may_empty:
                values[values.argmax()] = torch.inf
            lifted.append(values)
        return torch.cat(lifted).argsort(descending=True, stable=True) if lifted else torch.empty(0, dtype=torch.int64)

    def _always(self, groups: Collection[str]) -> int:
        """How many units of these groups stay in any case."""
        kept = {name: int(mask.sum()) for name, mask in self.kept.items()}
        return sum(max(kept.get(name, 0), int(name not in self.may_empty)) for name in groups)

    def _first(self, count: int, order: Tensor | None = None, groups: Collection[str] | None = None) -> dict[str, Tensor]:
        """Masks of so many units of an order over some groups, by default of all."""
        order = self._order if order is None else order
        ranks = self.ranks if groups is None else {name: self.ranks[name] for name in groups}
        row = torch.zeros(len(order), dtype=torch.bool)
        row[order[:count]] = True
        parts = torch.split(row, [len(rank) for rank in ranks.values()])
        return {name: round_up(mask, rank, self.round_to) for (name, rank), mask in zip(ranks.items(), parts, strict=True)}

    def _by_next(self, masks: Mapping[str, Tensor]) -> list[str]:
        """Groups that could take in another unit, by how good it is."""
        growing = [name for name in self.ranks if name not in self.may_empty] or list(self.ranks)
        best = {name: float(self.ranks[name].detach().cpu()[~masks[name]].max()) for name in growing if not masks[name].all()}
        return sorted(best, key=lambda name: -best[name])

    def _with_next(self, masks: Mapping[str, Tensor], name: str) -> dict[str, Tensor]:
        rank, larger = self.ranks[name], masks[name].clone()
        larger[rank.detach().cpu().double().masked_fill(larger, -torch.inf).argmax()] = True
        return {**masks, name: round_up(larger, rank, self.round_to)}

    def _without_worst(self, cost: Cost, larger: Mapping[str, Tensor], masks: Mapping[str, Tensor], limit: float) -> dict[str, Tensor]:
        """`larger` without as many of the worst units as make it fit; those of the group that grew stay."""
        groups = [name for name in self.ranks if torch.equal(larger[name], masks[name])]
        order = self._sorted({name: self.ranks[name].detach().double().cpu().masked_fill(~larger[name], -torch.inf) for name in groups})

        def of(count: int) -> dict[str, Tensor]:
            return {**larger, **self._first(count, order, groups)}

        most = sum(int(larger[name].sum()) for name in groups)
        return of(_most(lambda count: cost(of(count)) <= limit, self._always(groups), most)) if groups else dict(larger)


def smallest(cost: Cost, sizes: Mapping[str, int], round_to: int = 1, *, may_empty: Collection[str] = ()) -> float:
    """What remains if every group keeps one unit only (or `round_to`), and those of `may_empty` none."""
    return cost({name: torch.arange(size) < (0 if name in may_empty else round_to) for name, size in sizes.items()})


def _most(fits: Callable[[int], bool], low: int, high: int) -> int:
    """The largest number up to `high` that fits, if what is larger does not; `low` if none above it does."""
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if fits(middle) else (low, middle - 1)
    return low
