"""The distance from a teacher: against a slow twin, its gradient in closed form, and what is refused."""

import math

import pytest
import torch
from torch import Tensor

from parsinet.errors import UsageError
from parsinet.training import distillation

TEMPERATURES = pytest.mark.parametrize("temperature", [0.5, 1.0, 4.0])


def logits(*shape: int, seed: int) -> Tensor:
    return 3 * torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def probabilities(row: list[float], temperature: float) -> list[float]:
    weights = [math.exp(value / temperature) for value in row]
    return [weight / sum(weights) for weight in weights]


def slow(student: Tensor, teacher: Tensor, temperature: float) -> float:
    """T² · mean Σ_k q_k (log q_k − log p_k), number by number."""
    rows = []
    for z, told in zip(student.flatten(0, -2).tolist(), teacher.flatten(0, -2).tolist(), strict=True):
        p, q = probabilities(z, temperature), probabilities(told, temperature)
        rows.append(sum(b * (math.log(b) - math.log(a)) for a, b in zip(p, q, strict=True)))
    return temperature**2 * sum(rows) / len(rows)


@TEMPERATURES
@pytest.mark.parametrize("shape", [(1, 2), (5, 3), (2, 4, 3)])
def test_equals_the_formula(shape: tuple[int, ...], temperature: float) -> None:
    student, teacher = logits(*shape, seed=0), logits(*shape, seed=1)
    assert distillation(student, teacher, temperature).item() == pytest.approx(slow(student, teacher, temperature), rel=1e-12)


def test_the_formula_sees_sides_exchanged_and_a_forgotten_factor() -> None:
    student, teacher = logits(5, 3, seed=0), logits(5, 3, seed=1)
    value = distillation(student, teacher, 2.0).item()
    assert value != pytest.approx(slow(teacher, student, 2.0), rel=1e-3)
    assert value != pytest.approx(slow(student, teacher, 2.0) / 4, rel=1e-3)


@TEMPERATURES
def test_the_gradient_is_the_difference_of_the_distributions(temperature: float) -> None:
    """d/dz of T² mean KL(q ‖ p) is T (p − q)/B; nothing goes to the teacher."""
    student, teacher = logits(5, 3, seed=0).requires_grad_(), logits(5, 3, seed=1).requires_grad_()
    distillation(student, teacher, temperature).backward()  # type: ignore[no-untyped-call]
    expected = temperature * (torch.softmax(student / temperature, 1) - torch.softmax(teacher / temperature, 1)) / 5
    torch.testing.assert_close(student.grad, expected.detach(), rtol=1e-12, atol=1e-14)
    assert teacher.grad is None


def test_nothing_is_left_where_both_agree() -> None:
    z = logits(4, 3, seed=0)
    assert distillation(z, z + 7.0, 2.0).item() == pytest.approx(0, abs=1e-15)


@pytest.mark.parametrize(
    ("student", "teacher", "words"),
    [
        ((4, 3), (4, 2), r"student's logits have shape \[4, 3\], the teacher's \[4, 2\]"),
        ((4, 1), (4, 1), "at least 2 classes, got shape .4, 1.*regress"),
        ((4,), (4,), "at least 2 classes"),
    ],
)
def test_what_is_no_pair_of_distributions_is_refused(student: tuple[int, ...], teacher: tuple[int, ...], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        distillation(torch.zeros(student), torch.zeros(teacher), 1.0)
