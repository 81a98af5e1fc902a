"""L0 regularisation: hard-concrete gates that can be exactly zero while they train."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Unpack

import torch
from torch import Tensor

from parsinet.baselines.noisy import NoisyGates, NoisyOptions
from parsinet.baselines.slices import counts, outgoing
from parsinet.methods.options import check_above_zero, check_number
from parsinet.structure import Structure
from parsinet.structure.removal import tensors_of

BETA, LOW, HIGH = 2 / 3, -0.1, 1.1
BOUND = math.log(100)
NOISE = 1e-2


def hard_concrete(log_alpha: Tensor, uniform: Tensor) -> Tensor:
    """A draw z = clip(s(b − a) + a, 0, 1), s = σ((log u − log(1 − u) + log α)/β), with a = −.1, b = 1.1, β = 2/3.

    log_alpha: [n]; uniform: [..., n] in (0, 1). Source: C. Louizos, M. Welling, D. Kingma 2018, arXiv 1712.01312.
    """
    s = torch.sigmoid((torch.logit(uniform, eps=1e-6) + log_alpha) / BETA)
    return (s * (HIGH - LOW) + LOW).clamp(0, 1)


def open_probability(log_alpha: Tensor) -> Tensor:
    """P(z ≠ 0) = σ(log α − β log(−a/b)), the expectation of the L0 norm. Source: arXiv 1712.01312."""
    return torch.sigmoid(log_alpha - BETA * math.log(-LOW / HIGH))


def expected_gate(log_alpha: Tensor) -> Tensor:
    """The gate in evaluation, clip(σ(log α)(b − a) + a, 0, 1). Source: arXiv 1712.01312."""
    return (torch.sigmoid(log_alpha) * (HIGH - LOW) + LOW).clamp(0, 1)


class L0(NoisyGates):
    """Hard-concrete gates with an expected L0 norm as the penalty: (λ/N) Σ_units P(z ≠ 0) · (number of weights that read the unit).

    A unit is dead where its gate in evaluation is 0. lam: λ, the price of one weight in nats for the whole training set. drop: 1 − P(s > ½)
    at the start. Other options: `NoisyGates`.

    Not taken over from the paper: the expected L2 norm (the optimizer's weight decay acts instead), the moving average of the weights.
    Raises UsageError for values out of range and without the number of training examples.
    Source: C. Louizos, M. Welling, D. Kingma 2018, arXiv 1712.01312 (λ = .1, drop .2 at the inputs and .5 at hidden units).
    """

    name = "l0"

    def __init__(
        self,
        *,
        lam: float = 0.1,
        drop: float = 0.5,
        rate: float = 1e-2,
        **options: Unpack[NoisyOptions],
    ) -> None:
        check_above_zero(self.name, lam=lam)
        check_number(self.name, "drop", drop, above=0, below=1)
        self.lam, self.drop = lam, drop
        self._weights = torch.zeros(0)
        super().__init__(rate=rate, **options)

    def _start(self, units: int) -> dict[str, Tensor]:
        center = math.log((1 - self.drop) / self.drop)
        return {"log_alpha": center + NOISE * torch.randn(units, generator=self._generator)}

    def _draw(self, values: Mapping[str, Tensor], shape: tuple[int, ...]) -> Tensor:
        log_alpha = values["log_alpha"]
        return hard_concrete(log_alpha, self._uniform((*shape, len(log_alpha)), log_alpha))

    def _test(self, values: Mapping[str, Tensor]) -> Tensor:
        return expected_gate(values["log_alpha"])

    def _worth(self, values: Mapping[str, Tensor]) -> Tensor:
        return values["log_alpha"]

    def _dead(self, values: Mapping[str, Tensor]) -> Tensor:
        return expected_gate(values["log_alpha"]) == 0

    def _cost(self, values: Mapping[str, Tensor]) -> Tensor:
        return self.lam / self._examples * (open_probability(values["log_alpha"]) * self._weights).sum()

    @torch.no_grad()
    def _bound_(self, values: Mapping[str, Tensor]) -> None:
        values["log_alpha"].clamp_(-BOUND, BOUND)

    def _weigh(self, structure: Structure) -> None:
        assert self._model is not None
        tensors = tensors_of(self._model)
        rows = [counts(outgoing(structure, name), tensors, size) for name, size in self.rows.sizes.items()]
        self._weights = torch.cat(rows).to(self.rows.values["log_alpha"])
