"""Estimators of ∂C/∂θ from two losses: masks drawn from the same uniform numbers, once from below and once from above."""

from collections.abc import Callable, Mapping
from types import MappingProxyType

import torch
from torch import Tensor

from parsinet.errors import UsageError

PairEstimator = Callable[[Tensor, Tensor, Tensor], Tensor]
"""(C(ξ⁺) − C(ξ⁻), u, θ) → ĝ: a scalar in nats per example and two rows [n] to one estimate per unit [n]."""


def antithetic(uniform: Tensor, theta: Tensor) -> tuple[Tensor, Tensor]:
    """The pair of masks: ξ⁺ = 1[u > 1 − θ] and ξ⁻ = 1[u < θ], each ~ Bernoulli(θ).

    They differ in unit i with probability 2·min(θ_i, 1 − θ_i), which is as often as two masks can.

    uniform, theta: [n]. Returns two rows [n] of 0 and 1 in theta's dtype. Raises UsageError for shapes that do not fit.
    Source: M. Yin and M. Zhou, ARM: Augment-REINFORCE-Merge Gradient for Stochastic Binary Networks, arXiv 1807.11143.
    """
    _check("antithetic", uniform, theta)
    return (uniform > 1 - theta).to(theta.dtype), (uniform < theta).to(theta.dtype)


def arm(difference: Tensor, uniform: Tensor, theta: Tensor) -> Tensor:
    """Augment-REINFORCE-merge in θ: the paper's derivative in φ = logit θ over dθ/dφ.

    ĝ_i = (C(ξ⁺) − C(ξ⁻))·(u_i − ½)/(θ_i(1 − θ_i)). Its mean is ∂C/∂θ_i at θ. C is affine in θ_i alone, so θ_i may be moved inside (0, 1)
    for the draw without a change of that mean. The variance grows with the number of units, since all of them make the difference.

    difference: scalar, nats per example. uniform, theta: [n], 0 < θ < 1. Returns [n].
    Raises UsageError for shapes that do not fit and for θ at 0 or 1. Source: Yin and Zhou, arXiv 1807.11143.
    """
    _inside("arm", uniform, theta)
    return difference * (uniform - 0.5) / (theta * (1 - theta))


def disarm(difference: Tensor, uniform: Tensor, theta: Tensor) -> Tensor:
    """`arm` with its mean taken over all u that give the same pair of masks: the same expectation, never more variance.

    ĝ_i = (C(ξ⁺) − C(ξ⁻))·(ξ⁺_i − ξ⁻_i)/(2·min(θ_i, 1 − θ_i)): units that are the same in both masks hear nothing.

    difference: scalar, nats per example. uniform, theta: [n], 0 < θ < 1. Returns [n].
    Raises UsageError for shapes that do not fit and for θ at 0 or 1.
    Source: Z. Dong, A. Mnih and G. Tucker, DisARM: An Antithetic Gradient Estimator for Binary Latent Variables, arXiv 2006.10680, written
    here in θ.
    """
    _inside("disarm", uniform, theta)
    first, second = antithetic(uniform, theta)
    return difference * (first - second) / (2 * torch.minimum(theta, 1 - theta))


PAIR_ESTIMATORS: Mapping[str, PairEstimator] = MappingProxyType({"arm": arm, "disarm": disarm})
"""Estimators of two losses by the name a recipe uses."""


def _check(who: str, uniform: Tensor, theta: Tensor) -> None:
    if uniform.dim() != 1 or uniform.shape != theta.shape:
        raise UsageError(f"{who}: uniform and theta must be rows of one length, got {list(uniform.shape)} and {list(theta.shape)}.")


def _inside(who: str, uniform: Tensor, theta: Tensor) -> None:
    _check(who, uniform, theta)
    if bool(((theta <= 0) | (theta >= 1)).any()):
        raise UsageError(f"{who}: theta must lie inside (0, 1), where both values are drawn. Move it there: theta.clamp(0.05, 0.95).")
