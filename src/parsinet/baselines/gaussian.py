"""Gaussian factors on units, pruned where the noise outweighs the mean; a concrete method says what they cost."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Unpack

import torch
from torch import Tensor

from parsinet.baselines.noisy import NoisyGates, NoisyOptions
from parsinet.errors import UsageError
from parsinet.methods.options import check_above_zero

LOG_VARIANCE = -9.0
"""log σ² at the start, μ being 1."""


class GaussianGates(NoisyGates):
    """A unit's activation times z ~ N(μ, σ²), tested at μ; dead where log σ²/μ² > threshold. kl: price per nat.

    Raises UsageError for values out of range.
    """

    def __init__(self, *, kl: float, threshold: float, rate: float, **options: Unpack[NoisyOptions]) -> None:
        check_above_zero(self.name, kl=kl)
        if threshold != threshold:
            raise UsageError(f"{self.name}: threshold must be a number, got {threshold}.")
        self.kl, self.threshold = kl, threshold
        super().__init__(rate=rate, **options)

    def _start(self, units: int) -> dict[str, Tensor]:
        return {"mu": torch.ones(units), "log_variance": torch.full((units,), LOG_VARIANCE)}

    def _draw(self, values: Mapping[str, Tensor], shape: tuple[int, ...]) -> Tensor:
        mu, deviation = values["mu"], torch.exp(0.5 * values["log_variance"])
        return mu + deviation * self._normal((*shape, len(mu)), mu)

    def _test(self, values: Mapping[str, Tensor]) -> Tensor:
        return values["mu"]

    def _worth(self, values: Mapping[str, Tensor]) -> Tensor:
        return values["mu"].square().log() - values["log_variance"]

    def _dead(self, values: Mapping[str, Tensor]) -> Tensor:
        return self._worth(values) < -self.threshold
