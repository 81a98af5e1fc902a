"""Choosing exactly k entries by score, over one tensor or several pooled; equal scores go to the lower index."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from parsinet.errors import UsageError
from parsinet.topology.distribution import Wanted


def top_k(scores: Tensor, k: int, allowed: Tensor | None = None) -> Tensor:
    """Bool mask of exactly the k highest scores among the allowed entries (bool, default all), any shape; ties go to lower indices.

    Raises UsageError if fewer than k entries are allowed or one of their scores is not a number.
    """
    if k <= 0:
        return torch.zeros(scores.shape, dtype=torch.bool, device=scores.device)
    flat = scores.detach().flatten()
    among = None if allowed is None else allowed.flatten()
    limit = _kth_highest(flat, k, among)
    chosen = flat >= limit if among is None else (flat >= limit) & among
    surplus = count(chosen) - k
    if surplus:
        equal = (chosen & (flat == limit)).nonzero().flatten()
        chosen[equal[-surplus:]] = False
    return chosen.view(scores.shape)


def choose(scores: Mapping[str, Tensor], wanted: Wanted, allowed: Mapping[str, Tensor] | None = None) -> dict[str, Tensor]:
    """Per tensor the bool mask of its chosen entries: the best `wanted` of all tensors pooled, or of each tensor its own number.

    Pooled ties go to earlier tensors, then lower indices. Raises UsageError as `top_k`.
    """
    if not isinstance(wanted, int):
        return {name: top_k(score, wanted[name], None if allowed is None else allowed[name]) for name, score in scores.items()}
    pool = None if allowed is None else torch.cat([allowed[name].flatten() for name in scores])
    chosen = top_k(torch.cat([score.detach().flatten() for score in scores.values()]), wanted, pool)
    parts = torch.split(chosen, [score.numel() for score in scores.values()])
    return {name: part.view(score.shape) for (name, score), part in zip(scores.items(), parts, strict=True)}


def count(mask: Tensor) -> int:
    """True entries; several times faster than a sum."""
    return int(torch.count_nonzero(mask))


def _kth_highest(flat: Tensor, k: int, among: Tensor | None) -> float:
    """The k-th highest value. NumPy's selection is several times faster than torch's on the CPU; NaN sorts highest in both."""
    if flat.device.type == "cpu" and flat.dtype in (torch.float32, torch.float64):
        array = flat.numpy() if among is None else flat.numpy()[among.numpy()]
        _enough(k, len(array))
        place = len(array) - k
        highest = torch.from_numpy(np.partition(array, place)[place:])
    else:
        values = flat if among is None else flat[among]
        _enough(k, len(values))
        highest = values.topk(k, sorted=False).values
    if bool(highest.max().isnan()):
        raise UsageError("top_k: a score is not a number.")
    return float(highest.min())


def _enough(k: int, entries: int) -> None:
    if k > entries:
        raise UsageError(f"top_k: {k:,} entries cannot be chosen from {entries:,}.")
