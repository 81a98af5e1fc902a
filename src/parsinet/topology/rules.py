"""Rules that turn masks into new masks: prune by magnitude, exchange weights, evolve to a count; pure functions, nothing is applied."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from parsinet.errors import UsageError
from parsinet.topology.distribution import Wanted
from parsinet.topology.rows import above_threshold, relative_gradient, relative_magnitude, strongest
from parsinet.topology.selection import choose, count, top_k

Tensors = Mapping[str, Tensor]
UnitDims = Mapping[str, int]


def prune(scores: Tensors, masks: Tensors, wanted: Wanted) -> dict[str, Tensor]:
    """The `wanted` active entries of highest score, pooled or per tensor; nothing comes back. Where fewer are active all stay."""
    present = {name: count(mask) for name, mask in masks.items()}
    limited = min(wanted, sum(present.values())) if isinstance(wanted, int) else {name: min(wanted[name], present[name]) for name in masks}
    return choose(scores, limited, masks)


def scatter(masks: Tensors, wanted: Wanted, lots: Tensors, *, least: int = 0, unit_dims: UnitDims | None = None) -> dict[str, Tensor]:
    """Random masks: the `wanted` entries of highest lot, among them the `least` highest of every row, if unit_dims are given."""
    ranks = {name: lots[name] for name in masks}
    if least and unit_dims is not None:
        firsts = {name: strongest(lot, torch.ones_like(lot, dtype=torch.bool), least, unit_dims[name]) for name, lot in ranks.items()}
        ranks = {name: lot + firsts[name] for name, lot in ranks.items()}
    return choose(ranks, wanted)


def exchange(weights: Tensors, masks: Tensors, growth: Tensors, rate: float, *, by_sign: bool = False) -> dict[str, Tensor]:
    """Per tensor, drop the share `rate` of the active entries, the smallest |w|, and activate as many of all the others, best growth first.

    by_sign: drop the share of the positive and of the negative entries that is nearest to zero, each by itself. Dropped entries compete
    for their return. The number of active entries of each tensor stays, exactly.
    """
    masks_after = {}
    for name, mask in masks.items():
        kept = _kept_by_sign(weights[name], mask, rate) if by_sign else _kept(weights[name].abs(), mask, rate)
        masks_after[name] = kept | top_k(growth[name], count(mask) - count(kept), ~kept)
    return masks_after


def evolve(
    weights: Tensors,
    masks: Tensors,
    gradients: Tensors,
    rate: float,
    wanted: Wanted,
    *,
    unit_dims: UnitDims,
    least: int = 1,
    dropped: float = 1.0,
) -> dict[str, Tensor]:
    """Drop what lies below its row's threshold, then grow or drop to exactly `wanted` active entries.

    K = {active, |w| ≥ h_r or among the `least` largest of its row}, h_r = rate · mean active |w_r|; of the other active entries only the
    share `dropped` with the smallest |w|/mean |w_r| stays outside of K. With fewer than wanted in K the entries outside of highest
    |g|/‖g_r‖₂ join; with more, those of lowest |w|/mean |w_r| leave, but the `least` largest of each row stay.
    Scores are pooled over all tensors, or ranked within each where wanted is a mapping.
    Raises UsageError if wanted is below what the floor holds. Source: authors' code of arXiv 2103.16013; exact counts are ours.
    """
    drop = {name: relative_magnitude(weight, masks[name], unit_dims[name]) for name, weight in weights.items()}
    safe = {name: strongest(weight, masks[name], least, unit_dims[name]) for name, weight in weights.items()}
    kept = {name: above_threshold(weight, masks[name], rate, unit_dims[name]) | safe[name] for name, weight in weights.items()}
    if dropped < 1:
        kept = {name: mask | _spared(drop[name], masks[name] & ~mask, dropped) for name, mask in kept.items()}
    drop = {name: score.masked_fill(safe[name], torch.inf) for name, score in drop.items()}
    grow = {name: relative_gradient(gradient, unit_dims[name]) for name, gradient in gradients.items()}
    if not isinstance(wanted, int):
        return {name: _to_count({name: kept[name]}, drop, grow, number)[name] for name, number in wanted.items()}
    return _to_count(kept, drop, grow, wanted)


def regrow(
    weights: Tensors, masks: Tensors, gradients: Tensors, rate: float, share: float, *, unit_dims: UnitDims, least: int = 1
) -> dict[str, Tensor]:
    """Drop what lies below its row's threshold; per tensor, as many as ⌊share · dropped⌋ others of highest |g|/‖g_r‖₂ join.

    The `least` largest of every row stay; one does by itself. The rule of the authors' code of arXiv 2103.16013, with the magnitude of
    the gradient where the code takes its signed value; `BangBang` gives the share.
    """
    after = {}
    for name, weight in weights.items():
        safe = strongest(weight, masks[name], least, unit_dims[name])
        kept = above_threshold(weight, masks[name], rate, unit_dims[name]) | safe
        number = min(count(~kept), int(share * (count(masks[name]) - count(kept))))
        after[name] = kept | top_k(relative_gradient(gradients[name], unit_dims[name]), number, ~kept)
    return after


def _spared(score: Tensor, below: Tensor, dropped: float) -> Tensor:
    return top_k(score, count(below) - round(dropped * count(below)), below)


def _to_count(kept: Tensors, drop: Tensors, grow: Tensors, wanted: int) -> dict[str, Tensor]:
    """Grow or drop over the tensors of `kept`, pooled, until exactly `wanted` entries are active."""
    have = sum(count(mask) for mask in kept.values())
    if have >= wanted:
        held = sum(count(drop[name] == torch.inf) for name in kept)
        if held > wanted:
            raise UsageError(f"evolve: {wanted:,} weights are to stay active, but the floor per row holds {held:,}; lower one of them.")
        return choose({name: drop[name] for name in kept}, wanted, kept)
    grown = choose({name: grow[name] for name in kept}, wanted - have, {name: ~mask for name, mask in kept.items()})
    return {name: mask | grown[name] for name, mask in kept.items()}


def _kept(magnitude: Tensor, mask: Tensor, rate: float) -> Tensor:
    active = count(mask)
    return top_k(magnitude, active - int(rate * active), mask)


def _kept_by_sign(weight: Tensor, mask: Tensor, rate: float) -> Tensor:
    """Zeros count as positive."""
    positive = weight >= 0
    return _kept(weight, mask & positive, rate) | _kept(-weight, mask & ~positive, rate)
