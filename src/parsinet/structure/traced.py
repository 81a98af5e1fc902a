"""The traced network: its groups of units, who reads them, and plans over them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from parsinet.errors import ArgumentTypeError, StructureError, suggest, told
from parsinet.structure.blocks import SUFFIX, Muted
from parsinet.structure.blocks_layout import without_blocks
from parsinet.structure.groups import Layout, UnitGroup
from parsinet.structure.plan import Plan, Reading

Mask = Tensor | NDArray[np.bool_] | Sequence[bool]


@dataclass(frozen=True)
class Reader:
    """A module that reads a group's units: along `axis` of its input (counted from the end), `owners[i]` is index i's unit, -1 for none."""

    module: str
    axis: int
    owners: Tensor


@dataclass(frozen=True)
class Weigher:
    """A tensor of the model that reads a group's units along `dim`: `owners[i]` is index i's unit, -1 for none."""

    tensor: str
    dim: int
    owners: Tensor


@dataclass(frozen=True)
class Structure:
    """The units of a traced network. Frozen: `plan` decides, `after` is the structure once a plan has been carried out."""

    layout: Layout

    @property
    def groups(self) -> list[UnitGroup]:
        """All groups of units, in the order in which the network computes them."""
        return list(self.layout.groups.values())

    @property
    def blocks(self) -> tuple[UnitGroup, ...]:
        """The residual branches, each a group of one unit that leaves whole, in the order in which the network adds them.

        Without `trace(blocks=True)` none are known.
        """
        return tuple(self.layout.block_groups.values())

    def group(self, name: str) -> UnitGroup:
        """The group or block of that name; StructureError names the nearest one if there is none."""
        known = {**self.layout.groups, **self.layout.block_groups}
        if name not in known:
            raise StructureError(f"There is no group {name!r}.{self._unsought(name) or suggest(name, known)}")
        return known[name]

    def _unsought(self, name: str) -> str:
        """A hint where the name is one of a residual branch and these were not looked for."""
        last = name.rpartition(".")[2].partition("#")[0]
        if self.layout.blocks.sought or last != SUFFIX:
            return ""
        return " Residual branches are looked for when asked: trace with blocks=True; a method asks the pruner by `blocks = True`."

    def branch(self, block: str) -> Muted:
        """The module that makes what a block adds, and which element of the tuple it returns; StructureError if there is none."""
        if self.group(block).kind != "block" or block not in self.layout.blocks.producers:
            raise StructureError(f"{block!r} is no residual branch that a module makes.")
        return self.layout.blocks.producers[block]

    def removable(self) -> list[UnitGroup]:
        """The groups whose units may leave."""
        return [group for group in self.groups if group.removable]

    def inputs(self) -> list[str]:
        """Names of the groups that are features of the model's inputs; without `trace(inputs=True)` there are none."""
        found = {name for (module, _), slot in self.layout.reads.items() if module in self.layout.selecting for name in slot.owners}
        return [name for name in self.layout.groups if name in found]

    def outputs(self) -> list[str]:
        """Names of the groups whose units are entries of what the model returns; without `trace(removable_outputs=True)` there are none."""
        found = {name for slot in self.layout.returned.values() for name in slot.owners}
        return [name for name in self.layout.groups if name in found]

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

    def weighers(self, name: str) -> list[Weigher]:
        """The tensors that read the group's units, if nothing else does: scaled along these dimensions, they read scaled units.

        Empty where something else depends on the units (a product of two activations, a norm), or a tensor both makes and reads them.
        """
        if self.group(name).name not in self.layout.weighed:
            return []
        places = sorted((tensor, dim) for tensor, dim, group in self.layout.read_dims if group == name)
        return [Weigher(*place, torch.from_numpy(self.layout.tensors[place].owners[name])) for place in places]

    def sharing(self, name: str) -> list[str]:
        """The groups that have units along one dimension of a tensor with this one, as heads have with the features within each."""
        own = self.group(name).name
        found = {other for slot in self.layout.tensors.values() if own in slot.owners for other in slot.owners} - {own}
        return [other for other in self.layout.groups if other in found]

    def owners(self, tensor: str, dim: int) -> dict[str, Tensor]:
        """Per group that has units along `dim` of the tensor: the unit of each index, -1 for none. Empty where nothing may leave."""
        slot = self.layout.tensors.get((tensor, dim))
        return {} if slot is None else {name: torch.from_numpy(owner) for name, owner in slot.owners.items()}

    def plan(self, alive: Mapping[str, Mask]) -> Plan:
        """Plan to keep the units that are True in `alive` (group name → mask over its present units); other groups stay whole.

        A block takes a mask of one entry. Groups and blocks that sit in a leaving block alone leave with it, whatever `alive` says of them.

        Raises StructureError for an unknown group, a mask of the wrong length, a group that is not removable and is asked to lose
        units, and a group that would become empty.
        """
        if not isinstance(alive, Mapping):
            raise ArgumentTypeError(f"plan: alive must be a mapping of group names to masks, got {told(alive)}.")
        leaving = [name for name, mask in alive.items() if name in self.layout.block_groups and not self._checked(name, mask).all()]
        if leaving:
            return self._without(leaving, alive)
        alive = {name: mask for name, mask in alive.items() if name not in self.layout.block_groups}
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
        left = {place: slot.keep(masks) for place, slot in self.layout.returned.items()}
        return Plan(
            {name: tuple(mask.tolist()) for name, mask in masks.items()},
            tensors,
            sizes,
            counts,
            silent,
            norms,
            incoming,
            reads=tuple(Reading(*place, tuple(indices.tolist())) for place, indices in gone.items() if len(indices)),
            returned={place: tuple(stay.tolist()) for place, stay in left.items() if not stay.all()},
            unseen=tuple(name for name in masks if name not in self.layout.gated),
            inexact=tuple(name for name in masks if not self.group(name).exact),
        )

    def _without(self, gone: Sequence[str], alive: Mapping[str, Mask]) -> Plan:
        """Blocks leave, and of what is left the units that are False."""
        blocks = self.layout.blocks
        smaller = Structure(without_blocks(self.layout, gone))
        known = {**self.layout.groups, **self.layout.block_groups}
        vanish = {name: group.size for name, group in known.items() if name not in {**smaller.layout.groups, **smaller.layout.block_groups}}
        for name in alive:
            self.group(name)
        still = {group.name for group in (*smaller.groups, *smaller.blocks) if group.removable or not self.group(group.name).removable}
        plan = smaller.plan({name: mask for name, mask in alive.items() if name in still and name not in vanish})
        return replace(
            plan,
            alive={**{name: (False,) * size for name, size in vanish.items()}, **plan.alive},
            blocks={name: blocks.producers[name] for name in gone},
            absent={departure.module: departure.answer_now(self.layout.tensors) for departure in blocks.leaving(gone)},
            bare=blocks.unneeded(gone),
        )

    def after(self, plan: Plan) -> Structure:
        """The structure of the network once `plan` has been carried out; nothing is traced again."""
        layout = without_blocks(self.layout, plan.blocks) if plan.blocks else self.layout
        masks = {name: np.array(mask) for name, mask in plan.alive.items() if name in layout.groups}
        groups = {name: replace(group, size=int(masks[name].sum())) if name in masks else group for name, group in layout.groups.items()}
        return Structure(
            replace(
                layout,
                groups=groups,
                tensors={place: slot.after(masks) for place, slot in layout.tensors.items()},
                counts={place: slot.after(masks) for place, slot in layout.counts.items()},
                reads={
                    place: slot.without(masks) if place[0] in layout.selecting else slot.after(masks)
                    for place, slot in layout.reads.items()
                },
                work=tuple(entry.after(masks) for entry in layout.work),
                returned={place: slot.after(masks) for place, slot in layout.returned.items()},
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
        if not values.any() and group.kind == "units":
            raise StructureError(f"The plan would leave {name!r} without any unit; keep at least one of its {group.size}.")
        return values
