"""Which units stay when the lowest-scored share of them leaves: per group or over all groups together."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor

SCOPES = ("layer", "global")


def keep_best(
    scores: Mapping[str, Tensor], original: Mapping[str, int], share: float, *, scope: str = "layer", min_units: int = 1
) -> dict[str, Tensor]:
    """Masks after which `share` of the original units are gone, lowest scores first.

    scores: per group [units now], higher stays. original: units each group began with. With n original units the threshold is the share-th
    percentile between their scores, units that left before counting as the lowest; what lies strictly below it leaves, so equal scores
    stay together and share 1 keeps the best. scope "layer": a threshold for every group; "global": one for all. min_units: so many of the
    best stay in every group.
    Source: the percentile rule of the authors' code for Buffoni et al., arXiv 2108.00940; counting gone units is ours.
    """
    if scope == "layer":
        thresholds = {name: _threshold(row, original[name], share) for name, row in scores.items()}
    else:
        pooled = torch.cat(list(scores.values()))
        thresholds = dict.fromkeys(scores, _threshold(pooled, sum(original[name] for name in scores), share))
    return {name: _at_least(row >= thresholds[name], row, min_units) for name, row in scores.items()}


def _threshold(present: Tensor, original: int, share: float) -> float:
    """The lowest score that stays. Of n distinct scores ⌈(n − 1)·share⌉ lie below their percentile."""
    leaving = math.ceil(round((original - 1) * share, 9)) - (original - len(present))
    return float(present.sort().values[leaving]) if leaving > 0 else -math.inf


def _at_least(mask: Tensor, scores: Tensor, min_units: int) -> Tensor:
    if int(mask.sum()) >= min_units:
        return mask
    result = torch.zeros_like(mask)
    result[scores.topk(min(min_units, len(scores))).indices] = True
    return result


def round_up(mask: Tensor, scores: Tensor | None, multiple: int) -> Tensor:
    """Let the best of the leaving units stay until the number kept is a multiple (or all are kept).

    mask: bool [n], True stays. scores: [n], higher stays first; without scores earlier units stay first. Returns a bool mask.
    """
    return keep_more(mask, scores, -int(mask.sum()) % multiple)


def keep_more(mask: Tensor, scores: Tensor | None, number: int) -> Tensor:
    """Let a number of the leaving units stay, or all of them; arguments and result as of `round_up`."""
    missing = min(number, len(mask) - int(mask.sum()))
    if missing <= 0:
        return mask
    order = torch.arange(len(mask), 0, -1).float() if scores is None else scores.detach().float().cpu()
    extra = order.masked_fill(mask, -torch.inf).topk(missing).indices
    result = mask.clone()
    result[extra] = True
    return result
