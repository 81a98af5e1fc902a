"""A loss that is scaled before the backward pass (float16): what it makes of derivatives, and which steps are left out."""

import torch
from torch import Tensor

from parsinet.errors import ArgumentTypeError, UsageError, told
from parsinet.methods.base import Method


class Scale:
    """Follows the scale of a `torch.amp.GradScaler` from step to step; None stands for a loss that is not scaled.

    Raises ArgumentTypeError for what is no scaler, UsageError for a method that would take scaled gradients for what they are not.
    """

    def __init__(self, scaler: torch.amp.GradScaler | None, method: Method) -> None:
        if scaler is not None and not isinstance(scaler, torch.amp.GradScaler):
            raise ArgumentTypeError(f"Pruner: scaler must be a torch.amp.GradScaler or None, got {told(scaler)}.")
        if scaler is not None and getattr(method, "unscaled", False):
            raise UsageError(
                f"Pruner: {method.name} learns from gradients, which a scaler changes. Train under bfloat16 autocast, without a scaler."
            )
        self._scaler = scaler
        self.value = 1.0 if scaler is None else scaler.get_scale()

    def fell(self) -> bool:
        """Whether the scale is lower than at the last call: the scaler has met a gradient that is not finite, and left the step out."""
        before = self.value
        self.value = before if self._scaler is None else self._scaler.get_scale()
        return self.value < before


def inverse(scaler: torch.amp.GradScaler | None, device: torch.device) -> Tensor | None:
    """What turns derivatives of the scaled loss into those of the loss: one over the present scale, without waiting for the device."""
    return None if scaler is None else 1 / scaler.scale(torch.ones((), device=device))
