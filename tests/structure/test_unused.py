"""Entries of the model's tensors that the example inputs do not reach: another call may need them."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

import parsinet as pn

LENGTH = 6
"""Of the examples; tables have twelve positions."""


class _Tables(nn.Module):
    """Two tables of positions, cut to the example's length and combined. kind: how."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind = kind
        self.first, self.last = nn.Linear(4, 8), nn.Linear(8, 3)
        self.near = nn.Parameter(torch.randn(96 if kind == "viewed" else 12, *([] if kind == "viewed" else [8])))
        self.far = nn.Parameter(torch.randn(12, 8))

    def forward(self, x: Tensor) -> Tensor:
        t, near = x.shape[1], self.near
        if self.kind == "before the cut":
            added = (near + self.far)[:t]
        elif self.kind == "viewed":
            added = self.far[:t] + near.view(-1, self.far.shape[1])[:t]
        else:
            added = near[:t] + self.far[:t]
        return self.last((self.first(x) + added).relu())  # type: ignore[no-any-return]


class _Masks(nn.Module):
    """A causal mask and a decay, both cut to the length, multiplied."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(4, 8), nn.Linear(8, 3)
        self.register_buffer("near", torch.ones(12, 12).tril())
        self.register_buffer("far", torch.rand(12, 12))

    def forward(self, x: Tensor) -> Tensor:
        t, y = x.shape[1], self.first(x)
        return self.last((y @ y.transpose(1, 2) * (self.near[:t, :t] * self.far[:t, :t])) @ y)  # type: ignore[no-any-return]


@pytest.mark.parametrize("kind", ["added", "before the cut", "viewed", "masks"])
def test_positions_beyond_the_example_stay_in_every_table(kind: str) -> None:
    model = _Masks() if kind == "masks" else _Tables(kind)
    structure = pn.trace(model, torch.randn(2, LENGTH, 4))
    assert [group.name for group in structure.groups] == ["first", "last"]
    plan = structure.plan({group.name: torch.arange(group.size) % 2 == 0 for group in structure.removable()})
    longer = torch.randn(2, 11, 4)
    with pn.silence(model, plan), torch.no_grad():
        expected = model(longer)
    pn.shrink(model, plan)
    torch.testing.assert_close(model(longer), expected)
