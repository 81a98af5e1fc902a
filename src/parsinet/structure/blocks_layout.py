"""The layout of a network without some of its residual branches: what sat in their modules is gone, what reads on goes on."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import TypeVar

from parsinet.structure.blocks import beneath_any, within_any
from parsinet.structure.blocks_absent import SIZE
from parsinet.structure.groups import Layout, Owners, Slot

_Place = TypeVar("_Place")


def without_blocks(layout: Layout, gone: Iterable[str]) -> Layout:
    """The layout once these blocks have left, nothing else.

    Groups that sat in them alone are no more. One that nobody reads any more stays and may go on losing units: methods and saved runs
    speak of it.
    """
    blocks = frozenset(gone)
    leaving = layout.blocks.leaving(blocks)
    paths = {departure.module for departure in leaving}
    tensors = {place: slot for place, slot in layout.tensors.items() if not beneath_any(place[0], paths)}
    left = {group for slot in tensors.values() for group in slot.owners}
    sizes = {(departure.module, SIZE): layout.tensors[departure.place] for departure in leaving if departure.place is not None}
    counts = {place: slot for place, slot in layout.counts.items() if not within_any(place[0], paths)}
    vanishing = layout.blocks.vanishing(blocks)
    bare = layout.blocks.unneeded(blocks)
    return replace(
        layout,
        groups={
            name: replace(group, parameters=_staying(group.parameters, paths, bare))
            for name, group in layout.groups.items()
            if name in left
        },
        tensors=tensors,
        counts=_owned({**counts, **sizes}, left),
        reads=_owned({place: slot for place, slot in layout.reads.items() if not within_any(place[0], paths)}, left),
        read_dims=frozenset(entry for entry in layout.read_dims if entry[:2] in tensors),
        silent_producers=layout.silent_producers & left,
        norms=tuple(norm for norm in layout.norms if not beneath_any(norm.v, paths)),
        gated=layout.gated & left,
        produced=frozenset(place for place in layout.produced if place in tensors),
        work=tuple(entry for entry in layout.work if not within_any(entry.module, paths)),
        returned=_owned(layout.returned, left),
        selecting=frozenset(path for path in layout.selecting if not within_any(path, paths)),
        blocks=layout.blocks.after(blocks),
        block_groups={
            name: replace(group, parameters=_staying(group.parameters, paths, bare))
            for name, group in layout.block_groups.items()
            if name not in vanishing
        },
    )


def _owned(slots: Mapping[_Place, Slot], left: set[str]) -> dict[_Place, Slot]:
    """The slots with the owners that are left, those without any dropped."""

    def among(owners: Mapping[str, Owners]) -> dict[str, Owners]:
        return {name: owner for name, owner in owners.items() if name in left}

    kept = {place: Slot(slot.size, among(slot.owners), among(slot.beside)) for place, slot in slots.items()}
    return {place: slot for place, slot in kept.items() if slot.owners}


def _staying(names: tuple[str, ...], paths: set[str], bare: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(name for name in names if name not in bare and not beneath_any(name, paths))
