"""Sizes that depend on values: rows that chose an expert, read, viewed and broadcast; the places a condition holds at."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

import parsinet as pn


class Rows(nn.Module):
    """A layer for the rows with a positive sum, whose answers are added in their places."""

    def __init__(self, read: Callable[[Rows, Tensor, Tensor], Tensor]) -> None:
        super().__init__()
        self.read = read
        self.embed, self.head = nn.Linear(5, 8), nn.Linear(8, 3)
        self.expert = nn.Sequential(nn.Linear(8, 7), nn.ReLU(), nn.Linear(7, 8))
        self.shift = nn.Parameter(torch.randn(1, 8))

    def forward(self, x: Tensor) -> Tensor:
        rows = torch.where(x.sum(1) > 0)[0]
        x = torch.tanh(self.embed(x))
        return self.head(torch.zeros_like(x).index_add(0, rows, self.read(self, x, rows)))


Read = Callable[[Rows, Tensor, Tensor], Tensor]
READ: dict[str, Read] = {
    "indexed": lambda net, x, rows: net.expert(x[rows]),
    "as Mixtral does": lambda net, x, rows: net.expert(x[None, rows].reshape(-1, x.shape[1])),
    "shifted": lambda net, x, rows: net.expert(x[rows] + net.shift),
    "scaled": lambda net, x, rows: net.expert(x[rows] * x.amax(0, keepdim=True)),
    "squeezed": lambda net, x, rows: net.expert(x[None, rows].squeeze(0)),
    "expanded": lambda net, x, rows: net.expert(x[rows] + net.shift.expand(len(x), -1)[rows]),
}
"""Ways to read rows whose number no graph knows."""


def built(read: Read) -> tuple[Rows, Tensor]:
    torch.manual_seed(0)
    return Rows(read).double(), torch.randn(9, 5, dtype=torch.float64)


@pytest.mark.parametrize("read", READ.values(), ids=READ)
def test_units_leave_whose_rows_are_counted_by_values(read: Read, capfd: pytest.CaptureFixture[str]) -> None:
    model, x = built(read)
    structure = pn.trace(model, x)
    assert capfd.readouterr() == ("", "")
    assert structure.group("embed").removable
    assert structure.group("embed").exact
    small = copy.deepcopy(model)
    plan = structure.plan({"embed": torch.arange(8) % 3 != 1})
    pn.shrink(small, plan)
    with pn.silence(model, plan):
        expected = model(x)
    assert small.embed.out_features == 5
    assert torch.allclose(small(x), expected, atol=1e-12)


def test_units_that_a_view_joins_with_such_rows_stay_and_say_so() -> None:
    structure = pn.trace(*built(lambda net, x, rows: net.expert(x[rows]) + x[rows].reshape(-1).tanh().cos().sum()))
    assert "joins it with positions whose number depends on values" in structure.group("embed").reason
    assert structure.group("expert.0").removable


@pytest.mark.parametrize("places", [lambda x: torch.where(x > 0)[1], lambda x: (x > 0).nonzero()[:, 1]], ids=["where", "nonzero"])
def test_where_units_are_positive_is_a_matter_of_their_number(places: Callable[[Tensor], Tensor]) -> None:
    model, x = built(lambda net, x, rows: net.expert(x[rows]) + places(x).sum())
    structure = pn.trace(model, x)
    assert "returns an index into it" in structure.group("embed").reason
