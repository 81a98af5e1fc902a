"""Top-k: exact numbers, ties by index, against sorting; and what cannot be chosen."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from parsinet.errors import UsageError
from parsinet.topology import choose, top_k


def sorted_top_k(scores: Tensor, k: int, allowed: Tensor) -> Tensor:
    """The slow twin: sort pairs of (−score, index)."""
    flat = [(-float(value), index) for index, value in enumerate(scores.flatten()) if allowed.flatten()[index]]
    chosen = torch.zeros(scores.numel(), dtype=torch.bool)
    chosen[[index for _, index in sorted(flat)[:k]]] = True
    return chosen.view(scores.shape)


@settings(max_examples=80, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 6), st.booleans())
def test_it_is_sorting_with_ties_by_index(seed: int, values: int, wide: bool) -> None:
    random = torch.Generator().manual_seed(seed)
    scores = torch.randint(0, values, (4, 5), generator=random).to(torch.float64 if wide else torch.float32)
    allowed = torch.rand(4, 5, generator=random) < 0.7
    for k in range(int(allowed.sum()) + 1):
        assert torch.equal(top_k(scores, k, allowed), sorted_top_k(scores, k, allowed))


def test_the_twin_objects_to_ties_by_chance() -> None:
    scores, allowed = torch.zeros(50), torch.ones(50, dtype=torch.bool)
    chosen = torch.zeros(50, dtype=torch.bool)
    chosen[torch.randperm(50, generator=torch.Generator().manual_seed(1))[:10]] = True
    assert not torch.equal(chosen, sorted_top_k(scores, 10, allowed))


def test_other_dtypes_take_the_other_path() -> None:
    scores = torch.tensor([3.0, 1, 3, 3, 2]).bfloat16()
    assert top_k(scores, 2).tolist() == [True, False, True, False, False]
    assert top_k(scores, 3, torch.tensor([False, True, True, True, True])).tolist() == [False, False, True, True, True]


def test_pooled_tensors_compete_and_dealt_out_ones_do_not() -> None:
    scores = {"a": torch.tensor([[5.0, 1.0]]), "b": torch.tensor([4.0, 5.0, 0.0])}
    assert {n: m.tolist() for n, m in choose(scores, 2).items()} == {"a": [[True, False]], "b": [False, True, False]}
    assert {n: m.tolist() for n, m in choose(scores, {"a": 1, "b": 1}).items()} == {"a": [[True, False]], "b": [False, True, False]}
    assert {n: m.tolist() for n, m in choose(scores, 3).items()} == {"a": [[True, False]], "b": [True, True, False]}


def test_refusals() -> None:
    with pytest.raises(UsageError, match="4 entries cannot be chosen from 3"):
        top_k(torch.zeros(3), 4)
    with pytest.raises(UsageError, match="2 entries cannot be chosen from 1"):
        top_k(torch.zeros(3), 2, torch.tensor([True, False, False]))
    with pytest.raises(UsageError, match="not a number"):
        top_k(torch.tensor([1.0, float("nan"), 0.0]), 1)
