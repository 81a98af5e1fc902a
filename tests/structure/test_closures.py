"""Functions that hold the network they belong to: a copy holds itself, and what no copy can follow stays."""

from __future__ import annotations

import functools
import weakref
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import parsinet as pn
from parsinet.structure.copies import duplicate

EXACT = 1e-10
"""float64: sums over fewer terms differ in the last digits only."""


class Held(nn.Module):
    """Two layers run by a function `mid` that `hold` makes of the network itself."""

    def __init__(self, hold: Callable[[Held], Any]) -> None:
        super().__init__()
        self.first, self.second, self.last = nn.Linear(5, 12), nn.Linear(12, 8), nn.Linear(8, 3)
        self.heads = 4
        self.mid = hold(self)

    def forward(self, x: Tensor) -> Tensor:
        mid = self.mid["mid"] if isinstance(self.mid, dict) else self.mid
        return self.last(mid(x))  # type: ignore[no-any-return]

    def run(self, x: Tensor) -> Tensor:
        """What every `mid` does, a view by a kept number included."""
        x = self.second(torch.tanh(self.first(x)).view(len(x), self.heads, 3).flatten(1))
        return torch.relu(x)


def wrapped(model: Held) -> Callable[[Tensor], Tensor]:
    """A decorator's function around a bound method, as profilers and offloaders set."""

    @functools.wraps(model.run)
    def run(*args: Any, **kwargs: Any) -> Tensor:
        return run.__wrapped__(*args, **kwargs)  # type: ignore[attr-defined,no-any-return]

    return run


def through_another(model: Held) -> Callable[[Tensor], Tensor]:
    """A function that holds one that holds itself, the network, and a layer in a list."""
    layers = [model.first]

    def run(x: Tensor, deep: bool = True) -> Tensor:
        assert layers[0] is model.first
        return run(x, deep=False) if deep else model.run(x)

    return lambda x: run(x)


def hooked(model: Held) -> Callable[[Tensor], Tensor]:
    """A hook that runs one layer more."""
    model.register_buffer("gain", torch.rand(8))
    model.last.register_forward_pre_hook(lambda _, args: (model.run(args[0]) * model.gain,))
    return lambda x: x


WAYS: dict[str, Callable[[Held], Any]] = {
    "lambda": lambda m: lambda x: m.run(x),
    "default": lambda m: lambda x, m=m: m.run(x),
    "method": lambda m: m.run,
    "dict": lambda m: {"mid": lambda x: m.run(x)},
    "partial": lambda m: functools.partial(lambda f, x: f(x), lambda x: m.run(x)),
    "wrapped": wrapped,
    "through another": through_another,
    "hook": hooked,
}


@pytest.mark.parametrize("way", WAYS)
def test_functions_that_hold_the_model_follow(way: str) -> None:
    torch.manual_seed(0)
    model, x = Held(WAYS[way]).double(), torch.randn(4, 5, dtype=torch.float64)
    structure = pn.trace(model, x)
    assert [(group.name, group.size, group.exact) for group in structure.removable()] == [("first", 4, True), ("second", 8, True)]
    plan = structure.plan({"first": torch.arange(4) != 1, "second": torch.arange(8) % 3 != 1})
    with pn.silence(model, plan):
        wanted = model(x)
    pn.shrink(model, plan)
    assert model.heads == 3
    assert (model(x) - wanted).abs().max() < EXACT


def test_a_copy_shares_no_function_that_holds_the_model_and_every_other() -> None:
    teacher = nn.Linear(5, 3)
    model = Held(lambda m: {"mid": m.run, "own": lambda: m, "other": lambda: teacher, "plain": torch.tanh})
    twin = duplicate(model)
    assert twin.mid["own"]() is twin
    assert twin.mid["mid"].__self__ is twin
    assert twin.mid["other"] is model.mid["other"]
    assert twin.mid["plain"] is torch.tanh
    assert model.mid["own"]() is model
    again = duplicate(twin)
    assert again.mid["own"]() is again


def test_a_penalty_on_a_held_weight_is_seen() -> None:
    class Penalised(Held):
        def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
            return self.last(self.run(x)), self.mid()

    group = pn.trace(Penalised(lambda m: lambda: m.second.weight.square().sum()), torch.randn(4, 5)).group("second")
    assert not group.exact


def test_a_teacher_that_a_function_holds_is_a_constant() -> None:
    teacher = nn.Linear(5, 3)

    class Distilled(Held):
        def forward(self, x: Tensor) -> Tensor:
            return self.last(self.run(x)) - self.mid(x)

    structure = pn.trace(Distilled(lambda m: lambda x: teacher(x).detach()), torch.randn(4, 5))
    assert structure.group("second").removable
    assert structure.group("second").exact


def test_what_code_reaches_from_outside_stays_with_its_reason() -> None:
    class Regular(Held):
        def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
            return self.last(self.run(x)), self.mid().second.weight.square().sum()

    structure = pn.trace(Regular(weakref.ref), torch.randn(4, 5))
    reason = "second.weight is also reached from outside the model, by a global or an object that holds it"
    assert (structure.group("second").removable, structure.group("second").reason) == (False, reason)


def test_layers_that_run_from_outside_are_told() -> None:
    structure = pn.trace(Held(lambda m: (lambda reference: lambda x: reference().run(x))(weakref.ref(m))), torch.randn(4, 5))
    told = {group.name: group.reason for group in structure.groups if not group.removable and group.name != "last"}
    assert told
    assert all("from outside the model" in reason for reason in told.values())
