"""Units that no weight reads: found back to the first layer, and removed without a change of the function."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from methods.toys import network
from parsinet.methods.units import read_units
from parsinet.structure import shrink, trace


class Residual(nn.Module):
    """A convolution inside a residual block, a stem whose units two layers and the sum read, a flattened linear layer."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.a, self.b = nn.Conv2d(1, 6, 3, padding=1), nn.Conv2d(6, 8, 3, padding=1), nn.Conv2d(8, 6, 1)
        self.norm, self.out = nn.BatchNorm2d(8), nn.Linear(6 * 4 * 5, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.stem(x))
        x = x + self.b(torch.relu(self.norm(self.a(x))))
        return self.out(x.flatten(1))


def masked(model: nn.Module, gone: dict[str, Any]) -> dict[str, Tensor]:
    """Zero what is named and return which entries of every matrix and kernel are there."""
    tensors = dict(model.named_parameters())
    present = {name: torch.ones_like(tensor, dtype=torch.bool) for name, tensor in tensors.items() if tensor.dim() > 1}
    with torch.no_grad():
        for name, index in gone.items():
            present[name][index] = False
            tensors[name].mul_(present[name])
    return present


CASES: dict[str, Any] = {
    "one layer": (network, (2,), {"fc2.weight": (slice(None), [0, 3])}, {"fc1": [0, 3]}),
    "a chain": (network, (2,), {"out.weight": (slice(None), [1]), "fc2.weight": ([0, 2, 3, 4, 5, 6, 7], 4)}, {"fc1": [4], "fc2": [1]}),
    "all of a layer": (network, (2,), {"out.weight": slice(None)}, {"fc2": range(1, 8)}),
    "a kernel": (Residual, (1, 4, 5), {"b.weight": (slice(None), [2, 5])}, {"a": [2, 5]}),
    "read by one of two": (Residual, (1, 4, 5), {"out.weight": (slice(None), slice(0, 20))}, {}),
    "a residual stream": (Residual, (1, 4, 5), {"out.weight": (slice(None), slice(0, 20)), "a.weight": (slice(None), 0)}, {"stem": [0]}),
}


@pytest.mark.parametrize(("build", "shape", "gone", "expected"), CASES.values(), ids=CASES)
def test_unread_units_leave_without_a_trace(build: Any, shape: tuple[int, ...], gone: dict[str, Any], expected: dict[str, Any]) -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = build().double().eval()
    x = torch.randn(3, *shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    structure = trace(model, x)
    alive = read_units(structure, masked(model, gone))
    found = {name: (~mask).nonzero().flatten().tolist() for name, mask in alive.items() if not mask.all()}
    names = {name: next(group.name for group in structure.groups if f"{name}.weight" in group.parameters[0]) for name in expected}
    assert found == {names[name]: list(units) for name, units in expected.items()}
    before = model(x)
    smaller = copy.deepcopy(model)
    shrink(smaller, structure.plan(alive))
    assert torch.allclose(smaller(x), before, rtol=1e-10, atol=1e-12)


def test_the_law_objects_to_units_that_are_still_read() -> None:
    model = network().double().eval()
    x = torch.randn(3, 2, dtype=torch.float64)
    structure = trace(model, x)
    before = model(x)
    shrink(model, structure.plan({"fc1": torch.arange(12) > 5}))
    assert not torch.allclose(model(x), before, rtol=1e-6)


def test_tensors_without_a_mask_count_as_there() -> None:
    model = network()
    assert all(mask.all() for mask in read_units(trace(model, torch.randn(2, 2)), {}).values())


def test_groups_whose_removal_is_not_exact_are_left_out() -> None:
    model = nn.Sequential(nn.Linear(4, 6), nn.LayerNorm(6), nn.Linear(6, 3))
    structure = trace(model, torch.randn(2, 4))
    assert not structure.groups[0].exact
    assert read_units(structure, masked(model, {"2.weight": (slice(None), [1])})) == {}
