"""Counts of active weights: exact sums, the ERK formula against a slow twin, the edges of the ranges."""

from __future__ import annotations

import re
from math import prod

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from parsinet import topology
from parsinet.errors import UsageError

LENET = {"fc1": (300, 784), "fc2": (100, 300), "fc3": (10, 100)}
SHAPES = st.dictionaries(
    st.text("abcdefgh", min_size=1, max_size=3), st.lists(st.integers(1, 40), min_size=2, max_size=4), min_size=1, max_size=8
)


def bisected_erk(shapes: dict[str, tuple[int, ...]], active: float) -> dict[str, float]:
    """ε by bisection of Σ min(1, ε r) n = active; the slow twin."""
    low, high = 0.0, 1e9
    for _ in range(300):
        epsilon = (low + high) / 2
        total = sum(min(1.0, epsilon * sum(shape) / prod(shape)) * prod(shape) for shape in shapes.values())
        low, high = (epsilon, high) if total < active else (low, epsilon)
    return {name: min(1.0, high * sum(shape) / prod(shape)) for name, shape in shapes.items()}


@settings(max_examples=60, deadline=None)
@given(SHAPES, st.floats(0.02, 1.0))
def test_erk_is_the_bisected_formula(shapes: dict[str, list[int]], share: float) -> None:
    active = share * sum(prod(shape) for shape in shapes.values())
    exact, slow = topology.erk_densities(shapes, active), bisected_erk(shapes, active)  # type: ignore[arg-type]
    assert exact == pytest.approx(slow, abs=1e-9)


def test_the_twin_objects_to_clipping_without_solving_again() -> None:
    """Clipping at 1 and leaving ε loses weights; the last layer of this network is clipped."""
    active = 0.1 * 266_200
    epsilon = active / sum(sum(shape) for shape in LENET.values())
    naive = {name: min(1.0, epsilon * sum(shape) / prod(shape)) for name, shape in LENET.items()}
    assert naive["fc3"] == 1.0
    assert naive != pytest.approx(bisected_erk(LENET, active), abs=1e-3)


@settings(max_examples=60, deadline=None)
@given(SHAPES, st.floats(0.0, 0.95), st.sampled_from(["uniform", "erk"]))
def test_counts_sum_exactly_and_lie_next_to_the_densities(shapes: dict[str, list[int]], sparsity: float, distribution: str) -> None:
    sizes = {name: prod(shape) for name, shape in shapes.items()}
    active = round(sum(sizes.values()) * (1 - sparsity))
    if active < 1:
        return
    counts = topology.wanted(shapes, sparsity, distribution)
    assert isinstance(counts, dict)
    assert sum(counts.values()) == active
    densities = topology.erk_densities(shapes, active) if distribution == "erk" else dict.fromkeys(shapes, active / sum(sizes.values()))
    assert all(counts[name] <= sizes[name] and abs(counts[name] - densities[name] * sizes[name]) <= 1 + 1e-6 for name in shapes)


def test_the_known_counts_of_lenet() -> None:
    assert topology.wanted(LENET, 0.95) == 13310
    assert topology.wanted(LENET, 0.95, "uniform") == {"fc1": 11760, "fc2": 1500, "fc3": 50}
    assert topology.wanted(LENET, 0.95, "erk") == {"fc1": 9051, "fc2": 3340, "fc3": 919}, "13310 / 1594 · (1084, 400, 110)"
    assert topology.wanted(LENET, 0.9, "erk") == {"fc1": 18714, "fc2": 6906, "fc3": 1000}, "fc3 dense, 25620 / 1484 · (1084, 400)"


@pytest.mark.parametrize(
    ("sparsity", "distribution", "words"),
    [
        (1.0, "global", "must be ≥ 0 and < 1, got 1.0"),
        (-0.1, "global", "must be ≥ 0 and < 1, got -0.1"),
        (float("nan"), "erk", "got nan"),
        (0.5, "erdos", "no distribution 'erdos'"),
        (0.9999999, "erk", "leaves none of 266,200 weights"),
    ],
)
def test_refusals(sparsity: float, distribution: str, words: str) -> None:
    with pytest.raises(UsageError, match=re.escape(words)):
        topology.wanted(LENET, sparsity, distribution)


def test_apportion_refuses_more_than_there_is() -> None:
    with pytest.raises(UsageError, match="7 cannot be active"):
        topology.apportion({"a": 7.0}, {"a": 6}, 7)
