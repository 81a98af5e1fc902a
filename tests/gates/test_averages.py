"""Averages with standard errors: against weights written out, and how fast a gate moves where they are doubted."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from parsinet.errors import UsageError
from parsinet.gates import average_, doubted
from parsinet.gates.averages import BEGUN, DECAY, FIRST, ROWS


def after(estimates: Tensor) -> Tensor:
    """The rows once all of these have come, float64 [steps, n]."""
    rows = torch.zeros(ROWS, estimates.shape[1], dtype=estimates.dtype)
    for estimate in estimates:
        average_(rows, estimate)
    return rows


def drawn(steps: int, mean: float, noise: float) -> Tensor:
    """Independent estimates of one unit."""
    return mean + noise * torch.randn(steps, 1, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


def test_the_force_is_the_formula() -> None:
    """With all weights written out: mean, variance, standard error, and the share of it that a gate feels."""
    estimates, price, errors = drawn(80, -0.1, 1.0), 0.05, 2.0
    weights = [(1 - DECAY) * DECAY ** (79 - k) for k in range(80)]
    total = sum(weights)
    values = estimates[:, 0].tolist()
    mean = sum(w * g for w, g in zip(weights, values, strict=True)) / total
    variance = sum(w * (g - mean) ** 2 for w, g in zip(weights, values, strict=True)) / total
    error = math.sqrt(variance * sum(w * w for w in weights)) / total
    expected = price * (mean + price) / max(price, errors * error) - price
    assert errors * error > price
    assert float(doubted(after(estimates), price, errors)) == pytest.approx(expected, rel=1e-9)
    assert float(doubted(after(estimates), torch.tensor([price], dtype=torch.float64), errors)) == pytest.approx(expected, rel=1e-9)


def test_without_noise_the_average_counts_as_it_is() -> None:
    rows = after(torch.tensor([[-0.3, 0.0, 0.02]], dtype=torch.float64).expand(60, 3))
    assert torch.allclose(doubted(rows, 0.1, 2.0), torch.tensor([-0.3, 0.0, 0.02], dtype=torch.float64))


def test_before_it_has_begun_no_gate_moves() -> None:
    rows = torch.zeros(ROWS, 1, dtype=torch.float64)
    steps = 0
    while True:
        average_(rows, torch.ones(1, dtype=torch.float64))
        steps += 1
        if float(rows[0]) >= BEGUN:
            break
        assert float(doubted(rows, 0.1, 2.0)) == -0.1, "the force and the price cancel"
    assert steps == FIRST == 35
    assert float(doubted(rows, 0.1, 2.0)) == pytest.approx(1.0)


def test_noise_moves_a_gate_less_than_its_estimates_would() -> None:
    """A unit worth just its price, noise 30 times as much: the force averages out where it would be ±30 prices."""
    estimates, price = drawn(2000, -0.01, 0.3), 0.01
    rows, forces = torch.zeros(ROWS, 1, dtype=torch.float64), []
    for estimate in estimates:
        forces.append(float(doubted(average_(rows, estimate), price, 2.0)) + price)
    rms = math.sqrt(sum(force**2 for force in forces) / len(forces))
    assert rms < 0.7 * price, "half a price: one standard error of two"
    sure = [float(doubted(after(drawn(200, -0.01 * k, 0.01)), price, 2.0)) + price for k in (0, 3)]
    assert sure[0] == pytest.approx(price, rel=0.3), "worth nothing, and sure of it: falls under its whole price"
    assert sure[1] < -price, "worth three prices: opens"


def test_a_price_of_nothing_divides_by_nothing() -> None:
    found = doubted(after(drawn(60, 0.0, 1.0)), torch.zeros(1, dtype=torch.float64), 2.0)
    assert torch.isfinite(found).all()
    assert abs(float(found)) < 1e-9


def test_what_cannot_be_is_refused() -> None:
    with pytest.raises(UsageError, match=r"rows must be \[4, 3\] to fit the estimates, got \[4, 2\]"):
        average_(torch.zeros(4, 2), torch.zeros(3))
    with pytest.raises(UsageError, match=r"decay must be in \[0, 1\), got 1"):
        average_(torch.zeros(4, 2), torch.zeros(2), 1.0)
    with pytest.raises(UsageError, match="errors must be > 0, got 0"):
        doubted(torch.zeros(4, 2), 0.1, 0.0)
