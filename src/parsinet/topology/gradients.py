"""Gradients as they arrive in the backward pass: zero where a weight is hidden, and dense for those who ask, without a second pass."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from parsinet.errors import UsageError

Score = Callable[[Tensor, Tensor], Tensor]
"""(weight, its dense gradient) → what is kept of them; the weight still is what the gradient belongs to."""


class GradientMask:
    """Hooks on weights that multiply each gradient by `keep` (1 active, 0 hidden) once it is accumulated, before clipping and optimizer.

    While `catching`, the dense gradient of ∂L/∂(w⊙M) is kept first: the backward kernels of linear layers and convolutions compute it
    anyway, since the parameter is the effective weight. Several backward passes before one step add up, as gradients do.
    straight_through: gradients stay dense, for an optimizer that masks them itself.
    """

    def __init__(self, weights: Mapping[str, nn.Parameter], keep: Mapping[str, Tensor], *, straight_through: bool = False) -> None:
        self._weights, self._straight_through = weights, straight_through
        self.catching: Score | None = None
        self._caught: dict[str, Tensor] = {}
        self._keep = keep
        self._handles: list[RemovableHandle] = [
            weight.register_post_accumulate_grad_hook(self._hook(name))  # type: ignore[no-untyped-call]
            for name, weight in weights.items()
        ]

    def __deepcopy__(self, memo: dict[int, Any]) -> GradientMask:
        """One on the copied weights: torch copies no hooks of tensors."""
        weights, keep = copy.deepcopy((self._weights, self._keep), memo)
        twin = GradientMask(weights, keep, straight_through=self._straight_through)
        twin.catching, twin._caught = copy.deepcopy((self.catching, self._caught), memo)
        if not self._handles:
            twin.remove()
        return twin

    def take(self) -> dict[str, Tensor]:
        """What has been caught since the last call, by name; empty if no backward pass has come."""
        caught, self._caught = self._caught, {}
        return caught

    def remove(self) -> None:
        """Take the hooks out. Safe to call twice."""
        for handle in self._handles:
            handle.remove()
        self._handles.clear()

    def _sum(self, known: Tensor, score: Tensor, keep: Tensor) -> Tensor:
        """Over the passes of one step: where gradients are masked, the accumulated one holds earlier passes only for active entries."""
        return score.clone() if self._straight_through else known * (1 - keep) + score

    def _refuse(self, name: str) -> None:
        if self.catching is not None:
            raise UsageError(
                f"The gradient of {name} is gone before its mask has seen it: a hook of yours (register_post_accumulate_grad_hook) drops "
                "it first. Register your hooks after the Pruner is built."
            )

    def _hook(self, name: str) -> Callable[[Tensor], None]:
        @torch.no_grad()
        def arrive(weight: Tensor) -> None:
            gradient = weight.grad
            if gradient is None:  # a hook before this one has stepped an optimizer and dropped it
                self._refuse(name)
                return
            keep = self._keep[name]
            if self.catching is not None:
                known = self._caught.get(name)
                score = self.catching(weight, gradient)
                self._caught[name] = score.clone() if known is None else self._sum(known, score, keep)
            if not self._straight_through:
                gradient.mul_(keep)

        return arrive
