"""Splits by class: complete, disjoint, proportional, and repeatable."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from parsinet.data.splitting import stratified


@given(st.lists(st.integers(0, 4), min_size=1, max_size=60), st.floats(0, 0.99), st.integers(0, 5))
def test_laws(labels: list[int], fraction: float, seed: int) -> None:
    numbers = torch.tensor(labels)
    kept, held = stratified(numbers, fraction, seed)
    assert sorted([*kept.tolist(), *held.tolist()]) == list(range(len(labels)))
    assert held.tolist() == sorted(held.tolist())
    for number in set(labels):
        count, taken = labels.count(number), int((numbers[held] == number).sum())
        assert taken < count, "every class stays in the kept part"
        assert abs(taken - fraction * count) <= 1


@pytest.mark.parametrize(("fraction", "expected"), [(0.1, 6), (0.25, 15), (0.5, 30)])
def test_total_is_exact(fraction: float, expected: int) -> None:
    labels = torch.tensor([0] * 7 + [1] * 13 + [2] * 17 + [3] * 23)
    assert len(stratified(labels, fraction, 0)[1]) == expected


def test_seed_matters() -> None:
    labels = torch.arange(200) % 4
    first, again, other = (stratified(labels, 0.2, seed)[1].tolist() for seed in (0, 0, 1))
    assert first == again != other
