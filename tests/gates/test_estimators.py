"""The estimators against enumeration, against the theory of a quadratic loss, and against planted faults."""

import itertools
import math

import pytest
import torch
from torch import nn

from gates.toys import check_mean, classifier_loss, draw, enumerated_gradient, generator
from parsinet.errors import UsageError
from parsinet.gates import ESTIMATORS, QSink, curvature_corrected, exact_flip, exact_flips, gate, straight_through, theta_step_


def test_exact_flips_average_to_the_enumerated_gradient():
    theta = torch.tensor([0.3, 0.8, 0.55], dtype=torch.float64)
    masks = torch.bernoulli(theta.expand(1500, -1), generator=generator(5))
    table = {}
    for mask in masks:
        key = tuple(mask.tolist())
        if key not in table:
            table[key] = exact_flips(classifier_loss, mask)
    samples = torch.stack([table[tuple(mask.tolist())] for mask in masks])
    check_mean(samples, enumerated_gradient(classifier_loss, theta))
    with pytest.raises(AssertionError):
        check_mean(-samples, enumerated_gradient(classifier_loss, theta))


def test_exact_flips_with_a_draw_per_example_average_to_the_same_gradient_with_less_noise():
    """C is a mean over examples, so its expectation does not see whether they share their gates."""
    theta, random = torch.tensor([0.3, 0.8, 0.55], dtype=torch.float64), generator(6)
    rows = [torch.bernoulli(theta.expand(40, -1), generator=random) for _ in range(300)]
    samples = torch.stack([torch.stack([exact_flip(classifier_loss, xi, unit) for unit in range(3)]) for xi in rows])
    check_mean(samples, enumerated_gradient(classifier_loss, theta))
    shared = torch.stack([torch.stack([exact_flip(classifier_loss, xi[0], unit) for unit in range(3)]) for xi in rows])
    assert (samples.std(0) < 0.5 * shared.std(0)).all()


def test_exact_flips_agree_with_exact_flip_and_with_signed_differences():
    for mask in itertools.product((0.0, 1.0), repeat=3):
        xi = torch.tensor(mask, dtype=torch.float64)
        singly = torch.stack([exact_flip(classifier_loss, xi, unit) for unit in range(3)])
        assert torch.allclose(exact_flips(classifier_loss, xi), singly, atol=1e-15)
        assert torch.allclose(exact_flips(classifier_loss, xi, [2, 0]), singly[[2, 0]], atol=1e-15)
        assert torch.allclose(exact_flip(classifier_loss, xi.expand(40, -1), 1), singly[1], atol=1e-15)
        assert torch.equal(xi, torch.tensor(mask, dtype=torch.float64))


CURVATURE, SLOPE = 1.0, -0.7  # C(ξ) = C₀ + SLOPE·ξ + ½·CURVATURE·ξ², hence Δ = −SLOPE − CURVATURE/2
DELTA = -SLOPE - CURVATURE / 2


def toy_q(xi, kappa):
    """Two examples whose derivatives have mean SLOPE + c·ξ and mean square κ·c."""
    mean = SLOPE + CURVATURE * xi
    spread = math.sqrt(kappa * CURVATURE - mean**2) if kappa else 0.0
    return torch.tensor([[mean + spread], [mean - spread]], dtype=torch.float64)


def expected_estimate(estimator, theta, kappa):
    """E over ξ ~ Bern(θ), both values enumerated."""
    values = [estimator(toy_q(xi, kappa), torch.tensor([xi], dtype=torch.float64)).item() for xi in (0.0, 1.0)]
    return (1 - theta) * values[0] + theta * values[1]


def check_bias(estimator, kappa):
    for theta in (0.0, 0.25, 0.5, 1.0):
        assert expected_estimate(estimator, theta, kappa) == pytest.approx(-DELTA + (1 - kappa) * CURVATURE * (theta - 0.5), abs=1e-12)


def check_rest_point(estimator, kappa, rho):
    theta = torch.tensor([0.9], dtype=torch.float64)
    for _ in range(3000):
        estimate = torch.tensor([expected_estimate(estimator, theta.item(), kappa)], dtype=torch.float64)
        theta_step_(theta, estimate, rho, fall_steps=20 / rho, clamp=None)
    stated = 0.5 + (DELTA - rho) / ((1 - kappa) * CURVATURE)
    assert theta.item() == pytest.approx(min(max(stated, 0.0), 1.0), abs=1e-6)


CASES = [(straight_through, 0.0), (curvature_corrected, 0.5), (curvature_corrected, 1.0)]


@pytest.mark.parametrize(("estimator", "kappa"), CASES)
def test_bias_on_a_quadratic_loss(estimator, kappa):
    check_bias(estimator, kappa)


@pytest.mark.parametrize("rho", [0.05, 0.3, 1.5])
@pytest.mark.parametrize(("estimator", "kappa"), CASES[:2])
def test_rest_point_on_a_quadratic_loss(estimator, kappa, rho):
    check_rest_point(estimator, kappa, rho)


def flipped_sign(q, xi):
    return q.mean(0) - (0.5 - xi) * q.square().mean(0)


def squared_mean(q, xi):
    return q.mean(0) + (0.5 - xi) * q.mean(0).square()


@pytest.mark.parametrize("fault", [flipped_sign, squared_mean])
def test_planted_fault_breaks_the_laws(fault):
    with pytest.raises(AssertionError):
        check_bias(fault, 0.5)
    with pytest.raises(AssertionError):
        check_rest_point(fault, 0.5, 0.3)


def test_curvature_correction_removes_bias_only_by_its_own_kappa():
    truth = -DELTA
    for theta in (0.0, 1.0):
        plain = abs(expected_estimate(straight_through, theta, 0.5) - truth)
        corrected = abs(expected_estimate(curvature_corrected, theta, 0.5) - truth)
        assert corrected == pytest.approx(0.5 * plain)


def test_per_example_gates_keep_their_factor_inside_the_mean():
    q, xi = draw(7, 3), torch.bernoulli(torch.full((7, 3), 0.5), generator=generator(1)).double()
    slow = torch.stack([sum(q[n, i] + (0.5 - xi[n, i]) * q[n, i] ** 2 for n in range(7)) / 7 for i in range(3)])
    assert torch.allclose(curvature_corrected(q, xi), slow, atol=1e-14)
    assert not torch.allclose(curvature_corrected(q, xi[0]), slow)
    shared = xi[0].expand(7, -1)
    assert torch.allclose(curvature_corrected(q, shared), curvature_corrected(q, xi[0]), atol=1e-14)
    assert torch.equal(straight_through(q, xi), q.mean(0))


def test_straight_through_returns_the_decay_at_a_stationary_point():
    """ST_i = −λ‖w_out,i‖² where the weights are stationary at ξ = 1, whatever the unit is worth."""
    batch, decay = 60, 0.02
    x, target = draw(batch, 4, seed=6), torch.randint(0, 3, (batch,), generator=generator(7))
    weights = [draw(4, 5, seed=8).requires_grad_(), draw(5, 3, seed=9).requires_grad_()]
    sink, xi = QSink(), torch.ones(5, dtype=torch.float64)

    def loss():
        z = gate(torch.tanh(x @ weights[0]), xi, 1, sink)
        return nn.functional.cross_entropy(z @ weights[1], target)

    optimizer = torch.optim.LBFGS(
        weights, max_iter=2000, tolerance_grad=1e-11, tolerance_change=0, history_size=50, line_search_fn="strong_wolfe"
    )

    def closure():
        optimizer.zero_grad()
        total = loss() + decay / 2 * sum(w.square().sum() for w in weights)
        total.backward()
        return total

    optimizer.step(closure)
    assert max((w.grad.abs().max().item()) for w in weights) < 1e-8
    sink.take()
    loss().backward()
    estimate = straight_through(batch * sink.take(), xi)
    stated = -decay * weights[1].detach().square().sum(1)
    assert stated.abs().max() > 1e-3
    assert torch.allclose(estimate, stated, atol=1e-7)


def test_table_names_the_estimators():
    assert dict(ESTIMATORS) == {"straight-through": straight_through, "curvature": curvature_corrected}


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: straight_through(torch.ones(3), torch.ones(3)), "q must be"),
        (lambda: straight_through(torch.ones(0, 3), torch.ones(3)), "at least one example"),
        (lambda: curvature_corrected(torch.ones(2, 3), torch.ones(2)), "xi must be"),
        (lambda: curvature_corrected(torch.ones(2, 3), torch.tensor(1.0)), "xi must be"),
        (lambda: exact_flip(classifier_loss, torch.ones(3), 3), "unit must be in 0 … 2, got 3"),
        (lambda: exact_flips(classifier_loss, torch.ones(3), [-1]), r"units must be in 0 … 2, got \[-1\]"),
        (lambda: exact_flips(classifier_loss, torch.full((3,), 0.5)), "one row of 0 and 1"),
        (lambda: exact_flips(classifier_loss, torch.ones(2, 3)), "Use exact_flip"),
    ],
)
def test_refusals_name_the_argument(call, words):
    with pytest.raises(UsageError, match=words):
        call()
