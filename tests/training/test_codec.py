"""Nested states survive JSON and safetensors exactly."""

import json
import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load, save

from parsinet.errors import RunError
from parsinet.training.codec import decode, encode

scalars = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False), st.text(max_size=5))
keys = st.one_of(st.text(max_size=4), st.sampled_from(["$tensor", "$tuple", "$items", "$float", "/"]), st.integers(), st.booleans())
states = st.recursive(
    scalars,
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.lists(inner, max_size=3).map(tuple), st.dictionaries(keys, inner, max_size=3)),
    max_leaves=12,
)


def through_bytes(state: Any) -> Any:
    tree, tensors = encode(state)
    return decode(json.loads(json.dumps(tree, allow_nan=False)), load(save(tensors)))


def exactly(one: Any, other: Any) -> bool:
    """Equal with equal types all the way down."""
    if type(one) is not type(other):
        return False
    if isinstance(one, dict):
        same_keys = [(type(key), key) for key in one] == [(type(key), key) for key in other]
        return same_keys and all(exactly(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(exactly(a, b) for a, b in zip(one, other, strict=True))
    if isinstance(one, torch.Tensor):
        return one.dtype == other.dtype and torch.equal(one, other)
    return bool(one == other)


@given(states)
@settings(max_examples=60, deadline=None)
def test_plain_states_come_back_exactly(state: Any) -> None:
    assert exactly(through_bytes(state), state)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.int64, torch.bool, torch.uint8])
def test_tensors_come_back_exactly(dtype: torch.dtype) -> None:
    square = torch.arange(12).reshape(3, 4).to(dtype)
    state = {"a": [square, square.T, square[:, ::2]], 3: (square[0, 1], torch.empty(0, 2, dtype=dtype)), "a/0": square}
    assert exactly(through_bytes(state), state)


def test_tensors_lie_in_memory_as_they_did() -> None:
    """Kernels round differently by layout; of one with gaps or repeated elements the order of its dimensions comes back."""
    image = torch.arange(120.0).reshape(2, 3, 4, 5).to(memory_format=torch.channels_last)
    matrix = torch.arange(12).reshape(3, 4)
    state = [image, image[:, :1], matrix, matrix.T, matrix.T[:, ::2], matrix[:1].expand(5, 4), torch.empty(0, 2).T]
    for laid, original in zip(through_bytes(state), state, strict=True):
        assert laid.stride() == torch.empty_like(original).stride()
        assert torch.equal(laid, original)


def test_numbers_that_are_not_finite() -> None:
    nan, high, low = through_bytes((math.nan, math.inf, -math.inf))
    assert math.isnan(nan)
    assert (high, low) == (math.inf, -math.inf)


def test_a_stored_tensor_is_a_copy() -> None:
    weight = torch.zeros(2)
    _, tensors = encode([weight])
    weight.add_(1)
    assert tensors["/0"].tolist() == [0, 0]


@pytest.mark.parametrize("strange", [object(), {1, 2}, b"bytes", {(1, 2): 3}, torch.eye(2).to_sparse()])
def test_anything_else_is_refused_with_its_place(strange: Any) -> None:
    with pytest.raises(RunError, match="/model/x"):
        encode({"model": {"x": strange}})


@pytest.mark.parametrize("tree", [{"$tensor": "gone"}, {"$pickle": "x"}])
def test_a_tree_that_encode_cannot_have_made_is_refused(tree: Any) -> None:
    with pytest.raises(RunError, match="cannot be read"):
        decode(tree, {})


def test_what_cannot_be_read_is_named_however_deep_it_lies() -> None:
    with pytest.raises(RunError, match=r"^The state holds \$tensor 'gone', which cannot be read\.$"):
        decode({"$tuple": [{"$items": [[1, {"$tensor": "gone"}]]}]}, {})


@pytest.mark.parametrize("strides", [[0, 1], [-1, 2], [1], ["a", 1]])
def test_strides_that_a_tensor_cannot_have_are_refused(strides: list[Any]) -> None:
    with pytest.raises(RunError, match="cannot be read"):
        decode({"$tensor": "a", "strides": strides}, {"a": torch.zeros(2, 3)})
