"""Variational information bottleneck: Gaussian factors on units, pruned where the noise outweighs the mean."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Unpack

import torch
from torch import Tensor

from parsinet.baselines.gaussian import GaussianGates
from parsinet.baselines.noisy import NoisyOptions
from parsinet.methods import Budget
from parsinet.structure import Structure


def bottleneck(mu: Tensor, log_variance: Tensor) -> Tensor:
    """KL between a unit and its noise prior, the prior's variance chosen best: ½ log(1 + μ²/σ²), in nats.

    Source: B. Dai, C. Zhu, B. Guo, D. Wipf 2018, arXiv 1802.10399.
    """
    return 0.5 * torch.log1p(mu.square() * torch.exp(-log_variance))


class VIB(GaussianGates):
    """Information bottlenecks: a unit's activation times z ~ N(μ, σ²), at the price kl · ½ log(1 + μ²/σ²) per position and example.

    Positions are the places at which the unit occurs in one example: 1 in a fully connected layer, H·W in a feature map. A unit is dead
    where log σ²/μ² > threshold. kl: price per nat. Other options: `NoisyGates`.

    Raises UsageError for values out of range.
    Source: B. Dai, C. Zhu, B. Guo, D. Wipf 2018, arXiv 1802.10399; the start (μ = 1, log σ² = −9) is that of the authors' code.
    """

    name = "vib"

    def __init__(
        self,
        *,
        kl: float = 3e-4,
        threshold: float = 0.0,
        rate: float = 5e-3,
        **options: Unpack[NoisyOptions],
    ) -> None:
        self._positions: dict[str, int] = {}
        self._parts: dict[str, float] = {}
        super().__init__(kl=kl, threshold=threshold, rate=rate, **options)

    def _cost(self, values: Mapping[str, Tensor]) -> Tensor:
        parts = self.rows.split(bottleneck(values["mu"], values["log_variance"]))
        return self.kl * torch.stack([self._positions.get(name, 1) * part.sum() for name, part in parts.items()]).sum()

    def _weigh(self, structure: Structure) -> None:
        """The part of the numbers that the first reader of a group is given which belongs to one unit."""
        owners = {name: structure.readers(name)[0].owners for name in self.rows.sizes}
        self._parts = {name: float((owner >= 0).float().mean()) / self.rows.sizes[name] for name, owner in owners.items()}

    def state_dict(self) -> dict[str, Any]:
        """The distributions' state, and at how many positions each unit was seen last."""
        return {**super().state_dict(), "positions": list(self._positions.items())}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue bitwise where the state was taken."""
        super().load_state_dict(state)
        self._positions = {name: int(count) for name, count in state["positions"]}

    def _seen(self, group: str, h: Tensor) -> None:
        self._positions[group] = round(h[0].numel() * self._parts[group])

    def _checked(self, budget: Budget) -> int:
        """The price is per example already."""
        return 1
