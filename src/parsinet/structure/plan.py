"""What a removal will do, as a frozen value: which units stay, which indices of which tensors, which attributes follow."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from parsinet.structure.blocks import Muted
from parsinet.structure.blocks_absent import Answer
from parsinet.structure.cutting import cut
from parsinet.structure.tracing import Norm


@dataclass(frozen=True)
class Reading:
    """A module reads leaving units: at `indices` along `axis` of its input (counted from the end)."""

    module: str
    axis: int
    indices: tuple[int, ...]


@dataclass(frozen=True)
class Plan:
    """A removal that has been decided and not yet done.

    alive: per group, which of its units stay. tensors: per (tensor, dim) the kept indices. counts: per (module, attribute) its new value.
    silent: per (tensor, dim) the indices whose zeroing silences the leaving units.
    """

    alive: Mapping[str, tuple[bool, ...]]
    tensors: Mapping[tuple[str, int], tuple[int, ...]]
    sizes: Mapping[tuple[str, int], int]
    counts: Mapping[tuple[str, str], int]
    silent: Mapping[tuple[str, int], tuple[int, ...]]
    norms: tuple[Norm, ...] = ()
    """Weight norms over entries that leave: their scales follow, so that the rest of the weight stays what it is."""
    incoming: Mapping[tuple[str, int], tuple[int, ...]] = field(default_factory=dict)
    """Per (tensor, dim) the indices that are the leaving units' incoming weights, without biases."""
    reads: tuple[Reading, ...] = ()
    """Where modules read the leaving units."""
    unseen: tuple[str, ...] = ()
    """Groups read elsewhere than in modules' inputs: products of attention, recurrent layers, raw parameters."""
    returned: Mapping[tuple[int, int], tuple[bool, ...]] = field(default_factory=dict)
    """Per (number of a tensor the network returns, dimension) which of its entries stay, where some leave."""
    inexact: tuple[str, ...] = ()
    """Groups whose removal changes more than silence does."""
    blocks: Mapping[str, Muted] = field(default_factory=dict)
    """Residual branches that leave whole, and where each is silenced."""
    absent: Mapping[str, Answer] = field(default_factory=dict)
    """Modules that leave with them, and what stands in for each answers."""
    bare: tuple[str, ...] = ()
    """Parameters of staying modules on which nothing depends without them."""

    @property
    def empty(self) -> bool:
        """Nothing leaves."""
        return not self.alive

    def widths(self) -> dict[str, tuple[int, int]]:
        """Per group that loses units: how many it has before and after."""
        return {name: (len(mask), sum(mask)) for name, mask in self.alive.items()}

    def masks(self) -> dict[str, Tensor]:
        """`alive` as bool tensors."""
        return {name: torch.tensor(mask) for name, mask in self.alive.items()}

    def keeps(self) -> dict[str, dict[int, tuple[int, ...]]]:
        """Per tensor that loses indices, by dimension those that stay."""
        found: dict[str, dict[int, tuple[int, ...]]] = {}
        for (name, dim), kept in self.tensors.items():
            if len(kept) < self.sizes[name, dim]:
                found.setdefault(name, {})[dim] = kept
        return found

    def cut(self, name: str, value: Tensor) -> Tensor:
        """`value`, state of one's own of the shape of the tensor `name`, with the indices that stay; itself if the tensor stays whole."""
        kept = {dim: stay for (tensor, dim), stay in self.tensors.items() if tensor == name and len(stay) < self.sizes[tensor, dim]}
        return cut(value, kept) if kept else value

    def __str__(self) -> str:
        if self.empty:
            return "Plan: nothing leaves"
        lines = [f"  {name}: {before} → {after}" for name, (before, after) in self.widths().items()]
        return "\n".join(["Plan:", *lines])


@dataclass(frozen=True)
class Fold:
    """What is added to the readers' biases (or to running means of batch norms behind them) to make up for units that leave.

    changes: tensor name → what is added to it, at the tensor's size before the removal.
    """

    changes: Mapping[str, Tensor]

    def __str__(self) -> str:
        lines = [f"  {name}: changes by at most {float(change.abs().max()):.3g}" for name, change in self.changes.items()]
        return "\n".join(["Fold:", *lines]) if lines else "Fold: nothing to make up for"
