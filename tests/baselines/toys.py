"""A small network with channels, norms and hidden units, in training under a baseline that removes units."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from parsinet import baselines
from parsinet.methods import Pruner

STEPS = 40
NOISY: dict[str, dict[str, Any]] = {
    "l0": {"lam": 1.0, "rate": 0.3, "interval": 3},
    "vib": {"kl": 0.05, "rate": 0.4, "interval": 3},
    "sbp": {"kl": 2.0, "rate": 0.3, "interval": 3},
}
RANKED: dict[str, dict[str, Any]] = {
    "group-lasso": {"lam": 1.5, "interval": 3, "begin": 0.1},
    "magnitude-units": {"begin": 0.2, "end": 0.7, "interval": 5},
    "random-units": {"begin": 0.2, "end": 0.7, "interval": 5},
    "slimming": {"begin": 0.2, "end": 0.7, "interval": 5, "lam": 0.01},
}
OPTIONS = {**NOISY, **RANKED}


class Net(nn.Module):
    """A convolution, its flattened map, a hidden layer: channels own blocks of the next layer's inputs; H ≠ W ≠ C."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(2, 6, 3), nn.BatchNorm2d(6)
        self.fc1, self.fc2 = nn.Linear(6 * 2 * 3, 10), nn.Linear(10, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(F.relu(self.fc1(F.relu(self.norm(self.conv(x))).flatten(1))))


class Run:
    """A small network in training under a baseline."""

    def __init__(self, name: str, **options: Any) -> None:
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.model = Net().double()
        self.method = baselines.build(name, **{**OPTIONS[name], **options})
        self.optimizer = torch.optim.Adam(self.method.param_groups(self.model), lr=0.02)
        self.pruner = Pruner(self.model, self.optimizer, self.method, batch(0), steps=STEPS, examples=64)

    def step(self, k: int) -> Any:
        x = batch(k)
        (F.cross_entropy(self.model(x), x.mean((2, 3)).argmax(1)) + self.pruner.penalty()).backward()
        self.optimizer.step()
        self.optimizer.zero_grad()
        return self.pruner.step()

    def advance(self, begin: int = 0, end: int = STEPS) -> None:
        for k in range(begin, end):
            self.step(k)

    def state(self) -> dict[str, Any]:
        parts = {"pruner": self.pruner, "model": self.model, "optimizer": self.optimizer}
        return copy.deepcopy({name: part.state_dict() for name, part in parts.items()})

    def load(self, state: dict[str, Any]) -> None:
        self.pruner.load_state_dict(state["pruner"])
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])


def batch(k: int) -> Tensor:
    return torch.randn(32, 2, 4, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(k))


def same(a: Any, b: Any) -> bool:
    """Nested values, tensors bitwise."""
    if isinstance(a, Tensor):
        return isinstance(b, Tensor) and torch.equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(value, b[key]) for key, value in a.items())
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(same(x, y) for x, y in zip(a, b, strict=True))
    return bool(a == b)
