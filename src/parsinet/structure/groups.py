"""Groups of units: the classes of labels, gathered by where they occur and named after the module that produces them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from math import prod
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from parsinet.structure.axes import NONE, Axis, Rows, labelled, marked
from parsinet.structure.blocks import NO_BLOCKS, Blocks
from parsinet.structure.classes import Gathered, gather, roots_of
from parsinet.structure.tracing import Norm, Read, Tracing

Owners = NDArray[np.int64]


@dataclass(frozen=True)
class UnitGroup:
    """Units that live in the same places and can leave one by one.

    name: the module that produces them. size: number of units. removable: whether units may leave, else `reason` says why not.
    exact: whether removing a unit gives the same function as silencing it. parameters: names of the tensors that lose entries.
    kind: "units", or "block" for a residual branch: a single unit that leaves whole, with all of these parameters.
    role: what the units are within their module: "heads" of attention, "queries" of grouped heads, "qk_dim", "v_dim" or "head_dim" for
    the features within each head, "groups" of a convolution; "" for plain outputs. A module may have such a name without being one.
    """

    name: str
    size: int
    removable: bool
    exact: bool
    reason: str
    parameters: tuple[str, ...]
    kind: Literal["units", "block"] = "units"
    role: str = ""


@dataclass(frozen=True)
class Slot:
    """Where groups sit on one countable thing: dimension `dim` of a tensor, a module attribute, or a module's input axis.

    owners[g][i] is the unit of group g that index i belongs to, -1 where it belongs to none. An index leaves with any of its units.
    beside: the same for groups that are read elsewhere, while their units take indices of this input along (a grouped convolution's).
    """

    size: int
    owners: dict[str, Owners]
    beside: dict[str, Owners] = field(default_factory=dict)

    def keep(self, alive: dict[str, NDArray[np.bool_]]) -> NDArray[np.bool_]:
        """Which indices stay."""
        stay = np.ones(self.size, dtype=bool)
        for group, owner in (*self.owners.items(), *self.beside.items()):
            if group in alive:
                stay &= np.append(alive[group], True)[owner]
        return stay

    def after(self, alive: dict[str, NDArray[np.bool_]]) -> Slot:
        """The slot once the units are gone, units renumbered."""
        stay = self.keep(alive)

        def renumbered(owners: dict[str, Owners]) -> dict[str, Owners]:
            return {name: _renumbered(owner[stay], alive[name]) if name in alive else owner[stay] for name, owner in owners.items()}

        return Slot(int(stay.sum()), renumbered(self.owners), renumbered(self.beside))

    def without(self, alive: dict[str, NDArray[np.bool_]]) -> Slot:
        """The slot where all indices stay although their units are gone: such an index belongs to none from there on."""
        owners = {
            group: np.append(np.where(alive[group], np.cumsum(alive[group]) - 1, NONE), NONE)[owner] if group in alive else owner
            for group, owner in self.owners.items()
        }
        return Slot(self.size, owners)


def _renumbered(owner: Owners, alive: NDArray[np.bool_]) -> Owners:
    """Units by their numbers among those that stay; all that are asked for do."""
    return np.append(np.cumsum(alive) - 1, NONE)[owner]


@dataclass(frozen=True)
class Work:
    """Multiply-adds of one operator on the example inputs: `fixed` times the indices of every slot.

    module: the module whose forward runs it. fixed: product of the sizes that no removal changes, batch and positions among them; sizes
    that depend on values as they were.
    """

    module: str
    fixed: int
    slots: tuple[Slot, ...]

    def after(self, alive: dict[str, NDArray[np.bool_]]) -> Work:
        """The same once the units are gone."""
        return Work(self.module, self.fixed, tuple(slot.after(alive) for slot in self.slots))


@dataclass(frozen=True)
class Layout:
    """Everything the engine knows of a traced network, by group name."""

    groups: dict[str, UnitGroup]
    tensors: dict[tuple[str, int], Slot]
    counts: dict[tuple[str, str], Slot]
    reads: dict[tuple[str, int], Slot]
    read_dims: frozenset[tuple[str, int, str]]
    """(tensor, dim, group): zero in these slices means the group's units are not read."""
    silent_producers: frozenset[str]
    """Groups whose units meet each other (query · key): silence zeroes what produces them."""
    norms: tuple[Norm, ...]
    gated: frozenset[str]
    """Groups every reader of which is a module whose input can be multiplied by a gate, a row for each example of the same batch."""
    weighed: frozenset[str] = frozenset()
    """Groups that tensors of the model read, and nothing else: scaling the reading slices (`read_dims`) scales what is read."""
    produced: frozenset[tuple[str, int]] = frozenset()
    """(tensor, dim): weights whose slices, zeroed, leave of a unit only what biases and norms make it emit."""
    work: tuple[Work, ...] = ()
    selecting: frozenset[str] = frozenset()
    """Modules that read the model's raw inputs: they select what they read, and their own input keeps its size."""
    blocks: Blocks = NO_BLOCKS
    block_groups: dict[str, UnitGroup] = field(default_factory=dict)
    unreached: frozenset[str] = frozenset()
    """Parameters on which nothing depends that the example inputs lead to."""
    returned: dict[tuple[int, int], Slot] = field(default_factory=dict)
    """(number of a tensor the network returns, dimension) → where groups sit on it, if entries of the output may leave."""
    cuts: dict[str, str] = field(default_factory=dict)
    """Groups that slices cut at bounds nothing keeps, and where, in words: they leave only if a trial shows that the cuts follow."""


def build_layout(tracing: Tracing, axes: dict[str, tuple[Axis, ...]]) -> Layout:
    """Turn labels into groups of units."""
    resolved = {(name, d): tracing.labels.resolve(axis) for name, tensor in axes.items() for d, axis in enumerate(tensor)}
    gathered = gather(tracing, axes, resolved)
    units = {name: group.roots for name, group in gathered.items()}
    slot = _slots(tracing, units)
    tensors = {place: slot(rows, rows.shape[1]) for place, rows in resolved.items()}
    tensors = {place: found for place, found in tensors.items() if found.owners}
    resolve, made = tracing.labels.resolve, marked(tracing.labels.count, [rows for rows, _ in tracing.produced])
    folded = [(axis, "the value of a weight depends on it") for axis in _both(tracing, tracing.folded, tracing.used)]
    tracing.inexact.extend(folded)
    met, blind, outside = (roots_of(tracing, axes) for axes in (tracing.met, tracing.blind, tracing.outside))
    reading = _reading_rows(tracing)
    cuts = {group: f"{where} cuts it by position" for axis, where in tracing.cuts for group in slot(resolve(axis), axis.size).owners}
    return Layout(
        groups=_groups(tracing, gathered, tensors, cuts),
        tensors=tensors,
        counts={place: slot(resolve(axis), axis.size) for place, axis in tracing.counts.items()},
        reads={(entry.module, entry.axis): _reading(entry, lambda axis: slot(resolve(axis), axis.size)) for entry in tracing.reads},
        read_dims=(read_dims := _read_dims(tracing, axes, tensors)),
        silent_producers=frozenset(group for group, roots in units.items() if met[roots].any()),
        norms=tuple(dict.fromkeys(tracing.norms)),
        gated=frozenset(g for g, roots in units.items() if (reading[roots] == 1).all() and not (blind | outside)[roots].any()),
        weighed=_weighed(tracing, units, axes, read_dims) - frozenset(g for g, roots in units.items() if (met | blind)[roots].any()),
        produced=frozenset((name, d) for name, d in tensors if made[axes[name][d].rows].any()),
        work=_work(tracing, slot),
        returned={place: found for place, axis in tracing.returned.items() if (found := slot(resolve(axis), axis.size)).owners},
        cuts=cuts,
    )


def _groups(
    tracing: Tracing, gathered: Mapping[str, Gathered], tensors: Mapping[tuple[str, int], Slot], cuts: Mapping[str, str]
) -> dict[str, UnitGroup]:
    """The groups with their verdicts so far: what is frozen stays; what a computation runs over is inexact.

    What is inexact and cut by position stays too: no trial could tell whether the cut is still where it was.
    """
    reasons = [reason for _, reason in tracing.inexact]
    why = np.full(tracing.labels.count + 1, NONE)
    for number in reversed(range(len(reasons))):
        why[tracing.labels.resolve(tracing.inexact[number][0])] = number
    why[NONE] = NONE
    parameters: dict[str, dict[str, None]] = {group: {} for group in gathered}
    for (name, _), found in tensors.items():
        for group in found.owners:
            parameters[group][name] = None
    groups = {}
    for group, (roots, role) in gathered.items():
        frozen = tracing.labels.first_reason(roots)
        single = "" if frozen or len(roots) > 1 else "it is a single unit, and a group keeps at least one"
        exact = bool((why[roots] == NONE).all())
        stays = frozen or single or ("" if exact else cuts.get(group, ""))
        reason = stays or ("" if exact else reasons[why[roots[0]]])
        groups[group] = UnitGroup(group, len(roots), not stays, exact, reason, tuple(parameters[group]), role=role)
    return groups


def _slots(tracing: Tracing, units: Mapping[str, Rows]) -> Callable[[Rows, int], Slot]:
    """A function from resolved label rows to the slot they are: one look-up array per question, shared by all rows."""
    names = list(units)
    group_of, unit_of = np.full(tracing.labels.count + 1, NONE), np.full(tracing.labels.count + 1, NONE)
    for number, roots in enumerate(units.values()):
        group_of[roots] = number
        unit_of[roots] = np.arange(len(roots))

    def slot(rows: Rows, size: int) -> Slot:
        owners: dict[str, Owners] = {}
        for row in rows:
            groups, members = group_of[row], unit_of[row]
            several = len(groups) and (groups != groups[0]).any()
            for number in np.unique(groups) if several else groups[:1]:
                if number == NONE:
                    continue
                owner = owners.setdefault(names[number], np.full(size, NONE))
                owner[groups == number] = members[groups == number]
        return Slot(size, owners)

    return slot


def _reading(entry: Read, slot: Callable[[Axis], Slot]) -> Slot:
    read = slot(entry.labels)
    if entry.along is None:
        return read
    return Slot(read.size, read.owners, {name: owner for name, owner in slot(entry.along).owners.items() if name not in read.owners})


def _work(tracing: Tracing, slot: Callable[[Rows, int], Slot]) -> tuple[Work, ...]:
    """What operators run over, axes without units multiplied into one number."""
    found = []
    for module, axes in tracing.work:
        slots = [slot(tracing.labels.resolve(axis), axis.size) for axis in axes if axis.tracked]
        fixed = [axis.size for axis in axes if not axis.tracked] + [place.size for place in slots if not place.owners]
        found.append(Work(module, prod(fixed), tuple(place for place in slots if place.owners)))
    return tuple(found)


def _reading_rows(tracing: Tracing) -> NDArray[np.int64]:
    """Per root in how many batches modules read it: 1 where all read the same, more where one reads tokens and another examples."""
    by_rows: dict[int, list[Axis]] = {}
    for entry in tracing.reads:
        by_rows.setdefault(entry.rows, []).append(entry.labels)
    found = np.zeros(tracing.labels.count + 1, dtype=np.int64)
    for axes in by_rows.values():
        found += roots_of(tracing, axes)
    return found


def _both(tracing: Tracing, folded: list[Axis], used: list[Axis]) -> list[Axis]:
    """Axes that a weight's computation sums over (spectral norm) and an activation meets as well, unlike the rank of a low-rank weight."""
    if not folded:
        return []
    roots = roots_of(tracing, used)
    return [axis for axis in folded if roots[tracing.labels.resolve(axis)].any()]


def _weighed(
    tracing: Tracing,
    units: Mapping[str, Rows],
    axes: Mapping[str, tuple[Axis, ...]],
    read_dims: frozenset[tuple[str, int, str]],
) -> frozenset[str]:
    """Groups every unit of which tensors read that do not also make it, and whose slices are the weight itself (no weight norm)."""
    read = roots_of(tracing, [labelled(rows) for rows in tracing.read])
    made = marked(tracing.labels.count, [rows for rows, _ in tracing.produced])
    computed = {name for norm in tracing.norms for name in (norm.g, norm.v)}
    both = {group for name, d, group in read_dims if name in computed or made[axes[name][d].rows].any()}
    return frozenset(group for group, roots in units.items() if read[roots].all()) - both


def _read_dims(
    tracing: Tracing, axes: dict[str, tuple[Axis, ...]], tensors: dict[tuple[str, int], Slot]
) -> frozenset[tuple[str, int, str]]:
    read = marked(tracing.labels.count, tracing.read)
    return frozenset((name, d, group) for (name, d), slot in tensors.items() if read[axes[name][d].rows].any() for group in slot.owners)
