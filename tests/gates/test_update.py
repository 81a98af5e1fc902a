"""The projected step, the guard and the death test; stability of the two ends; the trap of sampled flips."""

import pytest
import torch

from parsinet.errors import UsageError
from parsinet.gates import dead_units, ema_, exact_flip, open_units, pin_best_, theta_step_


def vector(*values):
    return torch.tensor(values, dtype=torch.float64)


def test_price_alone_closes_a_gate_in_fall_steps_whatever_the_price():
    for price in (1e-4, 1.0, vector(1e-4, 1.0)):
        theta = torch.ones(2, dtype=torch.float64)
        for _ in range(50):
            theta_step_(theta, torch.zeros(2, dtype=torch.float64), price, fall_steps=100)
        assert torch.allclose(theta, vector(0.5, 0.5), atol=1e-12)
        for _ in range(51):
            theta_step_(theta, torch.zeros(2, dtype=torch.float64), price, fall_steps=100)
        assert torch.equal(theta, vector(0, 0))


@pytest.mark.parametrize("clamp", [None, 10.0, 0.5])
@pytest.mark.parametrize("as_tensor", [False, True])
def test_step_equals_the_formula(clamp, as_tensor):
    rho, fall = 0.01, 37.0
    gradient = vector(-0.5, -0.02, 0.0, 0.004, 0.7)
    theta = vector(0.3, 0.5, 0.9, 0.1, 1.0)
    expected = []
    for t, g in zip(theta.tolist(), gradient.tolist(), strict=True):
        move = g + rho
        if clamp is not None:
            move = min(max(move, -clamp * rho), clamp * rho)
        expected.append(min(max(t - move / (rho * fall), 0.0), 1.0))
    returned = theta_step_(theta, gradient, torch.full_like(theta, rho) if as_tensor else rho, fall, clamp)
    assert returned is theta
    assert torch.allclose(theta, vector(*expected), atol=1e-14)


def test_absorbing_ends_hold_what_stands_there_and_nothing_else():
    theta, free = vector(0.0, 1.0, 0.5, 0.99, 0.01), vector(0.0, 1.0, 0.5, 0.99, 0.01)
    for gradient in (-0.02, 0.02):
        theta_step_(theta, torch.full((5,), gradient, dtype=torch.float64), 0.01, 10, absorbing=True)
        theta_step_(free, torch.full((5,), gradient, dtype=torch.float64), 0.01, 10)
    assert theta[0] == 0
    assert theta[1] == 1
    assert theta[3] == 1, "what arrives stays too"
    assert torch.equal(theta[[2, 4]], free[[2, 4]])
    assert free[0] != 0 or free[1] != 1, "without absorption the ends let go"


def test_price_floor_bounds_the_step_of_a_free_unit():
    for price in (0.0, vector(0.0)):
        theta = vector(0.5)
        theta_step_(theta, vector(-0.001), price, fall_steps=10, clamp=None, price_floor=0.01)
        assert theta.item() == pytest.approx(0.5 + 0.001 / (0.01 * 10))


def one_unit_loss(usefulness):
    """C(ξ) with C(0) − C(1) = usefulness."""
    return lambda xi: 1.0 - usefulness * xi[0]


@pytest.mark.parametrize("relative", [0.0, 0.5, 0.99, 1.01, 2.0, 30.0])
def test_ends_are_stable_as_usefulness_meets_the_price(relative):
    """θ = 0 re-enters iff C_0 − C_1 > ρ; θ = 1 stays iff Δ > ρ."""
    rho = 0.01
    for start in (0.0, 1.0):
        theta = vector(start)
        for _ in range(100):
            estimate = exact_flip(one_unit_loss(relative * rho), torch.round(theta), 0).reshape(1)
            theta_step_(theta, estimate, rho, fall_steps=200)
        moved = abs(theta.item() - start) > 1e-6
        assert moved == (relative > 1 if start == 0 else relative < 1)


def run_all_exact(useful, rho, steps):
    theta = torch.ones(300, dtype=torch.float64)
    for _ in range(steps):
        theta_step_(theta, torch.full_like(theta, -useful), rho, fall_steps=200)
    return theta


def run_sampled(useful, rho, steps, scaled_price):
    """k = 4 of 300 exact flips per step, scaled by n/k. scaled_price: only the sampled units move, price scaled too, no clamp."""
    units, sampled = 300, 4
    random = torch.Generator().manual_seed(0)
    theta = torch.ones(units, dtype=torch.float64)
    for _ in range(steps):
        chosen = torch.randperm(units, generator=random)[:sampled]
        gradient = torch.zeros(units, dtype=torch.float64)
        gradient[chosen] = -useful * units / sampled
        price = torch.zeros(units, dtype=torch.float64) if scaled_price else torch.full((units,), rho, dtype=torch.float64)
        price[chosen] = rho * units / sampled if scaled_price else rho
        theta_step_(theta, gradient, price, 200, None if scaled_price else 10.0, price_floor=rho)
    return theta


def check_useful_units_stay(theta):
    assert (theta == 1).all()


def test_useful_units_stay_open():
    check_useful_units_stay(run_all_exact(20 * 1e-3, 1e-3, 1000))
    check_useful_units_stay(run_sampled(20 * 1e-3, 1e-3, 1000, scaled_price=True))


def test_the_trap_of_sampled_flips_with_a_clamp_kills_useful_units():
    """The planted fault: price on every unit, sampled usefulness scaled up but clamped; n = 300 > 11·4."""
    theta = run_sampled(20 * 1e-3, 1e-3, 1000, scaled_price=False)
    assert theta.mean() < 0.2
    with pytest.raises(AssertionError):
        check_useful_units_stay(theta)


def test_units_below_their_price_close():
    assert (run_all_exact(0.5 * 1e-3, 1e-3, 401) == 0).all()


def test_guard_opens_the_most_useful_unit_only_when_all_are_below_half():
    theta = vector(0.1, 0.49, 0.2)
    assert pin_best_(theta, vector(0.3, -1.0, 0.5))
    assert theta.tolist() == [0.1, 0.49, 1.0]
    assert not pin_best_(theta, vector(9.0, 0.0, 0.0))
    assert theta.tolist() == [0.1, 0.49, 1.0]
    half = vector(0.5, 0.0)
    assert not pin_best_(half, vector(0.0, 1.0))


def test_rounding_opens_at_half_and_never_closes_a_whole_group():
    assert open_units(vector(0.5, 0.49, 1.0), vector(0.0, 9.0, -1.0)).tolist() == [True, False, True]
    theta = vector(0.1, 0.2, 0.0)
    assert open_units(theta, vector(0.1, 0.0, 0.3)).tolist() == [False, False, True]
    assert theta.tolist() == [0.1, 0.2, 0.0]


def test_dead_units_are_closed_and_not_about_to_return():
    theta = vector(0.0, 0.0, 0.02, 0.02, 0.03, 1.0)
    usefulness = vector(9.0, -9.0, 0.2, 0.05, -9.0, -9.0)
    assert dead_units(theta, usefulness, 0.1).tolist() == [True, True, False, True, False, False]
    per_unit = vector(0.1, 0.1, 0.3, 0.01, 0.1, 0.1)
    assert dead_units(theta, usefulness, per_unit).tolist() == [True, True, True, False, False, False]
    assert dead_units(theta, usefulness, 0.1, threshold=0.05).tolist() == [True, True, False, True, True, False]


def test_one_unit_always_stays():
    assert dead_units(torch.zeros(3), torch.tensor([-3.0, -1.0, -2.0]), 0.1).tolist() == [True, False, True]
    assert dead_units(torch.zeros(1), torch.zeros(1), 0.1).tolist() == [False]


def test_moving_average():
    average = vector(1.0, 0.0)
    assert ema_(average, vector(0.0, 10.0), decay=0.9) is average
    assert torch.allclose(average, vector(0.9, 1.0))


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: theta_step_(torch.ones(2), torch.ones(2), 0.1, 0), "fall_steps=0"),
        (lambda: theta_step_(torch.ones(2), torch.ones(2), 0.1, 5, clamp=-1.0), "clamp=-1.0"),
        (lambda: theta_step_(torch.ones(2), torch.ones(2), 0.1, 5, price_floor=0.0), "price_floor=0.0"),
        (lambda: theta_step_(torch.ones(2), torch.ones(3), 0.1, 5), r"theta_step_: gradient must have one entry per unit, \[2\]"),
        (lambda: pin_best_(torch.ones(2), torch.ones(1)), "pin_best_: usefulness"),
        (lambda: pin_best_(torch.ones(0), torch.ones(0)), "not empty"),
        (lambda: dead_units(torch.ones(2), torch.ones(3), 0.1), "dead_units: usefulness_ema"),
        (lambda: dead_units(torch.ones(2), torch.ones(2), 0.1, threshold=1.0), "threshold"),
        (lambda: ema_(torch.ones(2), torch.ones(2), decay=1.0), "decay"),
        (lambda: ema_(torch.ones(2), torch.ones(1)), "ema_: value"),
    ],
)
def test_refusals_name_the_argument(call, words):
    with pytest.raises(UsageError, match=words):
        call()


@pytest.mark.parametrize("price", [1e-3, 1e-6, 1e-9])
def test_a_gate_falls_in_the_same_time_whatever_its_price(price):
    for given in (price, vector(price)):
        theta = vector(1.0)
        for _ in range(5):
            theta_step_(theta, vector(0.0), given, fall_steps=10, clamp=10.0)
        assert theta.item() == pytest.approx(0.5)
