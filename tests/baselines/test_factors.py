"""The distributions of random factors: divergences, moments, probabilities and draws against integration and sampling."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from scipy import integrate, stats
from torch import Tensor

from parsinet.baselines import l0, normal_jeffreys, sbp, spike_slab, truncated, vib

LOG_ALPHAS = torch.tensor([-4.0, -2.5, -1.0, 0.0, 1.5, 4.0], dtype=torch.float64)


def uniform(count: int, units: int) -> Tensor:
    return torch.rand(count, units, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def test_hard_concrete_gates_are_open_as_often_as_the_formula_says() -> None:
    count = 200_000
    z = l0.hard_concrete(LOG_ALPHAS, uniform(count, len(LOG_ALPHAS)))
    expected = l0.open_probability(LOG_ALPHAS)
    error = 4 * (expected * (1 - expected) / count).sqrt()
    assert bool((((z != 0).double().mean(0) - expected).abs() <= error).all())
    assert bool(((z >= 0) & (z <= 1)).all())


def test_the_probability_with_the_wrong_sign_of_the_shift_is_noticed() -> None:
    z = l0.hard_concrete(LOG_ALPHAS, uniform(20_000, len(LOG_ALPHAS)))
    planted = torch.sigmoid(LOG_ALPHAS + l0.BETA * math.log(-l0.LOW / l0.HIGH))
    assert bool((((z != 0).double().mean(0) - planted).abs() > 0.01).any())


def test_a_hard_concrete_gate_is_closed_in_evaluation_where_its_stretched_sigmoid_is_negative() -> None:
    edge = math.log(-l0.LOW / l0.HIGH)
    gates = l0.expected_gate(torch.tensor([edge - 1e-3, edge + 1e-3, 20.0], dtype=torch.float64))
    assert gates[0] == 0
    assert gates[1] > 0
    assert gates[2] == 1


@pytest.mark.parametrize(("mu", "log_variance"), [(1.0, -9.0), (0.3, -1.0), (-0.8, 0.5), (0.01, -2.0)])
def test_the_bottleneck_is_the_smallest_divergence_from_a_centred_gaussian(mu: float, log_variance: float) -> None:
    """KL(N(μ, σ²) ‖ N(0, s)) is smallest at s = μ² + σ²: a fine grid of s finds no smaller one."""
    variance = math.exp(log_variance)
    prior = (mu**2 + variance) * torch.exp(torch.linspace(-1, 1, 2001, dtype=torch.float64))
    divergence = 0.5 * ((variance + mu**2) / prior - 1 + prior.log() - log_variance)
    found = vib.bottleneck(torch.tensor(mu, dtype=torch.float64), torch.tensor(log_variance, dtype=torch.float64))
    assert float(found) == pytest.approx(float(divergence.min()), rel=1e-6)


TRUNCATED = [
    (0.0, -5.0),
    (1.0, -2.0),
    (5.0, -2.0),
    (5.0, -5.0),
    (-3.0, 1.0),
    (-10.0, 0.0),
    (-20.0, 2.0),
    (0.0, 3.0),
    (-20.0, -3.0),
    (0.0, 5.0),
]
"""(μ, log σ): at the start, in the upper tail, in the middle, at the lower end, wide, as flat as they get."""


def numbers(case: tuple[float, float]) -> tuple[Tensor, Tensor]:
    return torch.tensor(case[0], dtype=torch.float64), torch.tensor(case[1], dtype=torch.float64)


def density(case: tuple[float, float]) -> tuple[np.ndarray, np.ndarray]:
    """log θ and its density on a grid that resolves the bulk, normalised by the grid itself."""
    mu, sigma = case[0], math.exp(case[1])
    peak = min(max(mu, truncated.LOW), truncated.HIGH)
    slope = abs(peak - mu) / sigma**2
    width = min(sigma, 1 / slope) if slope else sigma
    low, high = max(truncated.LOW, peak - 45 * width), min(truncated.HIGH, peak + 45 * width)
    y = np.linspace(low, high, 40_001)
    weight = np.exp(-0.5 * ((y - mu) ** 2 - (peak - mu) ** 2) / sigma**2)
    return y, weight / integrate.simpson(weight, x=y)


@pytest.mark.parametrize("case", TRUNCATED)
def test_the_divergence_of_a_truncated_log_normal_is_the_integral(case: tuple[float, float]) -> None:
    y, p = density(case)
    log_p = np.log(p, out=np.full_like(p, -1e3), where=p > 0)
    integral = integrate.simpson(p * (log_p + math.log(truncated.HIGH - truncated.LOW)), x=y)
    assert float(truncated.divergence(*numbers(case))) == pytest.approx(integral, rel=1e-6, abs=1e-6)


@pytest.mark.parametrize("case", [(0.5, -8.0), (2.0, -5.0), (5.0, -5.0), (5.0, -8.0), (2.0, -10.0), (0.01, -10.0), (5.0, -10.0)])
def test_far_above_its_upper_end_a_truncated_log_normal_is_an_exponential(case: tuple[float, float]) -> None:
    """−log θ has the rate r = μ/σ² there: KL = log r + log(b − a) − 1, and log E θᵏ = −log(1 + k/r), both to a part (σ/μ)²."""
    mu, log_sigma = (number.requires_grad_() for number in numbers(case))
    rate, part = case[0] * math.exp(-2 * case[1]), (math.exp(case[1]) / case[0]) ** 2
    divergence = truncated.divergence(mu, log_sigma)
    by_mu, by_log_sigma = torch.autograd.grad(divergence, (mu, log_sigma))
    near = 20 * part + 1e-9
    assert float(divergence.detach()) == pytest.approx(math.log(rate) + math.log(truncated.HIGH - truncated.LOW) - 1, abs=near)
    assert (float(by_mu), float(by_log_sigma)) == pytest.approx((1 / case[0], -2.0), rel=near)
    assert float(truncated.log_moment(mu, log_sigma, 1).detach()) == pytest.approx(-math.log1p(1 / rate), rel=1e-3, abs=1e-13)


@pytest.mark.parametrize("function", [truncated.divergence, lambda mu, s: truncated.log_moment(mu, s, 1)])
def test_formulas_of_a_truncated_log_normal_join_without_a_step(function: Callable[[Tensor, Tensor], Tensor]) -> None:
    mu = 0.3 + torch.tensor([-1e-9, 1e-9], dtype=torch.float64)
    log_sigma = torch.full_like(mu, math.log(0.3 / truncated.FAR))
    below, above = function(mu, log_sigma)
    assert float(below) == pytest.approx(float(above), rel=1e-8)


@pytest.mark.parametrize("mu", sbp.BOUNDS["mu"])
@pytest.mark.parametrize("log_sigma", sbp.BOUNDS["log_sigma"])
def test_within_its_bounds_sbp_has_finite_derivatives(mu: float, log_sigma: float) -> None:
    values = [row.expand(1000).clone().requires_grad_() for row in numbers((mu, log_sigma))]
    u = (torch.arange(1000, dtype=torch.float64) + 0.5) / 1000
    outcomes = (truncated.divergence(*values), truncated.log_moment(*values, 1), truncated.draw(*values, u))
    for gradient in torch.autograd.grad([outcome.sum() for outcome in outcomes], values):
        assert bool(gradient.isfinite().all())
        assert float(gradient.abs().max()) < 1e5


@pytest.mark.parametrize("case", TRUNCATED)
@pytest.mark.parametrize("k", [1, 2])
def test_moments_of_a_truncated_log_normal_are_the_integrals(case: tuple[float, float], k: int) -> None:
    y, p = density(case)
    integral = integrate.simpson(p * np.exp(k * y), x=y)
    assert float(truncated.log_moment(*numbers(case), k).exp()) == pytest.approx(integral, rel=1e-6)


@pytest.mark.parametrize("case", [case for case in TRUNCATED if case != (5.0, -5.0)])
def test_the_signal_to_noise_ratio_is_that_of_the_integrals(case: tuple[float, float]) -> None:
    """Left out: μ = 5, σ = .007, where θ is 1 to within 1e-5 and the difference of moments holds no digits."""
    y, p = density(case)
    mean = integrate.simpson(p * np.exp(y), x=y)
    spread = math.sqrt(integrate.simpson(p * (np.exp(y) - mean) ** 2, x=y))
    assert float(truncated.signal_to_noise(*numbers(case))) == pytest.approx(mean / spread, rel=1e-4)


@pytest.mark.parametrize("case", TRUNCATED)
def test_draws_have_the_distribution(case: tuple[float, float]) -> None:
    """Kolmogorov and Smirnov's distance between log θ and the integrated density, far below what 20,000 draws may show by chance."""
    u = (torch.arange(20_000, dtype=torch.float64) + 0.5) / 20_000
    y, p = density(case)
    drawn = truncated.draw(*numbers(case), u).log().numpy()
    cumulative = integrate.cumulative_simpson(p, x=y, initial=0)
    assert stats.kstest(drawn, lambda x: np.interp(x, y, cumulative)).statistic < 1e-3
    assert drawn.min() >= truncated.LOW - 1e-9
    assert drawn.max() <= truncated.HIGH + 1e-9


@pytest.mark.parametrize("case", [(0.0, -1.0), (1.0, -2.0), (5.0, -2.0), (-3.0, 1.0), (-20.0, 2.0)])
def test_draws_move_with_the_distribution_at_a_fixed_quantile(case: tuple[float, float]) -> None:
    u = torch.tensor([1e-6, 0.02, 0.3, 0.7, 0.999], dtype=torch.float64)
    mu, log_sigma = (row.clone().requires_grad_() for row in numbers(case))
    assert torch.autograd.gradcheck(lambda m, s: truncated.draw(m, s, u), (mu, log_sigma), eps=1e-5, atol=1e-6, rtol=1e-4)


def test_the_quantile_inverts_the_logarithm_of_the_distribution_function_into_the_far_tail() -> None:
    x = torch.tensor([-3000.0, -700.0, -40.0, -8.5, -7.5, -1.0, 0.0, 3.0], dtype=torch.float64)
    assert torch.allclose(truncated.quantile(torch.special.log_ndtr(x)), x, rtol=1e-9, atol=1e-9)


def _against_log_uniform(log_alpha: float) -> float:
    """KL(N(1, α) ‖ 1/|z|) up to a constant: −½ log α + E log|z|, z = 1 + √α x, over a million quantiles of x."""
    x = stats.norm.ppf((np.arange(1_000_000) + 0.5) / 1_000_000)
    return -0.5 * log_alpha + float(np.log(np.abs(1 + math.exp(0.5 * log_alpha) * x)).mean())


def test_the_divergence_of_normal_jeffreys_is_the_integral_to_a_part_in_100() -> None:
    """Their fit; both are 0 where α → ∞."""
    logs = [-6.0, -3.0, -1.0, 0.0, 1.0, 3.0]
    found = normal_jeffreys.divergence(torch.tensor(logs, dtype=torch.float64))
    exact = [_against_log_uniform(each) - _against_log_uniform(16.0) for each in logs]
    assert found.tolist() == pytest.approx(exact, abs=0.01)
    planted = normal_jeffreys.divergence(-torch.tensor(logs, dtype=torch.float64))
    assert planted.tolist() != pytest.approx(exact, abs=0.01)


@pytest.mark.parametrize("prior", [1e-3, 0.3, 0.9])
def test_the_divergence_of_a_switch_is_that_of_two_bernoulli_distributions(prior: float) -> None:
    logits = torch.tensor([-30.0, -2.0, 0.0, 1.5, 8.0], dtype=torch.float64)
    told = torch.distributions.kl_divergence(torch.distributions.Bernoulli(logits=logits), torch.distributions.Bernoulli(prior))
    assert torch.allclose(spike_slab.divergence(logits, prior), told.double(), rtol=1e-5, atol=1e-7)
    assert not torch.allclose(spike_slab.divergence(-logits, prior), told.double(), rtol=1e-3)


def test_switches_are_on_as_often_as_they_should_and_learn_through_their_relaxation() -> None:
    count = 200_000
    logits = torch.tensor([-2.0, 0.0, 1.5], dtype=torch.float64, requires_grad=True)
    u = uniform(count, 3)
    z = spike_slab.switch(logits, u)
    assert bool(((z - 1).abs() < 1e-12).logical_or(z.abs() < 1e-12).all())
    on = torch.sigmoid(logits.detach())
    assert bool(((z.detach().mean(0) - on).abs() <= 4 * (on * (1 - on) / count).sqrt()).all())
    (gradient,) = torch.autograd.grad(z.sum(), logits)
    soft = torch.sigmoid((logits.detach() + torch.logit(u)) / 0.5)
    assert torch.allclose(gradient, (soft * (1 - soft) / 0.5).sum(0))
