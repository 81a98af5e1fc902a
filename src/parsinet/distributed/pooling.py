"""What each rank has found of named things, as one mean for all."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from parsinet.distributed.ranks import Ranks


def pooled(found: Mapping[str, Tensor], every: Mapping[str, Tensor], ranks: Ranks) -> dict[str, Tensor]:
    """The mean over ranks by name, in one all-reduce. every: all names, the same on all ranks, each with a tensor of its shape.

    Where a rank has found nothing, its part of the loss does not depend on it, and it counts as zero. Names that no rank has found are
    missing. Values that are not finite stay so for all.
    """
    if ranks.size == 1:
        return dict(found)
    if not every:
        return {}
    values = [found[name].detach() if name in found else torch.zeros_like(like, requires_grad=False) for name, like in every.items()]
    heard = torch.tensor([float(name in found) for name in every], device=values[0].device, dtype=values[0].dtype)
    *means, heard = ranks.mean([*values, heard])
    return {name: mean for name, mean, share in zip(every, means, heard.tolist(), strict=True) if share > 0}
