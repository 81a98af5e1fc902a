"""Structured Bayesian pruning: truncated log-normal factors on units, pruned where their signal is below their noise."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Unpack

import torch
from torch import Tensor

from parsinet.baselines import truncated
from parsinet.baselines.noisy import NoisyGates, NoisyOptions
from parsinet.methods.options import check_above_zero

LOG_SIGMA = -5.0
"""log σ at the start, μ being 0."""
BOUNDS = {"mu": (-20.0, 5.0), "log_sigma": (-10.0, 5.0)}
"""Between which the numbers are held. Noise of e⁻¹⁰ is below what a network in float32 sees, and the draws' derivatives still hold."""


class SBP(NoisyGates):
    """Structured Bayesian pruning: a unit's activation times θ, log θ ~ N(μ, σ²) truncated to [−20, 0], with a log-uniform prior.

    Penalty: (kl/N) Σ_units KL. In evaluation θ is its mean. A unit is dead where its signal-to-noise ratio E θ/√Var θ is below threshold.
    kl: 1 for the variational bound. Other options: `NoisyGates`.

    Raises UsageError for values out of range and without the number of training examples.
    Source: K. Neklyudov, D. Molchanov, A. Ashukha, D. Vetrov 2017, arXiv 1705.07283 (μ = 0, log σ = −5 at the start, threshold 1).
    """

    name = "sbp"
    precision = torch.float64

    def __init__(
        self,
        *,
        kl: float = 1.0,
        threshold: float = 1.0,
        rate: float = 1e-2,
        **options: Unpack[NoisyOptions],
    ) -> None:
        check_above_zero(self.name, kl=kl, threshold=threshold)
        self.kl, self.threshold = kl, threshold
        super().__init__(rate=rate, **options)

    def _start(self, units: int) -> dict[str, Tensor]:
        return {"mu": torch.zeros(units), "log_sigma": torch.full((units,), LOG_SIGMA)}

    def _draw(self, values: Mapping[str, Tensor], shape: tuple[int, ...]) -> Tensor:
        mu, log_sigma = values["mu"], values["log_sigma"]
        uniform = self._uniform((*shape, len(mu)), mu).clamp_(min=torch.finfo(mu.dtype).eps)
        return truncated.draw(mu, log_sigma, uniform)

    def _test(self, values: Mapping[str, Tensor]) -> Tensor:
        return truncated.log_moment(values["mu"], values["log_sigma"], 1).exp()

    def _worth(self, values: Mapping[str, Tensor]) -> Tensor:
        return truncated.signal_to_noise(values["mu"], values["log_sigma"])

    def _dead(self, values: Mapping[str, Tensor]) -> Tensor:
        return self._worth(values) < self.threshold

    def _cost(self, values: Mapping[str, Tensor]) -> Tensor:
        return self.kl / self._examples * truncated.divergence(values["mu"], values["log_sigma"]).sum()

    @torch.no_grad()
    def _bound_(self, values: Mapping[str, Tensor]) -> None:
        for name, row in values.items():
            row.clamp_(*BOUNDS[name])
