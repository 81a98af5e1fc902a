"""Rules for new masks: exact counts, rows that never empty, exchange, gradients of both signs; each law is seen to object."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from parsinet import topology
from parsinet.errors import UsageError

Tensors = dict[str, Tensor]
DIMS = {"a": 0, "b": 0, "c": 1}


def case(seed: int, density: float = 0.5) -> tuple[Tensors, Tensors, Tensors]:
    """Weights with rows of very different scale, masks without an empty row, gradients of both signs."""
    random = torch.Generator().manual_seed(seed)
    shapes = {"a": (6, 9), "b": (4, 3, 3, 3), "c": (5, 4, 2)}
    weights, masks, gradients = {}, {}, {}
    for name, shape in shapes.items():
        scale = torch.logspace(-3, 3, shape[0], dtype=torch.float64).view(-1, *[1] * (len(shape) - 1))
        mask = torch.rand(shape, generator=random) < density
        mask[0] = True
        for row in mask.transpose(0, DIMS[name]):
            if not row.any():
                row[(0,) * row.dim()] = True
        weights[name] = torch.randn(shape, generator=random, dtype=torch.float64) * scale * mask
        masks[name] = mask
        gradients[name] = torch.randn(shape, generator=random, dtype=torch.float64)
    return weights, masks, gradients


def active(masks: Tensors) -> int:
    return sum(int(mask.sum()) for mask in masks.values())


def empty_rows(masks: Tensors) -> int:
    return sum(int((~mask.transpose(0, DIMS[name]).flatten(1).any(1)).sum()) for name, mask in masks.items())


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000), st.floats(0.01, 1.0), st.booleans())
def test_evolve_meets_the_count_and_empties_no_row(seed: int, rate: float, dealt_out: bool) -> None:
    weights, masks, gradients = case(seed)
    for number in (40, 80, 150):
        wanted: Any = topology.wanted({n: w.shape for n, w in weights.items()}, 1 - number / 202, "uniform") if dealt_out else number
        after = topology.evolve(weights, masks, gradients, rate, wanted, unit_dims=DIMS)
        assert active(after) == number
        assert empty_rows(after) == 0
        if dealt_out:
            assert {name: int(mask.sum()) for name, mask in after.items()} == wanted


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000), st.floats(0.01, 1.0))
def test_the_threshold_alone_empties_no_row(seed: int, rate: float) -> None:
    weights, masks, _ = case(seed)
    kept = {name: topology.above_threshold(weights[name], masks[name], rate, DIMS[name]) for name in masks}
    assert empty_rows(kept) == 0
    assert all(bool((kept[name] <= masks[name]).all()) for name in masks)


def test_the_row_laws_object_to_a_threshold_of_the_whole_tensor() -> None:
    weights, masks, _ = case(0)
    kept = {name: masks[name] & (weights[name].abs() >= 0.2 * weights[name].abs().mean()) for name in masks}
    assert empty_rows(kept) > 0


def test_the_threshold_keeps_a_row_of_equal_weights() -> None:
    """The mean of equal numbers may be rounded above them."""
    weight = torch.full((1, 10), 0.1)
    assert topology.above_threshold(weight, torch.ones(1, 10, dtype=torch.bool), 1.0).all()


def test_thresholds_and_scores_by_hand() -> None:
    weight = torch.tensor([[4.0, -2.0, 0.0, 1.0], [0.4, 0.0, 0.0, 0.0]])
    mask = torch.tensor([[True, True, False, True], [True, False, False, False]])
    assert topology.mean_active(weight, mask).flatten().tolist() == pytest.approx([7 / 3, 0.4])
    assert topology.above_threshold(weight, mask, 0.6).tolist() == [[True, True, False, False], [True, False, False, False]]
    assert topology.relative_magnitude(weight, mask)[0].tolist() == pytest.approx([12 / 7, 6 / 7, 0, 3 / 7])
    assert topology.relative_gradient(torch.tensor([[3.0, -4.0], [0.0, 0.0]])).tolist() == [
        [pytest.approx(0.6), pytest.approx(0.8)],
        [0, 0],
    ]
    assert topology.strongest(weight, mask, 2).tolist() == [[True, True, False, False], [True, False, False, False]]


def test_growth_takes_the_largest_gradient_of_either_sign() -> None:
    weights = {"a": torch.tensor([[1.0, 0.0, 0.0, 0.0]])}
    masks = {"a": torch.tensor([[True, False, False, False]])}
    gradients = {"a": torch.tensor([[0.0, 1.0, -3.0, 2.0]])}
    grown = topology.evolve(weights, masks, gradients, 0.2, 2, unit_dims={"a": 0})["a"]
    assert grown.tolist() == [[True, False, True, False]]
    signed = topology.top_k(gradients["a"], 1, ~masks["a"])
    assert not torch.equal(grown, masks["a"] | signed), "the signed score takes another"


def test_a_floor_above_the_count_is_refused() -> None:
    weights, masks, gradients = case(3)
    with pytest.raises(UsageError, match="10 weights are to stay active, but the floor per row holds 14"):
        topology.evolve(weights, masks, gradients, 0.2, 10, unit_dims=DIMS)
    assert active(topology.evolve(weights, masks, gradients, 0.2, 10, unit_dims=DIMS, least=0)) == 10


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10_000), st.floats(0.01, 0.99), st.booleans())
def test_exchange_keeps_every_tensors_count(seed: int, rate: float, by_sign: bool) -> None:
    weights, masks, gradients = case(seed, density=0.3)
    after = topology.exchange(weights, masks, topology.magnitudes(gradients), rate, by_sign=by_sign)
    assert {n: int(m.sum()) for n, m in after.items()} == {n: int(m.sum()) for n, m in masks.items()}


def test_exchange_by_hand() -> None:
    weights = {"a": torch.tensor([[-1.0, -2.0, 3.0, 4.0, 5.0, 0.0, 0.0]])}
    masks = {"a": weights["a"] != 0}
    growth = {"a": torch.tensor([[0.1, 0.0, 0.0, 0.0, 0.0, 0.3, 0.2]])}
    assert topology.exchange(weights, masks, growth, 0.5)["a"].tolist() == [[False, False, True, True, True, True, True]]
    by_sign = topology.exchange(weights, masks, growth, 0.5, by_sign=True)["a"]
    assert by_sign.tolist() == [[False, True, False, True, True, True, True]], (
        "half of two negative, a third rounded down of three positive"
    )


def test_pruning_brings_nothing_back() -> None:
    weights, masks, _ = case(1)
    scores = {name: torch.ones_like(weight) for name, weight in weights.items()}
    after = topology.prune(scores, masks, 30)
    assert active(after) == 30
    assert all(bool((after[name] <= masks[name]).all()) for name in masks)
    assert active(topology.prune(scores, masks, 10_000)) == active(masks)


def test_regrow_follows_the_authors_rule() -> None:
    weights, masks, gradients = case(2)
    kept = {name: topology.above_threshold(weights[name], masks[name], 0.5, DIMS[name]) for name in masks}
    after = topology.regrow(weights, masks, gradients, 0.5, 0.6, unit_dims=DIMS)
    for name in masks:
        dropped = int(masks[name].sum()) - int(kept[name].sum())
        assert dropped > 0
        assert int(after[name].sum()) == int(kept[name].sum()) + int(0.6 * dropped)
        assert bool((kept[name] <= after[name]).all())


def test_lots_come_from_the_generator_alone() -> None:
    masks = {"a": torch.ones(3, 4, dtype=torch.bool)}
    first, again = (topology.lots(masks, torch.Generator().manual_seed(5))["a"] for _ in range(2))
    assert torch.equal(first, again)
    assert int(topology.scatter(masks, {"a": 5}, {"a": first})["a"].sum()) == 5
