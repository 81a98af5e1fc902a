"""Estimates from pairs of losses: their mean is the enumerated gradient, exactly and in samples; planted faults are seen."""

import itertools

import pytest
import torch

from gates.toys import check_mean, classifier_loss, enumerated_gradient, generator
from parsinet.errors import UsageError
from parsinet.gates import PAIR_ESTIMATORS, antithetic, arm, disarm

THETAS = [(0.3, 0.8, 0.55), (0.05, 0.95, 0.5), (0.5, 0.5, 0.5), (0.9, 0.9, 0.9)]
ESTIMATORS = pytest.mark.parametrize("estimator", PAIR_ESTIMATORS.values(), ids=PAIR_ESTIMATORS)


def vector(*values):
    return torch.tensor(values, dtype=torch.float64)


def moments(estimator, theta, pair=antithetic, loss=classifier_loss):
    """Mean and mean square over u in the unit cube: between 0, θ, 1 − θ and 1 the masks are fixed and the estimate is affine in each u.

    Three Gauss points (exact to degree five) on each interval.
    """
    nodes, weights = vector(-(0.6**0.5), 0, 0.6**0.5), vector(5, 8, 5) / 18
    axes = []
    for value in theta.tolist():
        ends = [0.0, min(value, 1 - value), max(value, 1 - value), 1.0]
        pieces = [(low, high) for low, high in itertools.pairwise(ends) if high > low]
        points = [(low + high + (high - low) * node) / 2 for low, high in pieces for node in nodes]
        axes.append(list(zip(points, [(high - low) * weight for low, high in pieces for weight in weights], strict=True)))
    table, mean, square = {}, torch.zeros_like(theta), torch.zeros_like(theta)
    for corner in itertools.product(*axes):
        uniform, weight = torch.stack([u for u, _ in corner]), torch.stack([w for _, w in corner]).prod()
        masks = [tuple(mask.tolist()) for mask in pair(uniform, theta)]
        losses = [table[mask] if mask in table else table.setdefault(mask, loss(vector(*mask))) for mask in masks]
        estimate = estimator(losses[0] - losses[1], uniform, theta)
        mean += weight * estimate
        square += weight * estimate.square()
    return mean, square


def check_unbiased(estimator, theta, pair=antithetic):
    mean, _ = moments(estimator, theta, pair)
    assert torch.allclose(mean, enumerated_gradient(classifier_loss, theta), atol=1e-12)


@ESTIMATORS
@pytest.mark.parametrize("theta", THETAS, ids=str)
def test_the_mean_over_all_pairs_is_the_enumerated_gradient(estimator, theta):
    check_unbiased(estimator, vector(*theta))


@ESTIMATORS
def test_samples_average_to_the_enumerated_gradient(estimator):
    theta, random = vector(*THETAS[0]), generator(3)
    samples = []
    for _ in range(1500):
        uniform = torch.rand(3, generator=random, dtype=torch.float64)
        first, second = antithetic(uniform, theta)
        samples.append(estimator(classifier_loss(first) - classifier_loss(second), uniform, theta))
    check_mean(torch.stack(samples), enumerated_gradient(classifier_loss, theta))
    with pytest.raises(AssertionError):
        check_mean(-torch.stack(samples), enumerated_gradient(classifier_loss, theta))


def test_the_mean_for_a_unit_does_not_hang_on_its_own_theta():
    """Why θ may be held off its ends for the draw."""
    inside, held = (moments(disarm, vector(value, 0.8, 0.55))[0][0] for value in (0.999, 0.95))
    assert torch.allclose(inside, held, atol=1e-12)


@pytest.mark.parametrize("theta", THETAS, ids=str)
def test_disarm_has_no_more_variance_than_arm(theta):
    _, rough = moments(arm, vector(*theta))
    _, fine = moments(disarm, vector(*theta))
    assert (fine <= rough + 1e-12).all()
    assert (fine < 0.9 * rough).any()


def in_logits(difference, uniform, theta):
    """The paper's derivative in φ, taken for the one in θ."""
    return difference * (uniform - 0.5)


def without_the_half(difference, uniform, theta):
    return 2 * disarm(difference, uniform, theta)


def the_other_way(difference, uniform, theta):
    return -arm(difference, uniform, theta)


@pytest.mark.parametrize("fault", [in_logits, without_the_half, the_other_way])
def test_planted_faults_in_the_estimate_are_seen(fault):
    with pytest.raises(AssertionError):
        check_unbiased(fault, vector(*THETAS[0]))


@ESTIMATORS
def test_planted_faults_in_the_pair_are_seen(estimator):
    """The same mask twice, and masks of 1 − θ."""
    for pair in (lambda u, theta: antithetic(u, theta)[:1] * 2, lambda u, theta: antithetic(u, 1 - theta)):
        with pytest.raises(AssertionError):
            check_unbiased(estimator, vector(*THETAS[0]), pair)


def test_both_masks_are_open_with_probability_theta_and_differ_as_often_as_they_can():
    theta = vector(0.0, 0.1, 0.5, 0.9, 1.0)
    uniform = torch.rand(20_000, 5, generator=generator(), dtype=torch.float64)
    first, second = (torch.stack(rows) for rows in zip(*(antithetic(u, theta) for u in uniform), strict=True))
    bound = 4 * 0.5 / 20_000**0.5  # four standard errors
    for mask in (first, second):
        assert (mask.mean(0) - theta).abs().max() < bound
    assert ((first != second).double().mean(0) - 2 * torch.minimum(theta, 1 - theta)).abs().max() < bound
    assert first.dtype == theta.dtype


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: antithetic(torch.rand(3), torch.rand(2)), "rows of one length"),
        (lambda: antithetic(torch.rand(4, 3), torch.rand(3)), "rows of one length"),
        (lambda: arm(torch.tensor(1.0), torch.rand(2), torch.tensor([0.5, 1.0])), r"arm: theta must lie inside \(0, 1\)"),
        (lambda: disarm(torch.tensor(1.0), torch.rand(2), torch.tensor([0.5, 0.0])), r"disarm: theta must lie inside \(0, 1\)"),
    ],
)
def test_refusals_name_the_argument(call, words):
    with pytest.raises(UsageError, match=words):
        call()
