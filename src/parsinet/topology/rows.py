"""What a weight is worth among the weights of its unit: thresholds and scores per row, a row being one output unit."""

from __future__ import annotations

import torch
from torch import Tensor


def mean_active(weight: Tensor, mask: Tensor, unit_dim: int = 0) -> Tensor:
    """Mean of |w| over the active entries of each row, 0 for a row without any; shape [rows] kept broadcastable to the weight."""
    over = _others(weight, unit_dim)
    kept = mask.to(weight.dtype)
    total: Tensor = (weight.abs() * kept).sum(over, keepdim=True)
    return total / kept.sum(over, keepdim=True).clamp(min=1)


def above_threshold(weight: Tensor, mask: Tensor, rate: float, unit_dim: int = 0) -> Tensor:
    """Active entries with |w| ≥ h_r, h_r = rate · mean of |w| over the row's active entries.

    For rate ≤ 1 a row keeps its largest entry, since no mean exceeds the maximum: the threshold alone empties no row. The row's largest
    entries stay even where the mean is rounded up. Source: authors' code of arXiv 2103.16013.
    """
    magnitude = weight.abs()
    largest = magnitude.masked_fill(~mask, 0).amax(_others(weight, unit_dim), keepdim=True)
    threshold = torch.minimum(rate * mean_active(weight, mask, unit_dim), largest)
    return mask & (magnitude >= threshold)


def relative_magnitude(weight: Tensor, mask: Tensor, unit_dim: int = 0) -> Tensor:
    """|w| over the mean |w| of the row's active entries, so that rows of any scale compete; 0 in rows of zeros."""
    mean = mean_active(weight, mask, unit_dim)
    return weight.abs() / torch.where(mean > 0, mean, 1.0)


def relative_gradient(gradient: Tensor, unit_dim: int = 0) -> Tensor:
    """|g| / ‖g_r‖₂, so that rows of any scale compete; 0 in rows of zeros. The sign of g does not matter."""
    magnitude = gradient.abs()
    largest = magnitude.amax(_others(gradient, unit_dim), keepdim=True)
    scaled = magnitude / torch.where(largest > 0, largest, 1.0)
    norm: Tensor = scaled.square().sum(_others(gradient, unit_dim), keepdim=True).sqrt()
    return scaled / torch.where(norm > 0, norm, 1.0)


def strongest(weight: Tensor, mask: Tensor, least: int, unit_dim: int = 0) -> Tensor:
    """The `least` largest active entries of every row (all of a row that has fewer): those that must not be dropped."""
    rows = weight.abs().masked_fill(~mask, -1.0).transpose(0, unit_dim)
    flat = rows.flatten(1)
    best = flat.topk(min(least, flat.shape[1]), dim=1).indices
    chosen = torch.zeros_like(flat, dtype=torch.bool).scatter_(1, best, True).view(rows.shape).transpose(0, unit_dim)
    return chosen & mask


def _others(weight: Tensor, unit_dim: int) -> tuple[int, ...]:
    return tuple(dim for dim in range(weight.dim()) if dim != unit_dim)
