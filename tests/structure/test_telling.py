"""Trials tell something where weights or example inputs are zero: what is offered as exact is so for weights and inputs of any value."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from parsinet.structure import Structure, trace
from parsinet.structure.running import Call
from parsinet.structure.telling import telling


class Cut(nn.Module):
    """Channels before and behind the third go through different functions: a removal in front of the cut changes what is behind it."""

    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Conv2d(1, 8, 3, bias=False)
        self.b = nn.Conv2d(8, 4, 3, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        y = self.a(x)
        return self.b(torch.cat([y[:, :3].tanh(), y[:, 3:].relu()], 1)).mean((2, 3))


class Scaled(nn.Module):
    """What a group of units emits is divided by their number."""

    def __init__(self, head: float, std: float = 1.0) -> None:
        super().__init__()
        self.groups, self.width = 2, 6
        self.a, self.head = nn.Linear(5, 12), nn.Linear(12, 3)
        nn.init.normal_(self.a.weight, std=std)
        nn.init.normal_(self.head.weight, std=head)

    def forward(self, x: Tensor) -> Tensor:
        y = self.a(x).view(-1, self.groups, self.width) / self.width
        return self.head(y.flatten(1))


class Coarse(nn.Module):
    """The same, insisting on float32."""

    def __init__(self, std: float) -> None:
        super().__init__()
        self.scaled = Scaled(std, std)

    def forward(self, x: Tensor) -> Tensor:
        return self.scaled(x @ torch.eye(5))


class Attention(nn.Module):
    """One layer of attention, whose scale follows the width of a head, in a residual branch with a scale of its own."""

    def __init__(self, gamma: float) -> None:
        super().__init__()
        self.embed, self.head, self.width = nn.Embedding(9, 16), nn.Linear(16, 9), 4
        self.q, self.k, self.v, self.o = (nn.Linear(16, 16) for _ in range(4))
        self.gamma = nn.Parameter(torch.full((16,), gamma))

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.embed(tokens)
        q, k, v = (layer(x).view(*tokens.shape, -1, self.width).transpose(1, 2) for layer in (self.q, self.k, self.v))
        mixed = (q @ k.transpose(-1, -2) * self.width**-0.5).softmax(-1) @ v
        return self.head(x + self.gamma * self.o(mixed.transpose(1, 2).flatten(2)))


def exact(structure: Structure) -> set[str]:
    return {group.name for group in structure.removable() if group.exact}


@pytest.mark.parametrize("x", [torch.zeros(1, 1, 8, 8), torch.ones(1, 1, 8, 8), torch.randn(1, 1, 8, 8)], ids=["zeros", "ones", "random"])
def test_blank_images_hide_no_cut(x: Tensor) -> None:
    assert not trace(Cut(), x).group("a").removable


@pytest.mark.parametrize("head", [0.0, 1e-8, 1.0])
def test_a_head_that_begins_at_zero_hides_no_scale(head: float) -> None:
    assert exact(trace(Scaled(head), torch.randn(3, 5))) == {"a"}


@pytest.mark.parametrize("std", [1e-3, 0.02, 1.0])
def test_small_weights_hide_no_scale_in_float32(std: float) -> None:
    assert exact(trace(Coarse(std), torch.randn(3, 5))) == {"scaled.a"}


@pytest.mark.parametrize("gamma", [0.0, 1e-6, 1.0])
@pytest.mark.parametrize("tokens", [torch.zeros(1, 5, dtype=torch.long), torch.tensor([[1, 4, 2, 8, 0]])], ids=["alike", "different"])
def test_closed_branches_and_equal_tokens_hide_no_scale(gamma: float, tokens: Tensor) -> None:
    structure = trace(Attention(gamma), tokens)
    assert exact(structure) == {"embed", "q.heads"}
    assert structure.group("q.head_dim").removable


def test_numbers_that_are_none_hide_nothing() -> None:
    model = Scaled(1.0)
    with torch.no_grad():
        model.head.bias[0] = float("nan")
    assert exact(trace(model, torch.randn(3, 5))) == {"a"}


@pytest.mark.parametrize("build", [Cut, lambda: Attention(0.0), lambda: Scaled(0.0)], ids=["cut", "attention", "scaled"])
def test_the_model_keeps_its_own_weights(build: Callable[[], nn.Module]) -> None:
    model = build()
    before = copy.deepcopy(model.state_dict())
    x = {Cut: torch.zeros(1, 1, 8, 8), Attention: torch.zeros(1, 5, dtype=torch.long), Scaled: torch.zeros(3, 5)}[type(model)]
    kept = x.clone()
    trace(model, x)
    assert torch.equal(x, kept)
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


class Particular(nn.Module):
    """Takes images of zeros alone, or returns no number where its weight is not zero."""

    def __init__(self, blank: bool) -> None:
        super().__init__()
        self.layer, self.blank = nn.Linear(4, 4), blank
        nn.init.zeros_(self.layer.weight)

    def forward(self, x: Tensor) -> Tensor:
        assert not (self.blank and x.any())
        y: Tensor = self.layer(x)
        return y if self.blank or not self.layer.weight.any() else y * float("nan")


@pytest.mark.parametrize(("blank", "drawn", "varied"), [(True, True, False), (False, False, True)])
def test_what_the_network_does_not_run_with_is_taken_back(blank: bool, drawn: bool, varied: bool) -> None:
    model, call = Particular(blank), Call.of(torch.zeros(2, 4))
    other = telling(model, call)
    assert bool(model.layer.weight.any()) is drawn
    assert bool(other.args[0].any()) is varied


def test_weights_of_usual_size_and_varied_inputs_stay() -> None:
    model, call = nn.Sequential(nn.Linear(16, 32), nn.LayerNorm(32), nn.Linear(32, 3)), Call.of(torch.randn(2, 16))
    before = copy.deepcopy(model.state_dict())
    assert telling(model, call) is call
    now = model.state_dict()
    assert {name for name in now if not torch.equal(now[name], before[name])} == {"1.bias"}  # zeros, to which something is added


def test_only_dead_rows_are_drawn_anew() -> None:
    model = nn.Linear(16, 4, bias=False)
    with torch.no_grad():
        model.weight[1] = 0
    before = model.weight.detach().clone()
    telling(model, Call.of(torch.randn(2, 16)))
    assert (model.weight != before).any(1).tolist() == [False, True, False, False]
    assert F.linear(torch.ones(16), model.weight)[1] != 0
