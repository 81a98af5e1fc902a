"""Masked training whose weights come back by their gradient, by the momentum of their gradients, or by lot."""

from __future__ import annotations

import warnings
from abc import ABC
from collections.abc import Mapping
from typing import Any, Unpack

import torch
from torch import Tensor

from parsinet import topology
from parsinet.errors import ParsinetWarning
from parsinet.methods.masking import MaskedTraining, MaskOptions
from parsinet.methods.options import check_known
from parsinet.structure import Plan, Structure
from parsinet.topology import Masks

MOMENTUM = 0.9


class GrowingTraining(MaskedTraining, ABC):
    """What methods share that exchange weights: the scores by which hidden ones return.

    growth: "gradient", the dense gradient of the step before the update, from its own backward pass; "momentum", a running average of
    dense gradients (μ = .9; one dense buffer and one pass over it per step more); "random".
    Source: gradient arXiv 1911.11134, momentum arXiv 1907.04840, random arXiv 1707.04780.
    """

    regrows = True

    def __init__(
        self,
        *,
        growth: str,
        sparsity: float | None,
        distribution: str,
        begin: float,
        end: float,
        interval: int | None,
        **options: Unpack[MaskOptions],
    ) -> None:
        check_known(self.name, "growth", growth, topology.GROWTHS)
        self.growth = growth
        self.unscaled = growth != "random" and sparsity != 0
        self._average: dict[str, Tensor] = {}
        super().__init__(sparsity=sparsity, distribution=distribution, begin=begin, end=end, interval=interval, **options)

    def removed(self, structure: Structure, plan: Plan) -> None:
        """Cut the masks and the average as the weights were cut."""
        super().removed(structure, plan)
        self._average = {name: plan.cut(name, average) for name, average in self._average.items()}

    def state_dict(self) -> dict[str, Any]:
        """The masks' state and the average of gradients, in the order of the weights."""
        return {**super().state_dict(), "average": [average.clone() for average in self._average.values()]}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue where `state_dict` was taken."""
        super().load_state_dict(state)
        self._average = self._beside(state["average"])

    def _judge(self) -> None:
        """Warn, too, if weights were to come back by their gradients and none was ever heard."""
        super()._judge()
        due = any(self._window.due(step) for step in range(1, self._steps + 1))
        if self.unscaled and due and not self.masks.counters.updates:
            warnings.warn(
                f"{self.name}: in none of {self._steps} steps a finite gradient came through backward(), so no weight was exchanged. "
                'Gradients of torch.autograd.grad are not heard; growth="random" needs none.',
                ParsinetWarning,
                stacklevel=4,
            )

    def _score(self, step: int) -> topology.Score | None:
        wanted = self.growth == "momentum" or (self.growth == "gradient" and self._window.due(step))
        return _gradient if wanted else None

    def _follow(self, masks: Masks) -> None:
        if self.growth != "momentum" or self.settled:
            self._average = {}
            return
        for name, gradient in masks.caught().items():
            average = self._average.setdefault(name, torch.zeros_like(gradient))
            topology.average_(average, gradient, MOMENTUM)

    def _growth(self, masks: Masks) -> dict[str, Tensor]:
        """Scores of this update, their magnitude being what counts; empty where no gradient came or one is not finite."""
        return masks.lots() if self.growth == "random" else self._average or masks.caught()


def _gradient(weight: Tensor, gradient: Tensor) -> Tensor:
    return gradient
