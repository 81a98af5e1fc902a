"""Spike-and-slab node selection: a Bernoulli switch on every unit, with a fixed prior on being on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Unpack

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from parsinet.baselines.noisy import NoisyGates, NoisyOptions
from parsinet.methods.options import check_above_zero, check_number

START = 4.0
"""logit γ at the start: units are on with probability .98."""
TEMPERATURE = 0.5
"""Of the relaxed switch that derivatives go through."""


def divergence(logit: Tensor, prior: float) -> Tensor:
    """KL(Bern(γ) ‖ Bern(prior)) = γ log(γ/prior) + (1 − γ) log((1 − γ)/(1 − prior)), γ = σ(logit), in nats."""
    on, log_prior = torch.sigmoid(logit), torch.tensor([prior, 1 - prior], dtype=logit.dtype, device=logit.device).log()
    return on * (logsigmoid(logit) - log_prior[0]) + (1 - on) * (logsigmoid(-logit) - log_prior[1])


def switch(logit: Tensor, uniform: Tensor) -> Tensor:
    """z ∈ {0, 1}, 1 with probability σ(logit); its derivative is that of σ((logit + log u − log(1 − u))/T), T = ½."""
    soft = torch.sigmoid((logit + uniform.log() - (-uniform).log1p()) / TEMPERATURE)
    return (soft > 0.5).to(soft) + soft - soft.detach()


class SpikeSlab(NoisyGates):
    """Spike-and-slab node selection (SS-IG): a unit's activation times z ~ Bern(γ), at the price (kl/N) Σ_units KL(Bern(γ) ‖ Bern(prior)).

    A unit is dead where γ < ½. The weights of a unit that is on are points under the optimizer's decay, where the source gives each a
    Gaussian, and the prior is an option, where it follows from the layers' widths. kl: 1 for the variational bound. Other options:
    `NoisyGates`.

    Raises UsageError for values out of range and without the number of training examples.
    Source: S. Jantre, S. Bhattacharya, T. Maiti 2021, arXiv 2108.11000 (straight-through Gumbel, T = ½).
    """

    name = "spike-slab"

    def __init__(self, *, prior: float = 1e-3, kl: float = 1.0, rate: float = 1e-2, **options: Unpack[NoisyOptions]) -> None:
        check_above_zero(self.name, kl=kl)
        check_number(self.name, "prior", prior, "a probability", above=0, below=1)
        self.prior, self.kl = prior, kl
        super().__init__(rate=rate, **options)

    def _start(self, units: int) -> dict[str, Tensor]:
        return {"logit": torch.full((units,), START)}

    def _draw(self, values: Mapping[str, Tensor], shape: tuple[int, ...]) -> Tensor:
        logit = values["logit"]
        edge = torch.finfo(logit.dtype).eps
        return switch(logit, self._uniform((*shape, len(logit)), logit).clamp_(edge, 1 - edge))

    def _test(self, values: Mapping[str, Tensor]) -> Tensor:
        return torch.ones_like(values["logit"])

    def _worth(self, values: Mapping[str, Tensor]) -> Tensor:
        return values["logit"]

    def _dead(self, values: Mapping[str, Tensor]) -> Tensor:
        return values["logit"] < 0

    def _cost(self, values: Mapping[str, Tensor]) -> Tensor:
        return self.kl / self._examples * divergence(values["logit"], self.prior).sum()
