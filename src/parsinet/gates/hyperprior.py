"""The flattening hyper-prior on the Bernoulli parameter of a gate, in forms that never compute γ itself."""

from typing import TypeVar

import torch
from torch import Tensor

from parsinet.errors import UsageError

FloatOrTensor = TypeVar("FloatOrTensor", float, Tensor)


def log_density(pi: Tensor | float, log_gamma: Tensor | float) -> Tensor:
    """Log density of the hyper-prior on the prior's keep probability π.

    p(π|γ) = (γ−1)/log γ · 1/(1 + (γ−1)π) on [0, 1]; uniform in the limit γ → 1.

    pi: probabilities in [0, 1]; log_gamma: log γ, any finite number; the two broadcast. Returns float64, natural logarithm.
    Raises UsageError for π outside [0, 1] or a log γ that is not finite.
    Source: derived in our specification from the requirement that `profile` be affine in θ; the method is Guenter & Sideris,
    arXiv 2205.04650.
    """
    p, g = _probability("log_density: pi", pi), _finite("log_density: log_gamma", log_gamma)
    small = torch.log1p(torch.expm1(g.clamp(-1, 1)) * p)
    large = torch.logaddexp(torch.log1p(-p), torch.log(p) + g)
    return _log_normaliser(g) - torch.where(g.abs() <= 1, small, large)


def optimal_prior(theta: Tensor | float, log_gamma: Tensor | float) -> Tensor:
    """The prior's keep probability that explains a gate of posterior θ best: argmin over π of KL(θ‖π) − log p(π|γ).

    π*(θ) = θ / (θ + γ(1−θ)) = σ(logit θ − log γ); π* = θ at γ = 1.

    theta: probabilities in [0, 1]; log_gamma: any finite number; the two broadcast. Returns float64.
    Raises UsageError for θ outside [0, 1] or a log γ that is not finite.
    Source: derived in our specification; the method is Guenter & Sideris, arXiv 2205.04650.
    """
    t, g = _probability("optimal_prior: theta", theta), _finite("optimal_prior: log_gamma", log_gamma)
    return torch.where(g == 0, t, torch.sigmoid(torch.logit(t) - g))


def profile(theta: Tensor | float, log_gamma: Tensor | float) -> Tensor:
    """What a gate of posterior θ pays once its prior is optimised away; affine in θ, so no θ inside (0, 1) is preferred.

    J(θ) = min_π [KL(Bern(θ)‖Bern(π)) − log p(π|γ)] = θ·log γ − log((γ−1)/log γ), in nats for the whole training set.

    theta: probabilities in [0, 1]; log_gamma: any finite number; the two broadcast. Returns float64.
    Raises UsageError for θ outside [0, 1] or a log γ that is not finite.
    Source: derived in our specification; the method is Guenter & Sideris, arXiv 2205.04650.
    """
    t, g = _probability("profile: theta", theta), _finite("profile: log_gamma", log_gamma)
    return t * g - _log_normaliser(g)


def price(log_gamma: FloatOrTensor, examples: int) -> FloatOrTensor:
    """Price of keeping one gate open, ρ = log γ / N, in nats per training example.

    log_gamma: float or tensor; examples: N, the size of the training set. Returns the kind it was given.
    Raises UsageError for examples < 1. Source: derived in our specification.
    """
    return log_gamma / _examples("price", examples)


def log_gamma(price: FloatOrTensor, examples: int) -> FloatOrTensor:
    """The inverse of `price`: log γ = ρ·N.

    price: ρ in nats per example, float or tensor; examples: N, the size of the training set. Returns the kind it was given.
    Raises UsageError for examples < 1. Source: derived in our specification.
    """
    return price * _examples("log_gamma", examples)


def _log_normaliser(g: Tensor) -> Tensor:
    """log((γ−1)/log γ) = max(log γ, 0) + log((1 − e^{−|log γ|}) / |log γ|); 0 at γ = 1."""
    size = g.abs()
    ratio = -torch.expm1(-size) / torch.where(size == 0, 1.0, size)
    return g.clamp(min=0) + torch.log(torch.where(size == 0, 1.0, ratio))


def _probability(what: str, value: Tensor | float) -> Tensor:
    p = torch.as_tensor(value, dtype=torch.float64)
    if not bool(((p >= 0) & (p <= 1)).all()):
        raise UsageError(f"{what} must lie in [0, 1], got {value}.")
    return p


def _finite(what: str, value: Tensor | float) -> Tensor:
    g = torch.as_tensor(value, dtype=torch.float64)
    if not bool(torch.isfinite(g).all()):
        raise UsageError(f"{what} must be finite, got {value}. Give log γ, not γ.")
    return g


def _examples(who: str, examples: int) -> int:
    if examples < 1:
        raise UsageError(f"{who}: examples must be ≥ 1 (the size of the training set), got {examples}.")
    return examples
