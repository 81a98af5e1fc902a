"""Digests: equal for bitwise equal states, different for every change."""

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from parsinet.distributed import ALONE, Ranks, digest, mixed, own, pooled


def state() -> dict[str, Any]:
    numbers = torch.Generator().manual_seed(0)
    return {
        "weights": torch.randn(5, 7, generator=numbers),
        "flags": torch.tensor([True, False]),
        "nested": [{"half": torch.ones(3, dtype=torch.bfloat16), "step": 3}, (None, math.inf)],
        "empty": torch.empty(0),
        "complex": torch.ones(2, dtype=torch.complex64),
    }


def nudge(value: Tensor) -> None:
    value.view(-1).view(torch.int32)[11] += 1


CHANGES: dict[str, Callable[[dict[str, Any]], object]] = {
    "one bit": lambda told: nudge(told["weights"]),
    "two entries exchanged": lambda told: told.update(weights=told["weights"].flip(0)),
    "shape": lambda told: told.update(weights=told["weights"].view(7, 5)),
    "dtype": lambda told: told.update(empty=torch.empty(0, dtype=torch.int32)),
    "sign of zero": lambda told: told.update(complex=torch.complex(torch.ones(2), torch.tensor([0.0, -0.0]))),
    "flag": lambda told: told["flags"].logical_not_(),
    "number": lambda told: told["nested"][0].update(step=4),
    "name": lambda told: told.update(other=told.pop("empty")),
    "missing": lambda told: told.pop("flags"),
}


def test_equal_states_have_equal_digests() -> None:
    again = dict(reversed(state().items()))
    again["weights"] = again["weights"].t().contiguous().t()
    assert digest(state()) == digest(again)


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_every_change_shows(change: Callable[[dict[str, Any]], object]) -> None:
    told = state()
    change(told)
    assert digest(told) != digest(state())


def test_large_tensors_are_summed_in_parts() -> None:
    row = torch.zeros(2**20 + 3)
    before = digest(row)
    row[-1] = 1e-30
    after = digest(row)
    row[-1], row[2] = 0, 1e-30
    assert len({before, after, digest(row)}) == 3


def test_one_process_sends_nothing_and_draws_as_ever() -> None:
    generator = torch.Generator().manual_seed(0)
    assert own(generator, ALONE) is generator
    found = {"a": torch.ones(2)}
    assert pooled(found, {"a": torch.zeros(2), "b": torch.zeros(1)}, ALONE) == found
    assert ALONE.first(lambda: 3) == 3
    assert ALONE.gather("x") == ["x"]
    assert ALONE.any(True)


def test_ranks_draw_from_streams_of_their_own_and_leave_the_shared_state_equal() -> None:
    shared = [torch.Generator().manual_seed(5) for _ in range(3)]
    drawn = [torch.rand(50, generator=own(generator, Ranks(rank, 3))) for rank, generator in enumerate(shared)]
    assert not any(torch.equal(drawn[a], drawn[b]) for a, b in ((0, 1), (0, 2), (1, 2)))
    assert all(torch.equal(generator.get_state(), shared[0].get_state()) for generator in shared)
    assert mixed(1, 0) != mixed(0, 1)
