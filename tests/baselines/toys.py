"""A small network with channels, norms and hidden units, in training under a baseline that removes units."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from methods import runs
from parsinet import baselines

STEPS = 40
NOISY: dict[str, dict[str, Any]] = {
    "l0": {"lam": 1.0, "rate": 0.3, "interval": 3},
    "vib": {"kl": 0.05, "rate": 0.4, "interval": 3},
    "sbp": {"kl": 2.0, "rate": 0.3, "interval": 3},
    "normal-jeffreys": {"kl": 2.0, "rate": 0.4, "interval": 3},
    "spike-slab": {"kl": 2.0, "rate": 0.4, "interval": 3},
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


class Run(runs.Run):
    """A small network in training under a baseline."""

    def __init__(self, name: str, **options: Any) -> None:
        with torch.random.fork_rng():
            torch.manual_seed(0)
            model = Net().double()
        method = baselines.build(name, **{**OPTIONS[name], **options})
        super().__init__(model, method, partial(torch.optim.Adam, lr=0.02), batch(0), steps=STEPS, examples=64)

    def batch(self, k: int) -> tuple[Tensor, Tensor]:
        return batch(k), batch(k).mean((2, 3)).argmax(1)


def batch(k: int) -> Tensor:
    return torch.randn(32, 2, 4, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(k))
