"""Dense training: the method that removes nothing, the reference of every comparison."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from parsinet.methods.base import Alive, Budget, decayed_groups
from parsinet.structure import Structure


class Dense:
    """Train the network as it is."""

    name = "dense"
    settled = True

    def prepare(self, model: nn.Module) -> None:
        """Nothing to change."""

    def param_groups(self, model: nn.Module) -> list[dict[str, Any]]:
        """Weights with the optimizer's decay; biases and normalisation parameters without."""
        return decayed_groups(model)

    def attach(self, model: nn.Module, structure: Structure, budget: Budget) -> None:
        """Nothing to place."""

    def penalty(self) -> float:
        """Nothing."""
        return 0.0

    def step(self) -> None:
        """Nothing leaves."""

    def scores(self) -> Mapping[str, Tensor]:
        """No unit is judged."""
        return {}

    def removed(self, structure: Structure, alive: Alive) -> None:
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
