"""Expected cost against the sum over all masks, and prices against differences."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from parsinet.errors import UsageError
from parsinet.gates import prices
from parsinet.gates.prices import Complexity, Term

SIZES = {"a": 3, "b": 2, "c": 2}
ROWS: dict[str, tuple[dict[str, list[int]], ...]] = {
    "linear": ({"a": [0, 1, 2]}, {"b": [0, 1]}),
    "bias": ({"a": [0, 1, 2]},),
    "flattened": ({"a": [0, 0, 1, 1, 2, 2]}, {"b": [1, 0]}),
    "one group at both ends": ({"a": [0, 1, 2]}, {"a": [2, 0, 1]}),
    "gates of an LSTM": ({"a": [0, 1, 2] * 4}, {"a": [0, 1, 2]}),
    "ungated indices": ({"a": [0, -1, 1, 2, -1]}, {"a": [-1, 0, 1, 2]}),
    "heads and dimensions": ({"a": [0, 0, 1, 1, 2, 2], "b": [0, 1, 0, 1, 0, 1]}, {"c": [0, 1, -1]}),
    "heads shared": ({"a": [0, 0, 1, 1, 2, 2], "b": [0, 1, 0, 1, 0, 1]}, {"a": [0, 1, 2, -1]}),
    "heads and dimensions at both ends": ({"a": [0, 0, 1, 2], "b": [0, 1, 0, -1]}, {"a": [0, 1, 2], "b": [1, 0, 0]}),
    "three ends": ({"a": [0, 1, 2]}, {"a": [0, 1]}, {"a": [1, 2, -1]}),
    "two pairs": ({"a": [0, 1]}, {"b": [0, 1]}, {"a": [1, 2]}, {"b": [1, 1]}),
}


def term(name: str) -> Term:
    return Term(1.5, tuple({group: torch.tensor(owner) for group, owner in axis.items()} for axis in ROWS[name]))


def thetas(seed: int = 0) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {group: torch.rand(size, generator=generator, dtype=torch.float64) for group, size in SIZES.items()}


def counted(factor: float, axes: tuple[Mapping[str, list[int]], ...], on: Mapping[str, tuple[int, ...]]) -> float:
    """Index by index: what is there once the units off are gone."""
    total = factor
    for axis in axes:
        length = len(next(iter(axis.values())))
        total *= sum(all(owner[i] < 0 or on[group][owner[i]] for group, owner in axis.items()) for i in range(length))
    return total


def enumerated(name: str, theta: Mapping[str, Tensor]) -> float:
    """The expectation as a sum over all masks."""
    units = [(group, i) for group, size in SIZES.items() for i in range(size)]
    total = 0.0
    for bits in itertools.product((0, 1), repeat=len(units)):
        on = {group: tuple(bit for (g, _), bit in zip(units, bits, strict=True) if g == group) for group in SIZES}
        chance = 1.0
        for (group, i), bit in zip(units, bits, strict=True):
            chance *= float(theta[group][i]) if bit else 1 - float(theta[group][i])
        total += chance * counted(1.5, ROWS[name], on)
    return total


@pytest.mark.parametrize("name", ROWS)
def test_the_expected_cost_is_the_sum_over_all_masks(name: str) -> None:
    theta = thetas()
    assert float(Complexity((term(name),)).expected(theta)) == pytest.approx(enumerated(name, theta), rel=1e-12)


def test_the_law_objects_to_a_shared_group_that_is_counted_as_two() -> None:
    """n² instead of n² − Σθ² + Σθ: what treating the two ends as independent would give."""
    theta = thetas()
    independent = 1.5 * float(theta["a"].sum()) ** 2
    assert independent != pytest.approx(enumerated("one group at both ends", theta), rel=1e-3)


@pytest.mark.parametrize("name", ROWS)
def test_the_gradient_is_the_difference_between_open_and_closed(name: str) -> None:
    """Exact, not only in the limit: the cost is linear in every single θ."""
    cost, theta = Complexity((term(name),), 7.0), thetas(1)
    gradient = cost.gradient(theta)
    for group, row in theta.items():
        for i in range(len(row)):
            ends = []
            for end in (0.0, 1.0):
                moved = {**theta, group: row.clone()}
                moved[group][i] = end
                ends.append(float(cost.expected(moved)))
            assert float(gradient[group][i]) == pytest.approx(ends[1] - ends[0], abs=1e-12)


def test_groups_that_are_not_named_are_open() -> None:
    cost = Complexity((term("linear"),), 2.0)
    assert cost.of({}) == cost.dense == 2 + 1.5 * 6
    assert cost.of({"b": torch.tensor([True, False])}) == 2 + 1.5 * 3
    assert cost.gradient({"c": torch.ones(2)}) == {"c": pytest.approx(torch.zeros(2))}


def test_costs_are_scaled_and_added() -> None:
    one, two, theta = Complexity((term("linear"),), 2.0), Complexity((term("bias"),), 1.0), thetas()
    both = one.scaled(0.5) + two
    assert float(both.expected(theta)) == pytest.approx(0.5 * float(one.expected(theta)) + float(two.expected(theta)))
    assert both.dense == pytest.approx(0.5 * one.dense + two.dense)


def test_groups_that_meet_on_axes_too_long_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prices, "LARGEST_GRID", 11)
    with pytest.raises(UsageError, match=r"groups a, b meet on axes of \[4, 3\] indices, too many to be priced"):
        term("heads and dimensions at both ends").expected(thetas())
    term("heads shared").expected(thetas())


def test_the_twin_notices_another_factor() -> None:
    theta = thetas()
    wrong = Complexity((replace(term("linear"), factor=1.6),))
    assert float(wrong.expected(theta)) != pytest.approx(enumerated("linear", theta), rel=1e-3)
