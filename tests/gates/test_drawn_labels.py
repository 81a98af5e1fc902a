"""Curvature from labels drawn from the model: over labels it is the Gauss-Newton diagonal; how labels are drawn; which losses it is for."""

import pytest
import torch
from torch.nn import functional as F

from gates.toys import check_mean, draw, generator
from parsinet.errors import UsageError
from parsinet.gates import curvature_corrected, draw_labels, drawn_curvature, is_cross_entropy

B, UNITS, CLASSES = 30, 3, 4
X, TARGETS = draw(B, 5, seed=1), torch.randint(0, CLASSES, (B,), generator=generator(2))
FIRST, LAST = draw(5, UNITS, seed=3), draw(UNITS, CLASSES, seed=4)
XI = torch.bernoulli(torch.full((B, UNITS), 0.5, dtype=torch.float64), generator=generator(5))


def logits(xi):
    return (torch.tanh(X @ FIRST) * xi) @ LAST


def derivatives(labels):
    """∂(−log p(label | x_n))/∂ξ_n of every example."""
    xi = XI.clone().requires_grad_()
    return torch.autograd.grad(F.cross_entropy(logits(xi), labels, reduction="sum"), xi)[0]


def curvature():
    """Jᵀ(diag p − p pᵀ)J per example and unit: the second derivative of the cross-entropy, logits being linear in ξ."""
    jacobian = torch.tanh(X @ FIRST).unsqueeze(-1) * LAST  # [B, units, classes]
    p = logits(XI).softmax(-1)
    hessian = torch.diag_embed(p) - p.unsqueeze(-1) * p.unsqueeze(-2)
    return torch.einsum("bic,bcd,bid->bi", jacobian, hessian, jacobian)


def over_labels(labels_of=lambda k: torch.full((B,), k)):
    """E over the model's labels of s², enumerated."""
    p = logits(XI).softmax(-1)
    return sum(p[:, k, None] * derivatives(labels_of(k)).square() for k in range(CLASSES))


def exact():
    """Straight-through and half the exact curvature."""
    return (derivatives(TARGETS) + (0.5 - XI) * curvature()).mean(0)


def samples(times=400, labels=lambda uniform: draw_labels(logits(XI), uniform), estimator=drawn_curvature):
    q, random = derivatives(TARGETS), generator(6)
    uniforms = (torch.rand(B, generator=random) for _ in range(times))
    return torch.stack([estimator(q, derivatives(labels(uniform)), XI) for uniform in uniforms])


def test_the_mean_square_over_all_labels_is_the_exact_curvature():
    assert torch.allclose(over_labels(), curvature(), atol=1e-12)
    assert not torch.allclose(over_labels(lambda k: TARGETS), curvature(), atol=1e-3), "true labels"


def test_draws_average_to_the_exact_correction():
    check_mean(samples(), exact())


def all_alike(uniform):
    return (CLASSES * uniform).long()


def other_way(q, s, xi):
    return (q - (0.5 - xi) * s.square()).mean(0)


def outside(q, s, xi):
    return q.mean(0) + (0.5 - xi.mean(0)) * s.square().mean(0)


@pytest.mark.parametrize(
    "fault",
    [
        {"labels": lambda uniform: TARGETS},
        {"labels": all_alike},
        {"labels": lambda uniform: draw_labels(2 * logits(XI), uniform)},
        {"estimator": other_way},
        {"estimator": outside},
        {"estimator": lambda q, s, xi: curvature_corrected(q, xi)},
    ],
    ids=["true labels", "labels at random", "too sure labels", "the other way", "the factor outside the mean", "true squares"],
)
def test_the_law_objects_to_planted_faults(fault):
    with pytest.raises(AssertionError):
        check_mean(samples(**fault), exact())


def test_labels_come_with_the_models_probabilities():
    table = torch.tensor([[0.0, 1.0, -1.0], [5.0, -float("inf"), 5.0], [-1e4, 1e4, 0.0]])
    drawn = draw_labels(table.expand(20_000, 3, 3), torch.rand(20_000, 3, generator=generator(7)))
    shares = F.one_hot(drawn, 3).double().mean(0)
    assert (shares - table.double().softmax(-1)).abs().max() < 4 * 0.5 / 20_000**0.5  # four standard errors
    ends = torch.tensor([0.0, 1 - 2**-24])
    assert draw_labels(table[1].expand(2, 3), ends).tolist() == [0, 2]
    assert draw_labels(table[2].expand(2, 3), ends).tolist() == [1, 1]


SMOOTH = torch.full((B, CLASSES), 0.02, dtype=torch.float64) + 0.92 * F.one_hot(TARGETS, CLASSES)
LOSSES = {
    "labels": (True, lambda z: F.cross_entropy(z, TARGETS)),
    "smoothed labels": (True, lambda z: F.cross_entropy(z, TARGETS, label_smoothing=0.1)),
    "distributions": (True, lambda z: F.cross_entropy(z, SMOOTH)),
    "a sum": (False, lambda z: F.cross_entropy(z, TARGETS, reduction="sum")),
    "part of the loss": (False, lambda z: F.cross_entropy(z[:20], TARGETS[:20])),
    "weights of classes": (False, lambda z: F.cross_entropy(z, TARGETS, weight=torch.arange(1, 5).double())),
    "a teacher": (False, lambda z: F.kl_div((z / 2).log_softmax(-1), (3 * z.detach().flip(1)).softmax(-1), reduction="batchmean") * 4),
    "numbers": (False, lambda z: F.mse_loss(z, SMOOTH)),
    "binary": (False, lambda z: F.binary_cross_entropy_with_logits(z, SMOOTH)),
    "log-probabilities": (False, lambda z: F.nll_loss(z, TARGETS)),
}


@pytest.mark.parametrize(("fits", "loss"), LOSSES.values(), ids=LOSSES)
def test_a_derivative_tells_whether_it_is_that_of_a_mean_cross_entropy(fits, loss):
    z = (2 * logits(XI)).requires_grad_()
    (gradient,) = torch.autograd.grad(loss(z), z)
    assert is_cross_entropy(z.detach(), gradient) is fits


@pytest.mark.parametrize("half", [torch.bfloat16, torch.float16])
def test_half_precision_is_allowed_to_round(half):
    z = (2 * logits(XI)).to(half).requires_grad_()
    (gradient,) = torch.autograd.grad(F.cross_entropy(z.float(), TARGETS), z)
    assert is_cross_entropy(z.detach(), gradient)
    assert not is_cross_entropy(z.detach(), 1.1 * gradient)


def test_one_logit_is_no_distribution_and_what_is_not_finite_says_nothing():
    assert not is_cross_entropy(torch.zeros(4, 1), torch.zeros(4, 1))
    assert is_cross_entropy(torch.zeros(4, 2), torch.full((4, 2), torch.nan))


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: drawn_curvature(torch.rand(4, 3), torch.rand(4, 3), torch.rand(3)), r"got \[4, 3\], \[4, 3\], \[3\]"),
        (lambda: drawn_curvature(torch.rand(0, 3), torch.rand(0, 3), torch.rand(0, 3)), "at least one example"),
        (lambda: draw_labels(torch.rand(4, 3), torch.rand(3)), r"want uniform \[...\], got \[4, 3\] and \[3\]"),
    ],
)
def test_refusals_name_the_shapes(call, words):
    with pytest.raises(UsageError, match=words):
        call()
