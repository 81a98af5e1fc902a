"""The learning rate against values worked out by hand."""

import itertools
import math

import pytest

from parsinet.training import learning_rate
from parsinet.training.recipe import Constant, Cosine, Steps


def rates(schedule: Constant | Steps | Cosine, steps: int = 10, per_epoch: int = 2) -> list[float]:
    return [learning_rate(schedule, 1.0, step, steps, per_epoch) for step in range(steps)]


def test_constant_with_linear_warmup() -> None:
    assert rates(Constant()) == [1.0] * 10
    assert rates(Constant(warmup=0.4)) == [0.25, 0.5, 0.75, 1, 1, 1, 1, 1, 1, 1]


def test_steps_begin_with_their_epoch() -> None:
    assert rates(Steps(steps=((2, 0.5), (4, 0.1)))) == [1, 1, 0.5, 0.5, 0.5, 0.5, 0.1, 0.1, 0.1, 0.1]
    assert rates(Steps(steps=((1, 0.5),))) == [0.5] * 10


def test_cosine_holds_then_falls_to_its_final_share() -> None:
    found = rates(Cosine(warmup=0.2, hold=0.2, final=0.5))
    assert found[:4] == [0.5, 1, 1, 1]
    assert found[4] == 1.0
    assert found[7] == pytest.approx(0.75)
    assert found[9] == pytest.approx(0.5 + 0.25 * (1 + math.cos(math.pi * 5 / 6)))
    assert all(later <= earlier for earlier, later in itertools.pairwise(found[1:]))


def test_cosine_that_only_holds_has_nothing_to_lower() -> None:
    assert rates(Cosine(hold=1.0)) == [1.0] * 10
