"""The whole network around a core: what is computed without reading the zeros is what the weights laid out in full compute."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import parsinet as pn
from parsinet.structure import embedded as module
from parsinet.structure.embedded import embedded
from parsinet.structure.plan import Plan

EXACT = 1e-12
"""float64; sums over other numbers of terms."""


def convolutions() -> nn.Module:
    return nn.Sequential(
        *(nn.Conv2d(3, 10, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(10), nn.ReLU()),
        *(nn.Conv2d(10, 12, (1, 2), padding="same", dilation=2), nn.SiLU(), nn.Conv2d(12, 12, 3, groups=12, padding=1)),
        *(nn.Conv2d(12, 8, 1), nn.Flatten(), nn.Linear(8 * 12, 7), nn.ReLU(), nn.Linear(7, 4)),
    )


def line() -> nn.Module:
    first = nn.Conv1d(3, 9, 3, padding=1, padding_mode="circular")
    return nn.Sequential(first, nn.Tanh(), nn.Conv1d(9, 8, 2), nn.ReLU(), nn.Conv1d(8, 4, 1))


class Strange(nn.Module):
    """Weights of plain layers read as the layer does not: transposed, by keyword, twice, detached, after a write."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c, self.d = nn.Linear(5, 9), nn.Linear(9, 8), nn.Linear(8, 8), nn.Linear(8, 7)
        self.e, self.head = nn.Linear(7, 6), nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.tanh(self.a(x)) + self.a.bias
        x = torch.tanh(self.b(x) + x @ self.b.weight.T)
        x = torch.tanh(F.linear(x, weight=self.c.weight, bias=self.c.bias))
        x = torch.tanh(self.d(x) * self.d.weight.detach().square().sum(1))
        if not torch.compiler.is_compiling():
            self.e.weight.mul_(0.5)
        return self.head(torch.tanh(self.e(x)))


CASES: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "linear on [batch, positions, features]": (lambda: nn.Sequential(nn.Linear(5, 9), nn.GELU(), nn.Linear(9, 4)), (2, 3, 5)),
    "linear on a vector": (lambda: nn.Sequential(nn.Linear(5, 9), nn.GELU(), nn.Linear(9, 4)), (5,)),
    "conv2d": (convolutions, (2, 3, 6, 8)),
    "conv1d": (line, (2, 3, 7)),
    "conv1d without a batch": (line, (3, 7)),
    "conv3d": (lambda: nn.Sequential(nn.Conv3d(2, 6, 2), nn.ReLU(), nn.Conv3d(6, 3, 1)), (1, 2, 3, 4, 5)),
    "strange": (Strange, (4, 5)),
}


@pytest.fixture(autouse=True)
def no_gradients() -> Iterator[None]:
    with torch.no_grad():
        yield


def case(name: str) -> tuple[nn.Module, Tensor, Plan]:
    torch.manual_seed(0)
    make, shape = CASES[name]
    model, x = make().double().eval(), torch.randn(shape, dtype=torch.float64)
    structure = pn.trace(model, x)
    names = [group for group in structure.groups if group.removable and group.size > 2]
    assert names
    plan = structure.plan({group.name: torch.arange(group.size) % 3 != 1 for group in names})
    return model, x, plan


def laid_out(model: nn.Module, plan: Plan) -> nn.Module:
    """A slow twin: a copy with every matrix entry zero that the plan does not keep, and silenced vectors."""
    twin = copy.deepcopy(model)
    for name, tensor in (*twin.named_parameters(), *twin.named_buffers()):
        for (other, d), indices in (plan.tensors if tensor.dim() > 1 else plan.silent).items():
            if other == name:
                gone = [k for k in range(tensor.shape[d]) if (k not in indices) == (tensor.dim() > 1)]
                tensor.data.index_fill_(d, torch.tensor(gone, dtype=torch.long), 0)
    return twin


@pytest.mark.parametrize("name", CASES)
def test_the_zeros_are_left_out_of_the_sums_alone(name: str) -> None:
    model, x, plan = case(name)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    expected = laid_out(model, plan)(x)
    with embedded(model, plan):
        actual = model(x)
    assert (actual - expected).abs().max() < EXACT * max(1.0, float(expected.abs().max()))
    assert all(torch.equal(before[key], value) for key, value in model.state_dict().items()), "the model is given back as it was"


@pytest.mark.parametrize("name", [name for name in CASES if name != "strange"])
def test_no_layer_reads_a_weight_of_full_size(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Otherwise a trace of a wide network would lay out and read its matrices."""
    model, x, plan = case(name)
    depthwise = sum(getattr(part, "groups", 1) > 1 for part in model.modules())
    laid = []
    lay_out = module._Part.lay_out
    monkeypatch.setattr(module._Part, "lay_out", lambda part: (laid.append(part), lay_out(part)))
    with embedded(model, plan):
        model(x)
    assert len(laid) == depthwise


@pytest.mark.parametrize("fault", ["rows", "columns", "bias"])
def test_the_law_objects_to_a_wrong_place(fault: str, monkeypatch: pytest.MonkeyPatch) -> None:
    indices = module._Part.indices
    d = {"rows": 0, "columns": 1}.get(fault)
    monkeypatch.setattr(module._Part, "indices", lambda part, dim: indices(part, dim).flip(0) if dim == d else indices(part, dim))
    on_part = module._on_part

    def without_bias(function: Any, part: Any, x: Tensor, weight: Tensor, _bias: Any = None, *rest: Any) -> Tensor:
        return on_part(function, part, x, weight, None, *rest)

    if fault == "bias":
        monkeypatch.setattr(module, "_on_part", without_bias)
    model, x, plan = case("conv1d")
    with embedded(model, plan):
        actual = model(x)
    assert (actual - laid_out(model, plan)(x)).abs().max() > 1e-3
