"""The truncated log-normal distribution in forms that stay finite far in its tails: log θ ~ N(μ, σ²) on [a, b]."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.special import erfcx, log_ndtr, ndtri

LOW, HIGH = -20.0, 0.0
"""a and b."""
TAIL = -8.0
"""Where the inverse of the normal distribution function is left to Newton's method in the logarithm."""
FAR = 30.0
"""Standard deviations of μ above b from which what is left is written as a series: differences of large numbers hold nothing there."""


def log_mass(low: Tensor, high: Tensor) -> Tensor:
    """log(Φ(high) − Φ(low)) of the normal distribution function, low < high and not both far above 0."""
    top: Tensor = log_ndtr(high)
    return top + torch.log(-torch.expm1(log_ndtr(low) - top))


def divergence(mu: Tensor, log_sigma: Tensor) -> Tensor:
    """KL from a truncated log-normal to the log-uniform prior on [eᵃ, eᵇ], in nats.

    −log σ − log Z − (αφ(α) − βφ(β))/(2Z) + log(b − a) − ½ log(2πe), with α = (a − μ)/σ, β = (b − μ)/σ, Z = Φ(β) − Φ(α).
    For t = −β ≥ `FAR` this is −log σ + log r − ½ t(r − t) + log(b − a) − ½, with r = φ(t)/Φ(−t).
    mu, log_sigma: float64 [n], a ≤ μ. Source: K. Neklyudov, D. Molchanov, A. Ashukha, D. Vetrov 2017, arXiv 1705.07283.
    """
    alpha, beta = _limits(mu, log_sigma)
    far, t = beta <= -FAR, (-beta).clamp(min=FAR)
    alpha, beta = alpha.masked_fill(far, -1.0), beta.masked_fill(far, 0.0)
    log_z = log_mass(alpha, beta)
    edges = alpha * torch.exp(_log_density(alpha) - log_z) - beta * torch.exp(_log_density(beta) - log_z)
    near = -log_z - 0.5 * edges - 0.5 * math.log(2 * math.pi * math.e)
    above = _above(t)
    return math.log(HIGH - LOW) - log_sigma + torch.where(far, torch.log(t + above) - 0.5 * t * above - 0.5, near)


def log_moment(mu: Tensor, log_sigma: Tensor, k: int) -> Tensor:
    """log E θᵏ = kμ + k²σ²/2 + log[Φ(β − kσ) − Φ(α − kσ)] − log Z.

    Derived by completing the square; for t = −β ≥ `FAR` the squares cancel and log r(t) − log r(t + kσ) is left, r = φ(t)/Φ(−t).
    mu, log_sigma: float64 [n].
    """
    alpha, beta = _limits(mu, log_sigma)
    sigma = log_sigma.exp()
    far, t = beta <= -FAR, (-beta).clamp(min=FAR)
    mean = torch.log(t + _above(t)) - torch.log(t + k * sigma + _above(t + k * sigma))
    alpha, beta = alpha.masked_fill(far, -1.0), beta.masked_fill(far, 0.0)
    masses = log_mass(alpha - k * sigma, beta - k * sigma) - log_mass(alpha, beta)
    return torch.where(far, mean, k * mu + 0.5 * (k * sigma).square() + masses)


def signal_to_noise(mu: Tensor, log_sigma: Tensor) -> Tensor:
    """E θ/√Var θ = 1/√(E θ²/(E θ)² − 1). Source: arXiv 1705.07283."""
    excess = torch.expm1(log_moment(mu, log_sigma, 2) - 2 * log_moment(mu, log_sigma, 1))
    return excess.clamp(min=torch.finfo(excess.dtype).tiny).rsqrt()


def draw(mu: Tensor, log_sigma: Tensor, uniform: Tensor) -> Tensor:
    """θ = exp(μ + σx), x = Φ⁻¹(Φ(α) + uZ), differentiable in μ and σ at fixed u.

    uniform: [..., n] in (0, 1). The derivatives of x are those of the implicit function: ∂x/∂α = (1 − u)φ(α)/φ(x),
    ∂x/∂β = uφ(β)/φ(x).
    """
    alpha, beta = _limits(mu, log_sigma)
    with torch.no_grad():
        log_u = uniform.log()
        x = quantile(torch.logaddexp(log_ndtr(alpha), log_u + log_mass(alpha, beta)))
        x = torch.minimum(torch.maximum(x, alpha), beta)
        by_alpha = torch.exp(torch.log1p(-uniform) + _log_density(alpha) - _log_density(x))
        by_beta = torch.exp(log_u + _log_density(beta) - _log_density(x))
    x = x + by_alpha * (alpha - alpha.detach()) + by_beta * (beta - beta.detach())
    return torch.exp(mu + log_sigma.exp() * x)


def quantile(log_probability: Tensor) -> Tensor:
    """x with log Φ(x) = t, also where Φ(x) is no number any more: Newton's method on log Φ below x = −8. float64."""
    t = log_probability.clamp(max=math.log1p(-(2**-53)))
    x: Tensor = ndtri(t.exp())
    far = t < _LOG_TAIL
    if bool(far.any()):
        wanted = t[far]
        guess = -torch.sqrt(-2 * wanted - torch.log(-4 * math.pi * wanted))
        for _ in range(3):
            guess -= (log_ndtr(guess) - wanted) * erfcx(-guess / math.sqrt(2)) * math.sqrt(math.pi / 2)
        x[far] = guess
    return x


_LOG_TAIL = math.log(math.erfc(-TAIL / math.sqrt(2)) / 2)
"""log Φ(TAIL)."""


def _limits(mu: Tensor, log_sigma: Tensor) -> tuple[Tensor, Tensor]:
    """α and β."""
    inverse = torch.exp(-log_sigma)
    return (LOW - mu) * inverse, (HIGH - mu) * inverse


def _above(t: Tensor) -> Tensor:
    """φ(t)/Φ(−t) − t for t ≥ `FAR`: 1/t − 2/t³ + 10/t⁵ − 74/t⁷ + 706/t⁹ − 8162/t¹¹, the inverse of Mills' ratio (asymptotic)."""
    square = t.reciprocal().square()
    return torch.stack([c * square**k for k, c in enumerate((1.0, -2.0, 10.0, -74.0, 706.0, -8162.0))]).sum(0) / t


def _log_density(x: Tensor) -> Tensor:
    return -0.5 * x.square() - 0.5 * math.log(2 * math.pi)
