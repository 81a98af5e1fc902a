"""Short runs of methods, and the law of resume: from any state a run ends bitwise as if it had never stopped."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from methods.toys import Build, points
from parsinet.methods import Pruner

BEGINNINGS = pytest.mark.parametrize("begin", ["telling", pytest.param("every", marks=pytest.mark.slow)])


class Run:
    """A model in training under a method. options: of the pruner."""

    def __init__(self, model: nn.Module, method: Any, optimizer: Build, inputs: Tensor, *, steps: int, **options: Any) -> None:
        method.prepare(model)
        self.model, self.method, self.steps = model, method, steps
        self.optimizer = optimizer(method.param_groups(model))
        self.pruner = Pruner(model, self.optimizer, method, inputs, steps=steps, **options)

    def batch(self, k: int) -> tuple[Tensor, Tensor]:
        return points(seed=k)

    def step(self, k: int) -> Any:
        """One step on the k-th batch."""
        x, y = self.batch(k)
        (F.cross_entropy(self.model(x), y) + self.pruner.penalty()).backward()
        self.optimizer.step()
        self.optimizer.zero_grad()
        return self.pruner.step()

    def advance(self, begin: int = 0, end: int | None = None) -> None:
        for k in range(begin, self.steps if end is None else end):
            self.step(k)

    def parts(self) -> dict[str, Any]:
        """What is saved, in the order in which it is loaded."""
        return {"pruner": self.pruner, "model": self.model, "optimizer": self.optimizer}

    def state(self) -> dict[str, Any]:
        return copy.deepcopy({name: part.state_dict() for name, part in self.parts().items()})

    def load(self, state: dict[str, Any]) -> None:
        for name, part in self.parts().items():
            part.load_state_dict(copy.deepcopy(state[name]))


def same(a: Any, b: Any) -> bool:
    """Nested values, tensors bitwise."""
    if isinstance(a, Tensor):
        return isinstance(b, Tensor) and a.dtype == b.dtype and torch.equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(value, b[key]) for key, value in a.items())
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(same(x, y) for x, y in zip(a, b, strict=True))
    return bool(a == b)


def beginnings(begin: str, parts: Sequence[Any]) -> Sequence[int]:
    """Steps to resume from: every one, or the telling ones, the last and both sides of the first and the last change of `parts`."""
    if begin == "every":
        return range(len(parts))
    changes = [k for k in range(1, len(parts)) if not same(parts[k - 1], parts[k])] or [1]
    return sorted({changes[0] - 1, changes[0], changes[-1] - 1, changes[-1], len(parts) - 1})


def units_left(state: dict[str, Any]) -> Any:
    """Which units a saved run had left."""
    return state["pruner"]["units"]


def check_resume(
    fresh: Callable[[], Run], begin: str, part: Callable[[dict[str, Any]], Any] = units_left, *, other: Callable[[], Run] | None = None
) -> list[Any]:
    """AssertionError unless runs that load a state, from the steps `begin` names, end as the one that never stopped.

    part: of a state, what changes where it is telling to resume. other: makes the runs that load, where not as the first. Returns the
    parts after 0, 1, 2 … steps.
    """
    straight, states = fresh(), []
    for k in range(straight.steps):
        states.append(straight.state())
        straight.advance(k, k + 1)
    end, parts = straight.state(), [part(state) for state in states]
    for k in beginnings(begin, parts):
        run = (other or fresh)()
        run.load(states[k])
        assert same(run.state(), states[k]), f"the state of step {k} is not what was loaded"
        run.advance(k)
        assert same(run.state(), end), f"resumed from step {k} the run ends differently"
    return parts
