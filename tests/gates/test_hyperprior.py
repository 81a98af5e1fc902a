"""Laws of the flattening hyper-prior, against numerical minimisation and integration in plain floats."""

import math

import pytest
import torch
from scipy.integrate import quad
from scipy.optimize import minimize_scalar

from parsinet.errors import UsageError
from parsinet.gates import log_density, log_gamma, optimal_prior, price, profile

GAMMAS = (0.05, 0.5, 2.0, 20.0, math.exp(6))
THETAS = (0.01, 0.2, 0.5, 0.9, 0.999)


def plain_log_density(pi: float, gamma: float) -> float:
    return math.log((gamma - 1) / math.log(gamma)) - math.log(1 + (gamma - 1) * pi)


def plain_objective(pi: float, theta: float, gamma: float) -> float:
    divergence = theta * math.log(theta / pi) + (1 - theta) * math.log((1 - theta) / (1 - pi))
    return divergence - plain_log_density(pi, gamma)


def minimise(theta: float, gamma: float) -> tuple[float, float]:
    """(argmin, min) over π, searched in logit π, where the minimum is well scaled."""
    found = minimize_scalar(
        lambda a: plain_objective(1 / (1 + math.exp(-a)), theta, gamma), bounds=(-25, 25), method="bounded", options={"xatol": 1e-9}
    )
    return 1 / (1 + math.exp(-found.x)), found.fun


@pytest.mark.parametrize("gamma", GAMMAS)
def test_profile_is_the_minimum_over_the_prior(gamma):
    for theta in THETAS:
        assert profile(theta, math.log(gamma)).item() == pytest.approx(minimise(theta, gamma)[1], abs=1e-12)


@pytest.mark.parametrize("gamma", GAMMAS)
def test_optimal_prior_is_the_minimiser_and_the_logits_differ_by_log_gamma(gamma):
    for theta in THETAS:
        best = optimal_prior(theta, math.log(gamma))
        assert best.item() == pytest.approx(minimise(theta, gamma)[0], abs=1e-6)
        shift = torch.logit(torch.tensor(theta, dtype=torch.float64)) - torch.logit(best)
        assert shift.item() == pytest.approx(math.log(gamma), abs=1e-10)  # 1 − π loses digits near π = 1


@pytest.mark.parametrize("gamma", GAMMAS)
def test_the_minimum_is_strict_with_the_stated_curvature(gamma):
    for theta in (0.2, 0.5, 0.9):
        pi = optimal_prior(theta, math.log(gamma)).item()
        step = 1e-3 * min(pi, 1 - pi)
        around = [plain_objective(pi + shift, theta, gamma) for shift in (-step, 0, step)]
        measured = (around[0] - 2 * around[1] + around[2]) / step**2
        stated = gamma / (pi * (1 - pi) * (1 + (gamma - 1) * pi) ** 2)
        assert measured == pytest.approx(stated, rel=1e-4)  # second difference: error ~ 1e-16/step² + step²


@pytest.mark.parametrize("gamma", GAMMAS)
def test_density_matches_the_plain_formula_and_integrates_to_one(gamma):
    for pi in (0.0, 0.3, 1.0):
        assert log_density(pi, math.log(gamma)).item() == pytest.approx(plain_log_density(pi, gamma), abs=1e-12)
    area, _ = quad(lambda pi: log_density(pi, math.log(gamma)).exp().item(), 0, 1, epsabs=1e-10)
    assert area == pytest.approx(1, abs=1e-8)


@pytest.mark.parametrize("g", [-1000.0, -60.0, 60.0, 180.0, 1000.0])
def test_large_log_gamma_stays_finite_and_affine(g):
    theta = torch.linspace(0, 1, 11, dtype=torch.float64)
    values = profile(theta, g)
    assert torch.isfinite(values).all()
    slope = torch.diff(values) / 0.1
    assert torch.allclose(slope, torch.full_like(slope, g), rtol=1e-12)
    assert torch.isfinite(log_density(theta, g)).all()
    assert torch.isfinite(optimal_prior(theta, g)).all()
    assert values[0].item() == pytest.approx(-(max(g, 0) - math.log(abs(g))), abs=1e-12)


@pytest.mark.parametrize("g", [60.0, 180.0])
def test_large_log_gamma_agrees_with_the_plain_formula_at_its_ends(g):
    ends = log_density(torch.tensor([0.0, 1.0]), g)
    assert ends.tolist() == pytest.approx([plain_log_density(0, math.exp(g)), plain_log_density(1, math.exp(g))], rel=1e-13)


def test_gamma_one_is_exact_and_its_neighbourhood_continuous():
    theta = torch.linspace(0, 1, 101, dtype=torch.float64)
    assert torch.equal(optimal_prior(theta, 0.0), theta)
    assert torch.equal(profile(theta, 0.0), torch.zeros_like(theta))
    assert torch.equal(log_density(theta, 0.0), torch.zeros_like(theta))
    for g in (1e-300, 1e-12, -1e-12):
        assert torch.allclose(profile(theta, g), (theta - 0.5) * g, atol=1e-20 + 2e-16, rtol=0)
        assert log_density(theta, g).abs().max() <= 1e-12


def test_price_and_log_gamma_are_inverse():
    assert price(60.0, 60_000) == pytest.approx(1e-3)
    assert log_gamma(price(18.0, 777), 777) == pytest.approx(18.0)
    assert torch.equal(price(torch.tensor([60.0, 0.0]), 60), torch.tensor([1.0, 0.0]))


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: optimal_prior(1.5, 1.0), r"optimal_prior: theta must lie in \[0, 1\], got 1.5"),
        (lambda: log_density(-0.1, 1.0), "log_density: pi"),
        (lambda: profile(float("nan"), 1.0), "profile: theta"),
        (lambda: profile(0.5, float("inf")), "Give log γ, not γ"),
        (lambda: price(60.0, 0), "examples must be ≥ 1"),
        (lambda: log_gamma(1e-3, -1), "examples must be ≥ 1"),
    ],
)
def test_refusals_name_the_argument(call, words):
    with pytest.raises(UsageError, match=words):
        call()
