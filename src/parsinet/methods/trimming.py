"""Which units stay if the best of them are to fit into a budget."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from parsinet.gates.prices import Complexity
from parsinet.methods.ranking import round_up

Cost = Callable[[Mapping[str, Tensor]], float]

CLOSE = 0.01
"""Once the budget is used up to this part, no worse unit is taken in only to fill it."""


def keep_within(
    cost: Complexity, ranks: Mapping[str, Tensor], limit: float, *, round_to: int = 1, exchange: bool = True
) -> dict[str, Tensor]:
    """Masks of the units that stay: the longest row of best units whose cost is within `limit`, then what else fits, see `fill`.

    ranks: per group [units], higher stays. Every group keeps its best unit, whatever it costs. round_to: numbers of units are multiples of
    it, or all. The cost of the result is above `limit` only if already the best units of all groups cost more.
    """
    order = _order(ranks)
    masks = _first(ranks, order, longest(cost, ranks, limit, order=order, round_to=round_to), round_to)
    return fill(cost.of, masks, ranks, limit, round_to, exchange=exchange)


def fill(
    cost: Cost, masks: dict[str, Tensor], ranks: Mapping[str, Tensor], limit: float, round_to: int = 1, *, exchange: bool = True
) -> dict[str, Tensor]:
    """Take further units in, the best that fit first, until the limit is used up to `CLOSE` of it.

    exchange: where none fits, one that is too large may take the place of the worst small ones, if the limit is better used then.
    """
    while limit - cost(masks) >= 0 and limit - cost(masks) > CLOSE * limit:
        larger = [_with_next(masks, name, ranks, round_to) for name in _by_next(masks, ranks)]
        found = next((more for more in larger if cost(more) <= limit), None)
        if found is None and exchange:
            exchanged = (_without_worst(cost, more, masks, ranks, limit, round_to) for more in larger)
            found = max(exchanged, key=cost, default=None)
        if found is None or not cost(masks) < cost(found) <= limit:
            break
        masks = found
    return masks


def _without_worst(
    cost: Cost, larger: Mapping[str, Tensor], masks: Mapping[str, Tensor], ranks: Mapping[str, Tensor], limit: float, round_to: int
) -> dict[str, Tensor]:
    """`larger` without as many of the worst units as make it fit; those of the group that grew stay."""
    fixed = {name for name in larger if not torch.equal(larger[name], masks[name])}
    open_to_go = {name: row.detach().double().cpu().masked_fill(~larger[name], -torch.inf) for name, row in ranks.items()}
    kept = {name: row for name, row in open_to_go.items() if name not in fixed}
    order = _order(kept) if kept else torch.empty(0, dtype=torch.int64)
    low, high = min(len(kept), len(order)), sum(int(larger[name].sum()) for name in kept)

    def of(count: int) -> dict[str, Tensor]:
        return {**larger, **_first({name: ranks[name] for name in kept}, order, count, round_to)}

    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if cost(of(middle)) <= limit else (low, middle - 1)
    return of(low) if kept else dict(larger)


def longest(cost: Complexity, ranks: Mapping[str, Tensor], limit: float, *, order: Tensor | None = None, round_to: int = 1) -> int:
    """How many of the best units fit into `limit` together, each group's best counted first and always."""
    order = _order(ranks) if order is None else order
    low, high = len(ranks), len(order)
    while low < high:
        middle = (low + high + 1) // 2
        if cost.of(_first(ranks, order, middle, round_to)) <= limit:
            low = middle
        else:
            high = middle - 1
    return low


def boundary(cost: Complexity, ranks: Mapping[str, Tensor], limit: float) -> float | None:
    """The rank of the best unit that does not fit into `limit`; None if all fit."""
    order = _order(ranks)
    count = longest(cost, ranks, limit, order=order)
    return None if count == len(order) else float(torch.cat(list(ranks.values()))[order[count]])


def smallest(cost: Complexity, sizes: Mapping[str, int], round_to: int = 1) -> float:
    """What remains if every group keeps one unit only (or `round_to`)."""
    return cost.of({name: torch.arange(size) < round_to for name, size in sizes.items()})


def _order(ranks: Mapping[str, Tensor]) -> Tensor:
    """Units of all groups in one row, the best first; before them the best of every group."""
    lifted = []
    for row in ranks.values():
        values = row.detach().double().cpu().clone()
        values[values.argmax()] = torch.inf
        lifted.append(values)
    return torch.cat(lifted).argsort(descending=True, stable=True)


def _first(ranks: Mapping[str, Tensor], order: Tensor, count: int, round_to: int) -> dict[str, Tensor]:
    row = torch.zeros(len(order), dtype=torch.bool)
    row[order[:count]] = True
    parts = torch.split(row, [len(rank) for rank in ranks.values()])
    return {name: round_up(mask, rank, round_to) for (name, rank), mask in zip(ranks.items(), parts, strict=True)}


def _by_next(masks: Mapping[str, Tensor], ranks: Mapping[str, Tensor]) -> list[str]:
    """Groups that could take in another unit, by how good it is."""
    best = {name: float(ranks[name].detach().cpu()[~mask].max()) for name, mask in masks.items() if not mask.all()}
    return sorted(best, key=lambda name: -best[name])


def _with_next(masks: Mapping[str, Tensor], name: str, ranks: Mapping[str, Tensor], round_to: int) -> dict[str, Tensor]:
    larger = masks[name].clone()
    larger[ranks[name].detach().cpu().double().masked_fill(larger, -torch.inf).argmax()] = True
    return {**masks, name: round_up(larger, ranks[name], round_to)}
