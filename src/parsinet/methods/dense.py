"""Dense training: the method that removes nothing, the reference of every comparison."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from parsinet.methods.base import Budget, decayed_groups
from parsinet.structure import Plan, Structure


class Dense:
    """Train the network as it is."""

    name = "dense"
    silences = False
    settled = True

    def prepare(self, model: nn.Module) -> None:
        """Nothing to change."""

    def param_groups(self, model: nn.Module) -> list[dict[str, Any]]:
        """Weights with the optimizer's decay; biases and normalisation parameters without."""
        return decayed_groups(model)

    def attach(self, model: nn.Module, structure: Structure, budget: Budget, optimizers: Sequence[torch.optim.Optimizer] = ()) -> None:
        """Nothing to place."""

    def penalty(self) -> float:
        """Nothing."""
        return 0.0

    def step(self) -> None:
        """Nothing leaves."""

    def scores(self) -> Mapping[str, Tensor]:
        """No unit is judged."""
        return {}

    def moved(self, model: nn.Module) -> None:
        """Nothing was placed."""

    def removed(self, structure: Structure, plan: Plan) -> None:
        """No state to cut."""

    def settle(self) -> None:
        """Nothing is open."""

    def detach(self) -> None:
        """Nothing was placed."""

    def describe(self) -> dict[str, Any]:
        """Nothing to tell."""
        return {}

    def state_dict(self) -> dict[str, Any]:
        """No state."""
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """No state."""
