"""Where the noise of the gates' estimates is larger than the price of a unit, so that they should doubt them."""

from __future__ import annotations

from math import prod

from torch import nn
from torch.nn.modules.conv import _ConvNd

from parsinet import measure
from parsinet.methods.base import Budget
from parsinet.methods.complexity import complexity
from parsinet.methods.target import Target
from parsinet.structure import Structure

MILD = 1 / 8
"""A target of at least this part of the dense network. The smaller it is, the higher is the price, and the less noise matters beside it."""


def noisy(target: Target | None, model: nn.Module, structure: Structure, budget: Budget) -> bool:
    """Whether convolutions do most of the network's work and the target is mild: there doubt was measured to pay."""
    return target is not None and convolutional(model, structure) and _part(target, model, structure, budget) >= MILD


def convolutional(model: nn.Module, structure: Structure) -> bool:
    """Whether layers that are convolutions do more than half of the multiply-adds."""
    modules = dict(model.named_modules(remove_duplicate=False))
    whole, found = 0.0, 0.0
    for work in structure.layout.work:
        macs = work.fixed * prod(slot.size for slot in work.slots)
        whole += macs
        found += macs if isinstance(modules.get(work.module), _ConvNd) else 0.0
    return found > whole / 2


def _part(target: Target, model: nn.Module, structure: Structure, budget: Budget) -> float:
    """The target as a part of the dense network; 0 where that is not known yet: a latency in seconds, or no example inputs."""
    if target.relative:
        return target.value
    if target.kind == "latency" or budget.example_inputs is None:
        return 0.0
    given = budget.example_inputs
    batch = measure.batch_size(tuple(given) if isinstance(given, list) else given)
    return target.value / max(1.0, complexity(target.kind, model, structure, batch=batch).dense)
