"""The zoo's networks these benchmarks time, and what is left of each: the first 40 % of the units of every group, multiples of 4.

Time depends neither on which units stay nor on the weights, so nothing is trained.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

import parsinet as pn
from parsinet.structure import Structure

KEPT, ROUND = 0.4, 4


@dataclass(frozen=True)
class Network:
    """shape: of one example. classes: outputs, or the size of the vocabulary. batch: examples per training step. steps: per turn."""

    shape: tuple[int, ...]
    classes: int
    batch: int
    steps: int
    text: bool = False

    def build(self, name: str) -> nn.Module:
        return pn.models.build(name, self.shape, self.classes)

    def examples(self, count: int) -> Tensor:
        return torch.randint(self.classes, (count, *self.shape)) if self.text else torch.randn(count, *self.shape)

    def targets(self, count: int) -> Tensor:
        return torch.randint(self.classes, (count, *self.shape) if self.text else (count,))


NETWORKS = {
    "lenet-300-100": Network((1, 28, 28), 10, batch=128, steps=10),
    "lenet-5-caffe": Network((1, 28, 28), 10, batch=32, steps=3),
    "resnet-20": Network((3, 32, 32), 10, batch=8, steps=1),
    "char-gpt": Network((64,), 65, batch=16, steps=1, text=True),
}


def kept(structure: Structure) -> dict[str, Tensor]:
    """Which units stay, of every group that can lose any."""
    sizes = {group.name: group.size for group in structure.removable()}
    return {name: torch.arange(size) < max(ROUND, round(KEPT * size / ROUND) * ROUND) for name, size in sizes.items()}


def shrunk(model: nn.Module, x: Tensor) -> nn.Module:
    """The model with these units alone, in place."""
    structure = pn.trace(model, x[:2])
    pn.shrink(model, structure.plan(kept(structure)))
    return model
