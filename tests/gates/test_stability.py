"""The box test on a true small net's dynamics, and the region of attraction against the simulated comparison system."""

import math

import pytest
import torch
from torch import nn

from parsinet.errors import UsageError
from parsinet.gates import attracted, box


def uniform(low, high, count, seed):
    return low + (high - low) * torch.rand(count, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def draw(*shape, seed):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


EXAMPLES, FEATURES, CLASSES = 12, 3, 3
X = torch.cat([draw(EXAMPLES, FEATURES, seed=1), torch.ones(EXAMPLES, 1, dtype=torch.float64)], 1)
TARGET = torch.randint(0, CLASSES, (EXAMPLES,), generator=torch.Generator().manual_seed(2))
OFFSET = draw(EXAMPLES, CLASSES, seed=3)  # what the rest of the net says
BOUND = math.sqrt(2) * X.norm(dim=1).mean().item()  # ‖p − y‖ ≤ √2 bounds δ at the logits


def unit_loss(a, b):
    """C_1 of many copies of one relu unit: a [copies, 4], b [copies, 3] → [copies]."""
    logits = OFFSET + torch.relu(a @ X.T).unsqueeze(-1) * b.unsqueeze(1)
    return nn.functional.cross_entropy(logits.flatten(0, 1), TARGET.repeat(len(a)), reduction="none").view(len(a), -1).mean(1)


def simulate_unit(a, b, theta, decay, rho, steps, dt):
    """Euler steps of a′ = −θ∇C_1 − λa, b′ likewise, θ′ = −(C_1 − C_0 + ρ) on [0, 1]; returns (s, θ)."""
    closed = unit_loss(torch.zeros_like(a), b)
    for _ in range(steps):
        a, b = a.detach().requires_grad_(), b.detach().requires_grad_()
        opened = unit_loss(a, b)
        grad_a, grad_b = torch.autograd.grad(opened.sum(), (a, b))
        weight = theta.unsqueeze(1)
        a, b = a - dt * (weight * grad_a + decay * a), b - dt * (weight * grad_b + decay * b)
        theta = (theta - dt * (opened.detach() - closed + rho)).clamp(0, 1)
    return 0.5 * (a.detach().square().sum(1) + b.detach().square().sum(1)), theta


def random_units(s, seed):
    """Weights with ½(‖a‖² + ‖b‖²) = s."""
    weights = nn.functional.normalize(draw(len(s), FEATURES + 1 + CLASSES, seed=seed), dim=1) * (2 * s).sqrt().unsqueeze(1)
    return weights[:, : FEATURES + 1], weights[:, FEATURES + 1 :]


def test_everything_inside_the_box_dies():
    decay, rho, copies = 0.5, 0.4, 60
    theta, s = uniform(0, decay / BOUND, copies, 4), uniform(0, rho / BOUND, copies, 5)
    assert box(theta, s, BOUND, decay, rho).all()
    a, b = random_units(s, 6)
    final_s, final_theta = simulate_unit(a, b, theta, decay, rho, steps=500, dt=0.03)
    assert (final_theta == 0).all()
    assert (final_s < 1e-5).all()


def test_the_dynamics_can_keep_a_unit_that_the_box_does_not_hold():
    """The checker can fail: a large useful unit under a small price survives, and no test claims it."""
    s = torch.full((60,), 4.0, dtype=torch.float64)
    a, b = random_units(s, 7)
    final_s, final_theta = simulate_unit(a, b, torch.ones(60, dtype=torch.float64), 0.01, 0.01, steps=500, dt=0.03)
    assert ((final_theta == 1) & (final_s > 0.1)).any()
    assert not box(1.0, 4.0, BOUND, 0.01, 0.01)
    assert not attracted(1.0, 4.0, BOUND, 0.01, 0.01)


def simulate_comparison(theta, s, G, lam, rho, time=400.0, dt=0.01):
    """True where s′ = 2s(Gθ − λ), θ′ = Gs − ρ, projected on θ in [0, 1], ends at 0; midpoint steps in log s."""
    log_s, theta = s.log(), theta.clone()
    for _ in range(int(time / dt)):
        middle = (theta + dt / 2 * (G * log_s.exp() - rho)).clamp(0, 1)
        middle_s = log_s + dt * (G * theta - lam)
        log_s = (log_s + 2 * dt * (G * middle - lam)).clamp(max=5)
        theta = (theta + dt * (G * middle_s.exp() - rho)).clamp(0, 1)
        if bool((((theta == 0) & (G * log_s.exp() < rho)) | (log_s >= 5)).all()):
            break
    return (theta == 0) & (G * log_s.exp() < rho)


COUNT = 400


def random_states():
    """G, λ, ρ with λ/G in (.05, .6), s up to 3ρ/G, θ in [0, 1]."""
    G, rho = uniform(0.5, 3, COUNT, 10), uniform(0.05, 0.6, COUNT, 11)
    lam = G * uniform(0.05, 0.6, COUNT, 12)
    return uniform(0, 1, COUNT, 13), rho / G * uniform(0.001, 3, COUNT, 14), G, lam, rho


def check_region(rule):
    theta, s, G, lam, rho = random_states()
    clear = rule(theta - 0.02, s, G, lam, rho) == rule(theta + 0.02, s, G, lam, rho)
    assert clear.sum() >= 290
    truth = simulate_comparison(theta, s, G, lam, rho)
    mismatches = int((rule(theta, s, G, lam, rho) != truth)[clear].sum())
    assert mismatches == 0, f"{mismatches} mismatches"
    assert 0.1 < truth.double().mean() < 0.9


def within(theta, s, G, lam, rho):
    return attracted(theta.clamp(0, 1), s, G, lam, rho)


def test_region_of_attraction_matches_simulation():
    check_region(within)


def test_planted_fault_breaks_the_region_law():
    def wrong_side(theta, s, G, lam, rho):
        mirrored = 2 * lam / G - theta
        return ~within(mirrored, s, G, lam, rho)

    for fault in (wrong_side, lambda *state: box(state[0].clamp(0, 1), *state[1:])):
        with pytest.raises(AssertionError, match="mismatches"):
            check_region(fault)


def test_decay_above_the_bound_attracts_everything():
    theta, s = torch.rand(50, generator=torch.Generator().manual_seed(1), dtype=torch.float64), uniform(0.1, 20, 50, 2)
    assert attracted(theta, s, 1.0, 1.2, 0.3).all()
    assert simulate_comparison(theta, s, torch.tensor(1.0), 1.2, 0.3).all()


def test_box_lies_inside_the_region():
    theta, s, G, lam, rho = random_states()
    inside = box(theta, s, G, lam, rho)
    assert inside.any()
    assert attracted(theta, s, G, lam, rho)[inside].all()


def test_a_fully_open_unit_of_small_weights_is_doomed_and_one_without_weights_always():
    assert attracted(1.0, 1e-4, 1.0, 0.3, 0.3)
    assert not box(1.0, 1e-4, 1.0, 0.3, 0.3)
    assert not attracted(1.0, 0.2, 1.0, 0.3, 0.3)
    assert attracted(1.0, 0.0, 1.0, 0.1, 0.3)


@pytest.mark.parametrize("function", [box, attracted])
@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((1.5, 1, 1, 1, 1), r"theta must lie in \[0, 1\]"),
        ((-0.5, 1, 1, 1, 1), "theta must be ≥ 0"),
        ((0.5, -1, 1, 1, 1), "s must be ≥ 0, got -1"),
        ((0.5, 1, 0, 1, 1), "G must be > 0"),
        ((0.5, 1, 1, -1, 1), "lam must be ≥ 0"),
        ((0.5, 1, 1, 1, 0), "rho must be > 0"),
    ],
)
def test_refusals_name_the_argument(function, arguments, words):
    with pytest.raises(UsageError, match=words):
        function(*arguments)
