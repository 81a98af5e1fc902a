"""Units that nobody reads any more because the weights that read them are gone: they can leave without a trace."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from parsinet.structure import Structure

Places = list[tuple[str, int]]


def read_units(structure: Structure, present: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Per removable group a bool mask over its units: False where every weight that reads the unit is absent.

    present: tensor name → bool, True where the entry is there; tensors not named are there as a whole. What unread units read counts as
    unread as well, back to the first layer. Removing such a unit leaves the function as it is, whatever it emits; groups whose
    removal is not exact, or that are read by more than weights, are left out. A group keeps at least one unit, its first.
    """
    returned = structure.outputs()
    groups = [group.name for group in structure.removable() if group.exact and group.name not in returned]
    places = {name: _readers(structure, name) for name in groups}
    entries = {name: mask.detach().cpu().numpy() for name, mask in present.items()}
    alive = {name: np.ones(structure.group(name).size, dtype=bool) for name, where in places.items() if where}
    changed = True
    while changed:
        changed = False
        for name, mask in alive.items():
            read = _read(structure, name, places[name], entries, alive)
            if not read.any():
                read[0] = True
            if (read < mask).any():
                alive[name] = mask & read
                changed = True
    return {name: torch.from_numpy(mask) for name, mask in alive.items()}


def without_unread(structure: Structure, present: Mapping[str, Tensor], entries: Mapping[str, Tensor] | None = None) -> dict[str, Tensor]:
    """`entries` (default `present`) without those of units that nobody reads when `present` is there: they do nothing for the network,
    others may take their place."""
    return between(structure, losing(structure, present), present if entries is None else entries)


def losing(structure: Structure, present: Mapping[str, Tensor]) -> dict[str, NDArray[np.bool_]]:
    """The units that somebody reads, of the groups that have others too."""
    return {name: mask.numpy() for name, mask in read_units(structure, present).items() if not mask.all()}


def between(structure: Structure, alive: dict[str, NDArray[np.bool_]], entries: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """`entries` without those of units that are not alive, in the groups that `alive` names."""
    found = {name: mask.clone() for name, mask in entries.items()}
    for (name, dim), slot in structure.layout.tensors.items():
        if name in found and not alive.keys().isdisjoint(slot.owners):
            stay = torch.from_numpy(slot.keep(alive)).to(found[name].device)
            found[name] &= stay.reshape([-1 if d == dim else 1 for d in range(found[name].dim())])
    return found


def _readers(structure: Structure, group: str) -> Places:
    """Dimensions of tensors that read the group; none where zeros in them do not tell all: producers that meet, weight norms."""
    layout = structure.layout
    scaled = {norm.v for norm in layout.norms}
    places = [(tensor, dim) for tensor, dim, read in layout.read_dims if read == group]
    blind = group in layout.silent_producers or any(tensor in scaled for tensor, _ in places)
    return [] if blind else sorted(places)


def _read(
    structure: Structure, group: str, places: Places, entries: Mapping[str, NDArray[np.bool_]], alive: Mapping[str, NDArray[np.bool_]]
) -> NDArray[np.bool_]:
    """Which units of the group an entry that is there reads, on behalf of a unit that is alive."""
    layout = structure.layout
    read = np.zeros(structure.group(group).size, dtype=bool)
    for tensor, dim in places:
        owner = layout.tensors[tensor, dim].owners[group]
        used: NDArray[np.bool_] = np.ones(len(owner), dtype=bool)
        if tensor in entries:
            there = entries[tensor]
            for (name, other), slot in layout.tensors.items():
                if name == tensor and other != dim:
                    there = np.compress(slot.keep({g: mask for g, mask in alive.items() if g in slot.owners}), there, axis=other)
            used = np.logical_or.reduce(there, axis=tuple(d for d in range(there.ndim) if d != dim))
        units = owner[used]
        read[units[units >= 0]] = True
    return read


class Rule(Protocol):
    """(masks, growth, rate) → masks with a fixed number of active weights."""

    def __call__(self, masks: Mapping[str, Tensor], growth: Mapping[str, Tensor], rate: float, /) -> dict[str, Tensor]: ...


def evolved(
    rule: Rule, masks: Mapping[str, Tensor], growth: Mapping[str, Tensor], rate: float, structure: Structure | None
) -> dict[str, Tensor]:
    """The rule's masks; with a structure none of their active weights lies in a unit nobody reads, so that such units can leave at no loss.

    Those weights are given to others: the rule is asked again, without a threshold, until nothing changes or `ROUNDS` times.
    """
    chosen = dict(masks)
    for turn in range(ROUNDS):
        useful = without_unread(structure, chosen) if structure is not None else chosen
        if turn and all(torch.equal(mask, chosen[name]) for name, mask in useful.items()):
            break
        if turn and structure is not None:  # else the same entries of no use would be chosen again
            places = without_unread(structure, chosen, {name: torch.ones_like(mask) for name, mask in chosen.items()})
            growth = {name: score.masked_fill(~places[name], 0) for name, score in growth.items()}
        chosen = rule(useful, growth, 0.0 if turn else rate)
    return chosen


ROUNDS = 5
"""Units may lose their last reader when others do; after so many looks what is left is accepted."""
