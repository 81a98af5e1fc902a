"""Small networks, data and loops the tests of the methods share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from parsinet.methods import Gates, Pruner

Build = Callable[[Any], torch.optim.Optimizer]

EARLY = "ignore:Pruner. the run was told to have"
"""For tests that finish before the run they told of is over."""

OPTIMIZERS: dict[str, Build] = {
    "sgd": lambda groups: torch.optim.SGD(groups, lr=0.1, momentum=0.9, weight_decay=1e-3),
    "adam": lambda groups: torch.optim.Adam(groups, lr=0.01, weight_decay=1e-4),
    "adamw": lambda groups: torch.optim.AdamW(groups, lr=0.01),
}


class Moons(nn.Module):
    """Two hidden layers under names of their own."""

    def __init__(self, first: int = 12, second: int = 8, *, batch_norm: bool = False) -> None:
        super().__init__()
        self.fc1, self.fc2, self.out = nn.Linear(2, first), nn.Linear(first, second), nn.Linear(second, 2)
        self.norm = nn.BatchNorm1d(first) if batch_norm else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        return self.out(torch.relu(self.fc2(torch.relu(self.norm(self.fc1(x))))))


def points(n: int = 64, seed: int = 0) -> tuple[Tensor, Tensor]:
    """A problem that needs several units and not all: is the point inside the ring?"""
    x = torch.randn(n, 2, generator=torch.Generator().manual_seed(seed))
    return x, (x.norm(dim=1) > 1.1).long()


def network(seed: int = 0, **options: Any) -> Moons:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return Moons(**options)


def start(model: nn.Module, optimizer: Build = OPTIMIZERS["adam"], *, steps: int | None = None, **options: Any) -> tuple[Any, Pruner]:
    """An optimizer and a pruner with gates on the model."""
    method = Gates(**{"fall_steps": 20, "interval": 5, **options})
    built = optimizer(method.param_groups(model))
    return built, Pruner(model, built, method, points(4)[0], steps=steps, examples=64)


def train_step(model: nn.Module, optimizer: Any, pruner: Pruner, k: int, batch: tuple[Tensor, Tensor] | None = None) -> Any:
    """One step on the k-th batch of `points`, or on another batch."""
    x, y = points(seed=k) if batch is None else batch
    F.cross_entropy(model(x), y).backward()
    optimizer.step()
    optimizer.zero_grad()
    return pruner.step()


def bank(pruner: Pruner) -> Any:
    return pruner.method._bank  # type: ignore[attr-defined]
