"""The deterministic-solution theorem on a net with three gated units, by enumeration of its eight masks."""

import itertools

import pytest
import torch
from torch import nn

from parsinet.gates import exact_flip

MASKS = torch.tensor(list(itertools.product((0.0, 1.0), repeat=3)), dtype=torch.float64)
PRICES = torch.tensor([0.05, 0.2, 0.1], dtype=torch.float64)


def draw(*shape, seed):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def mask_loss(xi, outgoing=None):
    x = draw(30, 4, seed=1)
    target = torch.randint(0, 3, (30,), generator=torch.Generator().manual_seed(2))
    outgoing = draw(3, 3, seed=4) if outgoing is None else outgoing
    return nn.functional.cross_entropy((torch.relu(x @ draw(4, 3, seed=3)) * xi) @ outgoing, target)


TABLE = torch.stack([mask_loss(mask) for mask in MASKS])


def probabilities(theta):
    """P(mask) for all masks: theta [..., 3] to [..., 8]."""
    rows = theta.unsqueeze(-2)
    return (MASKS * rows + (1 - MASKS) * (1 - rows)).prod(-1)


def expected(theta):
    return probabilities(theta) @ TABLE


def objective(theta):
    return expected(theta) + theta @ PRICES


def with_bonus_for_doubt(theta):
    """A planted fault: a regulariser that is concave in θ, as the entropy kept by a fixed prior."""
    return objective(theta) - 2.0 * (theta * (1 - theta)).sum(-1)


def check_multilinear(function):
    for start in torch.rand(20, 3, generator=torch.Generator().manual_seed(5), dtype=torch.float64):
        for i in range(3):
            low, middle, high = (start.clone() for _ in range(3))
            low[i], middle[i], high[i] = 0.1, 0.5, 0.9
            assert abs(function(low) - 2 * function(middle) + function(high)) < 1e-13


def check_minimum_at_vertex(function):
    grid = torch.cartesian_prod(*[torch.linspace(0, 1, 21, dtype=torch.float64)] * 3)
    best = grid[function(grid).argmin()]
    assert ((best == 0) | (best == 1)).all()


def check_rounding_never_costs(function):
    for start in torch.rand(20, 3, generator=torch.Generator().manual_seed(6), dtype=torch.float64):
        theta = start.clone()
        for i in range(3):
            before = function(theta)
            ends = theta.repeat(2, 1)
            ends[0, i], ends[1, i] = 0.0, 1.0
            theta = ends[function(ends).argmin()]
            assert function(theta) <= before + 1e-14


LAWS = [check_multilinear, check_minimum_at_vertex, check_rounding_never_costs]


@pytest.mark.parametrize("law", LAWS)
def test_objective(law):
    law(objective)


@pytest.mark.parametrize("law", LAWS)
def test_planted_fault_breaks_the_law(law):
    with pytest.raises(AssertionError):
        law(with_bonus_for_doubt)


def test_gradient_is_the_expected_exact_flip():
    theta = torch.tensor([0.2, 0.7, 0.4], dtype=torch.float64, requires_grad=True)
    (gradient,) = torch.autograd.grad(expected(theta), theta)
    flips = torch.stack([torch.stack([exact_flip(mask_loss, mask, i) for i in range(3)]) for mask in MASKS])
    assert torch.allclose(gradient, probabilities(theta.detach()) @ flips, atol=1e-14)


def test_interior_stationary_point_is_a_saddle():
    """Jointly in (w, θ): L = θ·½(w−1)² + (1−θ)·½ + λ/2·w² + ρθ is stationary inside, with an indefinite Hessian."""
    decay, rho = 0.5, 0.3
    w = 1 - (1 - 2 * rho) ** 0.5
    point = torch.tensor([w, decay * w / (1 - w)], dtype=torch.float64, requires_grad=True)

    def joint(p):
        return p[1] * 0.5 * (p[0] - 1) ** 2 + (1 - p[1]) * 0.5 + decay / 2 * p[0] ** 2 + rho * p[1]

    assert 0 < point[1] < 1
    assert torch.autograd.grad(joint(point), point)[0].abs().max() < 1e-14
    values = torch.linalg.eigvalsh(torch.autograd.functional.hessian(joint, point.detach()))
    assert values[0] < -1e-3
    assert values[1] > 1e-3
