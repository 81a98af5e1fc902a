"""Multiply-adds by operator against what is measured, on modules of one operator each."""

from __future__ import annotations

from collections.abc import Callable
from math import prod

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from parsinet import measure
from parsinet.structure import Structure, trace


class Own(nn.Module):
    """A hidden layer of 6 units in [2, 5, 6], and what a function of it and a parameter makes of them."""

    def __init__(self, function: Callable[[Tensor, Tensor], Tensor], *shape: int) -> None:
        super().__init__()
        self.make = nn.Linear(4, 6)
        self.weight = nn.Parameter(torch.randn(*shape))
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(torch.relu(self.make(x)), self.weight)


class Last(nn.Module):
    """What a recurrent layer emits."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer, self.out = layer, nn.LazyLinear(2)
        self(torch.zeros(2, 5, 4))

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.out(self.layer(x)[0])
        return out


CASES: dict[str, Callable[[], nn.Module]] = {
    "matmul": lambda: Own(lambda h, w: h @ w, 6, 3),
    "bmm": lambda: Own(lambda h, w: torch.bmm(h, w.expand(2, 6, 3)), 6, 3),
    "baddbmm": lambda: Own(lambda h, w: torch.baddbmm(h, h, w.expand(2, 6, 6)), 6, 6),
    "bilinear": lambda: Own(lambda h, w: F.bilinear(h, h + 1, w), 7, 6, 6),
    "mv": lambda: Own(lambda h, w: torch.mv(h[0], w), 6),
    "einsum": lambda: Own(lambda h, w: torch.einsum("bti,io->bto", h, w), 6, 3),
    "einsum of three": lambda: Own(lambda h, w: torch.einsum("bti,bsi,io->bto", h, h, w), 6, 3),
    "einsum without a sum": lambda: Own(lambda h, w: torch.einsum("bti,i->bti", h, w), 6),
    "attention": lambda: Own(lambda h, w: F.scaled_dot_product_attention(*(h.unsqueeze(1) * w,) * 3), 6),
    "convolution": lambda: Own(lambda h, w: F.conv1d(h.mT, w, padding=1), 7, 6, 3),
    "grouped convolution": lambda: Own(lambda h, w: F.conv1d(h.mT, w, groups=3, stride=2), 9, 2, 3),
    "transposed convolution": lambda: Own(lambda h, w: F.conv_transpose1d(h.mT, w, stride=2), 6, 7, 3),
    "lstm": lambda: Last(nn.LSTM(4, 6, 2, batch_first=True, bidirectional=True)),
    "gru": lambda: Last(nn.GRU(4, 6, batch_first=True)),
    "elman": lambda: Last(nn.RNN(4, 6, batch_first=True)),
}


def counted(structure: Structure) -> int:
    return sum(work.fixed * prod(slot.size for slot in work.slots) for work in structure.layout.work)


@pytest.mark.parametrize("name", CASES)
def test_the_axes_of_every_operator_multiply_to_what_is_measured(name: str) -> None:
    model, x = CASES[name]().eval(), torch.randn(2, 5, 4)
    assert counted(trace(model, x)) == 2 * measure.macs(model, x)


def test_a_removal_shortens_the_axes() -> None:
    model, x = CASES["convolution"](), torch.randn(2, 5, 4)
    structure = trace(model, x)
    plan = structure.plan({"make": torch.tensor([True, False, True, True, False, False])})
    assert counted(structure) == 2 * (5 * 4 * 6 + 5 * 7 * 6 * 3)
    assert counted(structure.after(plan)) == 2 * (5 * 4 * 3 + 5 * 7 * 3 * 3)


def test_work_belongs_to_the_module_that_runs_it() -> None:
    model = nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Sequential(nn.Linear(6, 3)))
    assert [work.module for work in trace(model, torch.randn(2, 4)).layout.work] == ["0", "2.0"]
