"""What a removal will do, as a frozen value: which units stay, which indices of which tensors, which attributes follow."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from parsinet.errors import StructureError, suggest
from parsinet.structure.cutting import cut
from parsinet.structure.groups import Layout, UnitGroup
from parsinet.structure.tracing import Norm

Mask = Tensor | NDArray[np.bool_] | Sequence[bool]


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
    inexact: tuple[str, ...] = ()
    """Groups whose removal changes more than silence does."""

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


@dataclass(frozen=True)
class Reader:
    """A module that reads a group's units: along `axis` of its input (counted from the end), `owners[i]` is index i's unit, -1 for none."""

    module: str
    axis: int
    owners: Tensor


@dataclass(frozen=True)
class Structure:
    """The units of a traced network. Frozen: `plan` decides, `after` is the structure once a plan has been carried out."""

    layout: Layout

    @property
    def groups(self) -> list[UnitGroup]:
        """All groups, in the order in which the network computes them."""
        return list(self.layout.groups.values())

    def group(self, name: str) -> UnitGroup:
        """The group of that name; StructureError names the nearest one if there is none."""
        if name not in self.layout.groups:
            raise StructureError(f"There is no group {name!r}.{suggest(name, self.layout.groups)}")
        return self.layout.groups[name]

    def removable(self) -> list[UnitGroup]:
        """The groups whose units may leave."""
        return [group for group in self.groups if group.removable]

    def gateable(self, name: str) -> bool:
        """Whether everything that reads the group's units does so through a module's input, where a gate can sit."""
        return self.group(name).name in self.layout.gated

    def readers(self, name: str) -> list[Reader]:
        """The modules whose inputs carry the group's units, in the order in which they run."""
        return [
            Reader(module, axis, torch.from_numpy(slot.owners[name]))
            for (module, axis), slot in self.layout.reads.items()
            if self.group(name).name in slot.owners
        ]

    def owners(self, tensor: str, dim: int) -> dict[str, Tensor]:
        """Per group that has units along `dim` of the tensor: the unit of each index, -1 for none. Empty where nothing may leave."""
        slot = self.layout.tensors.get((tensor, dim))
        return {} if slot is None else {name: torch.from_numpy(owner) for name, owner in slot.owners.items()}

    def plan(self, alive: Mapping[str, Mask]) -> Plan:
        """Plan to keep the units that are True in `alive` (group name → mask over its present units); other groups stay whole.

        Raises StructureError for an unknown group, a mask of the wrong length, a group that is not removable and is asked to lose
        units, and a group that would become empty.
        """
        masks = {name: self._checked(name, mask) for name, mask in alive.items()}
        masks = {name: mask for name, mask in masks.items() if not mask.all()}
        tensors, sizes, silent, incoming = {}, {}, {}, {}
        for place, slot in self.layout.tensors.items():
            if masks.keys().isdisjoint(slot.owners):
                continue
            stay = slot.keep(masks)
            if not stay.any():
                raise StructureError(
                    f"The plan would leave nothing of {place[0]} in dimension {place[1]}; keep more of {', '.join(masks)}."
                )
            tensors[place] = tuple(np.flatnonzero(stay).tolist())
            sizes[place] = slot.size
            zeroed = slot.keep({group: masks[group] for group in slot.owners if group in masks and self._silences(place, group)})
            if not zeroed.all():
                silent[place] = tuple(np.flatnonzero(~zeroed).tolist())
            made = slot.keep({group: masks[group] for group in slot.owners if group in masks and self._produces(place, group)})
            if not made.all():
                incoming[self._scale(place)] = tuple(np.flatnonzero(~made).tolist())
        counts = {
            place: int(slot.keep(masks).sum()) for place, slot in self.layout.counts.items() if not masks.keys().isdisjoint(slot.owners)
        }
        norms = tuple(norm for norm in self.layout.norms if any(name == norm.v and d != norm.dim for name, d in tensors))
        gone = {place: np.flatnonzero(~slot.keep(masks)) for place, slot in self.layout.reads.items()}
        return Plan(
            {name: tuple(mask.tolist()) for name, mask in masks.items()},
            tensors,
            sizes,
            counts,
            silent,
            norms,
            incoming,
            reads=tuple(Reading(*place, tuple(indices.tolist())) for place, indices in gone.items() if len(indices)),
            unseen=tuple(name for name in masks if name not in self.layout.gated),
            inexact=tuple(name for name in masks if not self.group(name).exact),
        )

    def after(self, plan: Plan) -> Structure:
        """The structure of the network once `plan` has been carried out; nothing is traced again."""
        masks = {name: np.array(mask) for name, mask in plan.alive.items()}
        layout = self.layout
        groups = {name: replace(group, size=int(masks[name].sum())) if name in masks else group for name, group in layout.groups.items()}
        return Structure(
            replace(
                layout,
                groups=groups,
                tensors={place: slot.after(masks) for place, slot in layout.tensors.items()},
                counts={place: slot.after(masks) for place, slot in layout.counts.items()},
                reads={place: slot.after(masks) for place, slot in layout.reads.items()},
            )
        )

    def _silences(self, place: tuple[str, int], group: str) -> bool:
        """Zeroing this tensor's slices silences the group: it reads the group, or produces one whose units meet each other."""
        scaled = any(place == (norm.v, norm.dim) for norm in self.layout.norms)
        return (*place, group) in self.layout.read_dims or (group in self.layout.silent_producers and not scaled)

    def _produces(self, place: tuple[str, int], group: str) -> bool:
        """This tensor's slices are incoming weights of the group's units."""
        return place in self.layout.produced and (*place, group) not in self.layout.read_dims

    def _scale(self, place: tuple[str, int]) -> tuple[str, int]:
        """Where zero makes these slices of a weight zero: g of g · v/‖v‖, as v = 0 has no direction."""
        return next(((norm.g, norm.dim) for norm in self.layout.norms if place == (norm.v, norm.dim)), place)

    def _checked(self, name: str, mask: Mask) -> NDArray[np.bool_]:
        group = self.group(name)
        try:
            values = torch.as_tensor(mask).detach().cpu().numpy()
        except (TypeError, ValueError, RuntimeError):
            kind = type(mask).__name__
            raise StructureError(
                f"The mask of group {name!r} must be bool of length {group.size}, got a {kind} of something else."
            ) from None
        if values.dtype != np.bool_ or values.shape != (group.size,):
            raise StructureError(
                f"The mask of group {name!r} must be bool of length {group.size}, got {values.dtype} of shape {tuple(values.shape)}."
            )
        if not values.all() and not group.removable:
            raise StructureError(f"Group {name!r} cannot lose units: {group.reason}.")
        if not values.any():
            raise StructureError(f"The plan would leave {name!r} without any unit; keep at least one of its {group.size}.")
        return values
