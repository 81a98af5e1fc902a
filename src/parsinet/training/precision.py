"""In which numbers a step computes: forward passes in 16 bits, and a loss scaled so that small derivatives do not vanish."""

import contextlib
from collections.abc import Iterable, Mapping
from contextlib import AbstractContextManager
from typing import Any, Literal

import torch
from torch import Tensor, nn

from parsinet.errors import UsageError

Kind = Literal["full", "bfloat16", "float16"]
LOW = {"bfloat16": torch.bfloat16, "float16": torch.float16}


class Precision:
    """Mixed precision by torch's own means: parameters and optimizer keep their dtype, the forward pass runs under `torch.autocast`.

    kind: "full", nothing of it; "bfloat16", the range of float32 with 8 bits of precision; "float16", 11 bits but a small range, so that
    the loss is multiplied by the scale of a `torch.amp.GradScaler` before the backward pass. A step whose gradient is not finite is then
    left out, and the scale halves. scaler: that one, for `Pruner(..., scaler=precision.scaler)`; None but for "float16".

    Errors: UsageError for an unknown kind.
    Source: P. Micikevicius et al., Mixed Precision Training, arXiv 1710.03740.
    """

    def __init__(self, kind: Kind = "full", device: str | torch.device = "cpu") -> None:
        if kind != "full" and kind not in LOW:
            raise UsageError(f"Precision: kind must be 'full', 'bfloat16' or 'float16', got {kind!r}.")
        self.kind = kind
        self._device = torch.device(device).type
        self.scaler = torch.amp.GradScaler(self._device) if kind == "float16" else None

    def check(self, model: nn.Module) -> None:
        """Refuse a model whose parameters are not float32: autocast leaves float64 as it is. Errors: UsageError."""
        others = {parameter.dtype for parameter in model.parameters() if parameter.is_floating_point()} - {torch.float32}
        if self.kind != "full" and others:
            raise UsageError(
                f"Precision: {self.kind} needs parameters in float32, here are {', '.join(map(str, others))}. Use kind 'full'."
            )

    def autocast(self) -> AbstractContextManager[Any]:
        """Within, the forward pass and its loss are computed in mixed precision."""
        return contextlib.nullcontext() if self.kind == "full" else torch.autocast(self._device, LOW[self.kind])

    def backward(self, loss: Tensor) -> None:
        """The backward pass of the loss, scaled where it needs to be."""
        scaled = loss if self.scaler is None else self.scaler.scale(loss)
        scaled.backward()  # type: ignore[no-untyped-call]

    def step(self, optimizer: torch.optim.Optimizer, clip: float | None, parameters: Iterable[Tensor]) -> None:
        """Take the optimizer's step; a scaler leaves it out where a gradient is not finite. clip: largest norm of the true gradient."""
        if self.scaler is not None:
            self.scaler.unscale_(optimizer)
        if clip is not None:
            nn.utils.clip_grad_norm_(parameters, clip)
        if self.scaler is None:
            optimizer.step()
        else:
            self.scaler.step(optimizer)
            self.scaler.update()

    def state_dict(self) -> dict[str, Any]:
        """The scaler's state; empty without one."""
        return {} if self.scaler is None else self.scaler.state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue where `state_dict` was taken."""
        if self.scaler is not None:
            self.scaler.load_state_dict(dict(state))
