"""What a user should know of a network that is handed back: it lost much at once at the end, or its weights are no numbers."""

from __future__ import annotations

import warnings
from collections.abc import Mapping

import torch
from torch import nn

from parsinet.errors import ParsinetWarning

AT_ONCE = 0.1
"""Part of all units that may leave at the end of a run that was cut short before that is told."""


def tell_early(step: int, steps: int | None, before: Mapping[str, int], after: Mapping[str, int]) -> None:
    """Warn where a run that ended at `step` of the `steps` it was told lets go of much at its end. before, after: widths."""
    units = sum(before.values())
    gone = units - sum(after.values())
    if gone > AT_ONCE * units:
        warnings.warn(
            f"Pruner: the run was told to have {steps} steps and finishes after {step}, so {gone} of {units} units leave at once, and the "
            "network has not trained without them. Tell Pruner the steps that the run has, or go on until `settled`.",
            ParsinetWarning,
            stacklevel=3,
        )


@torch.no_grad()
def tell_diverged(model: nn.Module) -> None:
    """Warn where weights are not finite."""
    named = list(model.named_parameters())
    broken = [name for name, parameter in named if not parameter.is_meta and not bool(parameter.isfinite().all())]
    if broken:
        warnings.warn(
            f"Pruner: {len(broken)} of {len(named)} parameters of the finished network hold numbers that are not finite, {broken[0]} among "
            "them: the training has diverged. Go back to an earlier checkpoint, with a lower learning rate.",
            ParsinetWarning,
            stacklevel=3,
        )
