"""Group normal-Jeffreys: Gaussian factors on units under a log-uniform prior, pruned where the noise outweighs the mean."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Unpack

import torch
from torch import Tensor
from torch.nn.functional import softplus

from parsinet.baselines.gaussian import GaussianGates
from parsinet.baselines.noisy import NoisyOptions

K1, K2, K3 = 0.63576, 1.87320, 1.48695
"""Molchanov, Ashukha, Vetrov's fit to the divergence, arXiv 1701.05369."""


def divergence(log_alpha: Tensor) -> Tensor:
    """KL(N(μ, σ²) ‖ p), p(z) ∝ 1/|z|, up to a constant that makes it 0 at α = σ²/μ² → ∞:
    k₁ − k₁ σ(k₂ + k₃ log α) + ½ log(1 + 1/α), in nats, to 0.01.
    """
    return K1 - K1 * torch.sigmoid(K2 + K3 * log_alpha) + 0.5 * softplus(-log_alpha)


class NormalJeffreys(GaussianGates):
    """Group normal-Jeffreys (BC-GNJ): a unit's activation times z ~ N(μ, σ²), at the price (kl/N) Σ_units KL(z ‖ log-uniform).

    A unit is dead where log σ²/μ² > threshold. The weights behind z are points under the optimizer's decay, where the source gives each a
    Gaussian of its own. kl: 1 for the variational bound. Other options: `NoisyGates`.

    Raises UsageError for values out of range and without the number of training examples.
    Source: C. Louizos, K. Ullrich, M. Welling 2017, arXiv 1705.08665 (thresholds of their example: −2.8, −3, −5, by layer).
    """

    name = "normal-jeffreys"

    def __init__(self, *, kl: float = 1.0, threshold: float = -3.0, rate: float = 5e-3, **options: Unpack[NoisyOptions]) -> None:
        super().__init__(kl=kl, threshold=threshold, rate=rate, **options)

    def _cost(self, values: Mapping[str, Tensor]) -> Tensor:
        return self.kl / self._examples * divergence(-self._worth(values)).sum()
