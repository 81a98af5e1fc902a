"""Which units stay if the best of them are to fit into a budget."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping

import torch
from torch import Tensor

from parsinet.gates.prices import Complexity
from parsinet.methods.ranking import round_up

Cost = Callable[[Mapping[str, Tensor]], float]

CLOSE = 0.01
"""Once the budget is used up to this part, no worse unit is taken in only to fill it."""


def keep_within(
    cost: Complexity,
    ranks: Mapping[str, Tensor],
    limit: float,
    *,
    round_to: int = 1,
    exchange: bool = True,
    may_empty: Collection[str] = (),
) -> dict[str, Tensor]:
    """Masks of the units that stay: the longest row of best units whose cost is within `limit`, then what else fits, see `fill`.

    ranks: per group [units], higher stays. Every group but those of `may_empty` (blocks) keeps its best unit, whatever it costs. round_to:
    numbers of units are multiples of it, or all. The cost of the result is above `limit` only if already those best units cost more.
    """
    order = _order(ranks, may_empty)
    masks = _first(ranks, order, longest(cost, ranks, limit, order=order, round_to=round_to, may_empty=may_empty), round_to)
    return fill(cost.of, masks, ranks, limit, round_to, exchange=exchange, may_empty=may_empty)


def fill(
    cost: Cost,
    masks: dict[str, Tensor],
    ranks: Mapping[str, Tensor],
    limit: float,
    round_to: int = 1,
    *,
    exchange: bool = True,
    may_empty: Collection[str] = (),
) -> dict[str, Tensor]:
    """Take further units in, the best that cost something and fit first, until the limit is used up to `CLOSE` of it.

    exchange: where none fits, one that is too large may take the place of the worst small ones, if the limit is better used then.
    Groups of `may_empty` (blocks) are not taken in to fill what is left of a limit, unless there are no others.
    """
    growing = {name: row for name, row in ranks.items() if name not in may_empty} or ranks
    while limit - cost(masks) >= 0 and limit - cost(masks) > CLOSE * limit:
        larger = [_with_next(masks, name, ranks, round_to) for name in _by_next(masks, growing)]
        found = next((more for more in larger if cost(masks) < cost(more) <= limit), None)
        if found is None and exchange:
            exchanged = (_without_worst(cost, more, masks, ranks, limit, round_to, may_empty) for more in larger)
            found = max(exchanged, key=cost, default=None)
        if found is None or not cost(masks) < cost(found) <= limit:
            break
        masks = found
    return masks


def _without_worst(
    cost: Cost,
    larger: Mapping[str, Tensor],
    masks: Mapping[str, Tensor],
    ranks: Mapping[str, Tensor],
    limit: float,
    round_to: int,
    may_empty: Collection[str],
) -> dict[str, Tensor]:
    """`larger` without as many of the worst units as make it fit; those of the group that grew stay."""
    fixed = {name for name in larger if not torch.equal(larger[name], masks[name])}
    open_to_go = {name: row.detach().double().cpu().masked_fill(~larger[name], -torch.inf) for name, row in ranks.items()}
    kept = {name: row for name, row in open_to_go.items() if name not in fixed}
    order = _order(kept, may_empty) if kept else torch.empty(0, dtype=torch.int64)
    low, high = min(_lifted(kept, may_empty), len(order)), sum(int(larger[name].sum()) for name in kept)

    def of(count: int) -> dict[str, Tensor]:
        return {**larger, **_first({name: ranks[name] for name in kept}, order, count, round_to)}

    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if cost(of(middle)) <= limit else (low, middle - 1)
    return of(low) if kept else dict(larger)


def longest(
    cost: Complexity,
    ranks: Mapping[str, Tensor],
    limit: float,
    *,
    order: Tensor | None = None,
    round_to: int = 1,
    may_empty: Collection[str] = (),
) -> int:
    """How many of the best units fit into `limit` together, the best of each group that may not be empty counted first and always."""
    order = _order(ranks, may_empty) if order is None else order
    low, high = _lifted(ranks, may_empty), len(order)
    while low < high:
        middle = (low + high + 1) // 2
        if cost.of(_first(ranks, order, middle, round_to)) <= limit:
            low = middle
        else:
            high = middle - 1
    return low


def boundary(cost: Complexity, ranks: Mapping[str, Tensor], limit: float, *, may_empty: Collection[str] = ()) -> float | None:
    """The rank of the best unit that does not fit into `limit`; None if all fit."""
    order = _order(ranks, may_empty)
    count = longest(cost, ranks, limit, order=order, may_empty=may_empty)
    return None if count == len(order) else float(torch.cat(list(ranks.values()))[order[count]])


def smallest(cost: Complexity, sizes: Mapping[str, int], round_to: int = 1, *, may_empty: Collection[str] = ()) -> float:
    """What remains if every group keeps one unit only (or `round_to`), and those of `may_empty` none."""
    return cost.of({name: torch.arange(size) < (0 if name in may_empty else round_to) for name, size in sizes.items()})


def _order(ranks: Mapping[str, Tensor], may_empty: Collection[str]) -> Tensor:
    """Units of all groups in one row, the best first; before them the best of every group that may not be empty."""
    lifted = []
    for name, row in ranks.items():
        values = row.detach().double().cpu().clone()
        if name not in may_empty:
            values[values.argmax()] = torch.inf
        lifted.append(values)
    return torch.cat(lifted).argsort(descending=True, stable=True)


def _lifted(ranks: Mapping[str, Tensor], may_empty: Collection[str]) -> int:
    """How many units stay in any case."""
    return sum(name not in may_empty for name in ranks)


def _first(ranks: Mapping[str, Tensor], order: Tensor, count: int, round_to: int) -> dict[str, Tensor]:
    row = torch.zeros(len(order), dtype=torch.bool)
    row[order[:count]] = True
    parts = torch.split(row, [len(rank) for rank in ranks.values()])
    return {name: round_up(mask, rank, round_to) for (name, rank), mask in zip(ranks.items(), parts, strict=True)}


def _by_next(masks: Mapping[str, Tensor], ranks: Mapping[str, Tensor]) -> list[str]:
    """Groups that could take in another unit, by how good it is."""
    best = {name: float(row.detach().cpu()[~masks[name]].max()) for name, row in ranks.items() if not masks[name].all()}
    return sorted(best, key=lambda name: -best[name])


def _with_next(masks: Mapping[str, Tensor], name: str, ranks: Mapping[str, Tensor], round_to: int) -> dict[str, Tensor]:
    larger = masks[name].clone()
    larger[ranks[name].detach().cpu().double().masked_fill(larger, -torch.inf).argmax()] = True
    return {**masks, name: round_up(larger, ranks[name], round_to)}
