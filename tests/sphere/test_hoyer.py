"""Hoyer sparsity, its expectation, the share of droppable weights, and the inverse problems."""

import math

import pytest
import torch
from scipy.special import betainc, gammainc

from parsinet.errors import ArgumentTypeError, UsageError
from parsinet.sphere import expected_hoyer, expected_sparsity, hoyer, p_for_hoyer, p_for_sparsity

PS = (1.05, 1.07, 1.1, 1.15, 1.2, 1.3, 1.4, 1.5, 2, 3, 6)
TABLE = {
    27: (0.865, 0.825, 0.773, 0.702, 0.644, 0.556, 0.489, 0.437, 0.284, 0.165, 0.072),
    144: (0.813, 0.770, 0.716, 0.646, 0.591, 0.508, 0.446, 0.398, 0.258, 0.150, 0.065),
    4608: (0.767, 0.725, 0.673, 0.607, 0.555, 0.476, 0.418, 0.373, 0.242, 0.140, 0.061),
    10**12: (0.756, 0.714, 0.664, 0.598, 0.547, 0.469, 0.412, 0.368, 0.238, 0.138, 0.060),
}
"""Section 5.2 of our specification, three digits."""
INVERSE = {27: (1.925, 1.382, 1.151, 1.035), 144: (1.803, 1.311, 1.110, 1.020), 4608: (1.726, 1.266, 1.084)}
"""Section 5.5: p for H = .3, .5, .7, .9."""


def gamma_rows(n, p, units, seed=0):
    concentration = torch.full((units, n), 0.4 * (p - 1), dtype=torch.float64)
    generator = torch.Generator().manual_seed(seed)
    return torch._standard_gamma(concentration, generator).sqrt()


def check_mean(sample, expected):
    assert abs(sample.mean().item() - expected) <= 4 * sample.std().item() / math.sqrt(len(sample))


def test_hoyer_of_known_rows():
    w = torch.zeros(4, 16, dtype=torch.float64)
    w[0, 3] = -2
    w[1] = 0.1
    w[2, :4] = torch.tensor([1.0, -1.0, 1.0, -1.0])
    assert hoyer(w).tolist() == pytest.approx([1, 0, (4 - 2) / (4 - 1), 1], abs=1e-12)
    assert hoyer(w[2]).item() == pytest.approx(2 / 3)


@pytest.mark.parametrize("scale", [1e-30, 1e25])
def test_hoyer_does_not_know_scale_or_where_units_lie(scale):
    w = torch.randn(5, 3, 2, 7, generator=torch.Generator().manual_seed(0))
    assert torch.allclose(hoyer(scale * w), hoyer(w), atol=1e-6)
    assert torch.allclose(hoyer(w.transpose(0, 1), unit_dim=1), hoyer(w), atol=1e-6)


@pytest.mark.parametrize("n", TABLE)
def test_expectation_equals_the_table(n):
    assert [expected_hoyer(n, p) for p in PS] == pytest.approx(TABLE[n], abs=5.1e-4)


@pytest.mark.parametrize(("n", "p"), [(9, 1.1), (64, 1.05), (144, 1.2), (144, 2.0), (400, 3.0)])
def test_expectations_equal_monte_carlo(n, p):
    rows = gamma_rows(n, p, 3000)
    check_mean(hoyer(rows), expected_hoyer(n, p))
    with pytest.raises(AssertionError):
        check_mean(hoyer(rows), expected_hoyer(n, p * 1.2))


@pytest.mark.parametrize(("n", "p"), [(64, 1.05), (144, 1.2), (400, 2.0)])
def test_expected_sparsity_equals_monte_carlo(n, p):
    """The threshold stands at the expected mean for rows of norm 1, as the formula says."""
    rows = gamma_rows(n, p, 3000)
    rows = rows / rows.norm(dim=1, keepdim=True)
    check_mean((rows < 0.2 * rows.mean()).double().mean(1), expected_sparsity(n, p))
    own = (rows < 0.2 * rows.mean(1, keepdim=True)).double().mean().item()
    assert own == pytest.approx(expected_sparsity(n, p), abs=0.01)  # the row's own mean instead of the expected one


@pytest.mark.parametrize("n", [2, 10, 144, 10**4, 10**9])
@pytest.mark.parametrize("p", [1.001, 1.07, 1.5, 3.0, 20.0])
def test_expected_sparsity_equals_the_incomplete_beta_function(n, p):
    a = 0.4 * (p - 1)
    ratio = math.exp(math.lgamma(a + 0.5) - math.lgamma(a))
    if n < 10**6:
        mean = ratio * math.exp(math.lgamma(n * a) - math.lgamma(n * a + 0.5))
        assert expected_sparsity(n, p) == pytest.approx(betainc(a, (n - 1) * a, (0.2 * mean) ** 2), rel=1e-8, abs=1e-13)
    else:
        assert expected_sparsity(n, p) == pytest.approx(gammainc(a, (0.2 * ratio) ** 2), rel=1e-4)


def test_limits_and_monotony():
    for n in (4, 27, 144, 10**4, 10**8):
        for value in (expected_hoyer, expected_sparsity):
            values = [value(n, p) for p in (1.0001, 1.02, 1.1, 1.5, 2, 4, 10)]
            assert values == sorted(values, reverse=True)
            assert 0 < values[-1] < values[0] <= 1
    assert expected_hoyer(100, 1 + 1e-9) == pytest.approx(1, abs=1e-3)
    assert 1 - expected_hoyer(10**15, 1.0001) == pytest.approx(math.sqrt(0.4 * math.pi * 1e-4), rel=1e-3)
    assert expected_hoyer(144, 1e4) == pytest.approx(0.3125 * (1 + 1 / 12) / (1e4 - 1), rel=1e-3)


@pytest.mark.parametrize("n", INVERSE)
def test_the_inverse_equals_the_table_and_inverts(n):
    for target, p in zip((0.3, 0.5, 0.7, 0.9), INVERSE[n], strict=False):
        assert round(p_for_hoyer(n, target), 3) == pytest.approx(p, abs=1.1e-3)
        assert expected_hoyer(n, p_for_hoyer(n, target)) == pytest.approx(target, abs=1e-9)


@pytest.mark.parametrize("n", [27, 784, 10**6])
def test_p_for_sparsity_inverts(n):
    for target in (0.05, 0.5, 0.8, 0.88):
        assert expected_sparsity(n, p_for_sparsity(n, target)) == pytest.approx(target, abs=1e-9)
    assert p_for_sparsity(n, 0.85) < p_for_sparsity(n, 0.8) < p_for_sparsity(n, 0.5)


def test_a_target_below_the_smallest_p_is_clamped_with_a_warning():
    for call in (lambda: p_for_hoyer(4608, 0.9), lambda: p_for_sparsity(144, 0.98)):
        with pytest.warns(UserWarning, match=r"asks for p = 1 \+ 0\.\d+; 1.02 is returned, which reaches 0"):
            assert call() == 1.02


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda: hoyer(torch.ones(3, 1)), UsageError, "at least 2 entries"),
        (lambda: expected_hoyer(1, 1.2), UsageError, "n must be ≥ 2"),
        (lambda: expected_hoyer(10.5, 1.2), ArgumentTypeError, "whole number"),
        (lambda: expected_hoyer(10, 1.0), UsageError, "p must be > 1"),
        (lambda: expected_hoyer(10, 1.2, c=0), UsageError, "c must be > 0"),
        (lambda: expected_sparsity(10, 1.2, threshold=0.0), UsageError, r"threshold must be in \(0, 1\]"),
        (lambda: p_for_hoyer(10, 1.0), UsageError, r"target must be in \(0, 1\), got 1.0"),
        (lambda: p_for_hoyer(10, 1e-9), UsageError, "out of reach of every p"),
        (lambda: p_for_sparsity(10, -0.1), UsageError, "p_for_sparsity: target"),
        (lambda: p_for_sparsity(10, 0.5, c=-1.0), UsageError, "c must be > 0"),
    ],
)
def test_refusals(call, error, words):
    with pytest.raises(error, match=words):
        call()
