"""Differentiable factors in front of the modules that read units: one set per forward pass, shared by all readers of a group."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from parsinet.errors import RunError
from parsinet.gates import Owner
from parsinet.methods.placing import Handle, place
from parsinet.structure import Structure


class Factors:
    """Multiplies what is read of a group's units by what `draw(group, input)` gives at the first use of a forward pass.

    draw: returns [units], or [B, units] with a factor per example; gradients flow back into it.
    """

    def __init__(self, draw: Callable[[str, Tensor], Tensor]) -> None:
        self._draw = draw
        self._drawn: dict[str, Tensor] = {}
        self._handles: list[Handle] = []

    def place(self, model: nn.Module, structure: Structure, sizes: Mapping[str, int], device: torch.device) -> None:
        """Put the factors in front of the readers of the groups; called again after a removal, they move to the new indices."""
        self.leave()
        self._handles.append(model.register_forward_pre_hook(self._begin))
        self._handles.extend(place(self, model, structure, sizes, device))

    def leave(self) -> None:
        """Take all factors out of the network."""
        for handle in self._handles:
            handle.remove()
        self._handles.clear()
        self._drawn = {}

    def multiply(self, h: Tensor, group: str, axis: int, owner: Owner | None) -> Tensor:
        """h through the group's factors of the running forward pass. axis: of the units, counted from the end."""
        if group not in self._drawn:
            self._drawn[group] = self._draw(group, h)
        z = self._drawn[group]
        shape = [1] * h.dim()
        shape[axis] = h.shape[axis]
        if z.dim() == 2:
            if len(z) != len(h):
                raise RunError(f"Readers of {group} see {len(z)} and {len(h)} examples in one pass; use draws='batch'.")
            shape[0] = len(h)
        values = (z if owner is None else owner.spread(z)).to(h.dtype)
        return h * values.view(shape)

    def _begin(self, model: nn.Module, args: tuple[Any, ...]) -> None:
        self._drawn = {}
