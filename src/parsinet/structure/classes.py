"""Which classes of labels form a group, in which order, under which name: one array entry per class, no loop over single units."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from parsinet.structure.axes import NONE, Axis, Rows, marked
from parsinet.structure.tracing import Tracing, earliest

Place = tuple[str, int]
"""A dimension of a tensor."""


@dataclass(frozen=True)
class _Classes:
    """All classes that occur in a tensor, in the order in which they first appear; the other arrays are indexed by class."""

    order: Rows
    first: Rows
    """Number of the place it first appears in."""
    places: Rows
    """Number of the set of places it occurs in."""
    made: Rows
    """When its units are produced; what nothing produces comes last."""
    name: Rows
    """Number of the producer's name, -1 where it has none."""
    role: Rows
    """Number of what the units are within their module: heads, head_dim, groups; 0 for plain outputs."""
    frozen: NDArray[np.bool_]
    halves: NDArray[np.bool_]
    """Whether it is a factor of a product that has another one which may leave."""


class Gathered(NamedTuple):
    """The classes that are a group's units, in the order of their indices, and what they are within their module (`UnitGroup.role`)."""

    roots: Rows
    role: str


def gather(tracing: Tracing, axes: Mapping[str, tuple[Axis, ...]], resolved: Mapping[Place, Rows]) -> dict[str, Gathered]:
    """Classes that occur in the same places and have the same role form a group; one that holds frozen and free units is cut in two.

    Factors of one index (head and dimension) are different places.

    Groups come in the order in which the network computes them, units in the order of their indices. What nothing produces and
    nothing may change (positions, rows of an embedding, the model's input) is no group, nor is the fixed or single half of a
    product (query, key, value as thirds of one projection), unless all of its factors are fixed.
    """
    roles = _roles(tracing)
    raw, given, names = _producers(tracing, axes)
    kinds = ["", *sorted({role for role in roles.values() if role})]
    classes = _classes(tracing, resolved, raw, given, {root: kinds.index(role) for root, role in roles.items()})
    starts = list(resolved)
    named: dict[str, Gathered] = {}
    for members in _together(classes, tracing.seeded):
        first = int(members[0])
        produced, role = int(classes.name[first]), kinds[int(classes.role[first])]
        single = len(members) == 1
        if single and first >= tracing.seeded and not role:
            continue
        if produced == NONE and (single or classes.frozen[first]):
            continue
        name = _name(names[produced] if produced != NONE else "", role, starts[classes.first[first]])
        while name in named:
            stem, _, number = name.partition("#")
            name = f"{stem}#{int(number or 1) + 1}"
        named[name] = Gathered(members, role)
    return named


def _classes(tracing: Tracing, resolved: Mapping[Place, Rows], raw: Rows, given: Rows, role_of: Mapping[int, int]) -> _Classes:
    count = tracing.labels.count
    first, places, role = np.full(count, NONE), np.zeros(count, np.int64), np.zeros(count, np.int64)
    order, used = [np.empty(0, np.int64)], 1
    seen = np.empty(count, np.int64)
    for number, rows in enumerate(resolved.values()):
        flat = rows[rows != NONE]
        moments = np.arange(len(flat))
        seen[flat[::-1].copy()] = moments[::-1].copy()
        new = flat[(seen[flat] == moments) & (first[flat] == NONE)]
        first[new] = number
        order.append(new)
        for row in rows:
            held = row[row != NONE]
            known, refined = _numbered(places[held])
            places[held] = used + refined
            used += known
    role[list(role_of)] = list(role_of.values())
    made, name = _production(tracing, raw, given)
    frozen = tracing.labels.frozen()
    return _Classes(np.concatenate(order), first, places, made, name, role, frozen, _halves(resolved.values(), frozen))


def _halves(rows: Iterable[Rows], frozen: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Per class whether it shares an index with one that is not frozen."""
    found = np.zeros(len(frozen), dtype=bool)
    for factors in rows:
        if len(factors) > 1:
            there = factors != NONE
            shared = there & (there & ~frozen[factors]).any(axis=0)
            found[factors[shared]] = True
    return found


def _production(tracing: Tracing, raw: Rows, given: Rows) -> tuple[Rows, Rows]:
    """Per class the moment of its first production, and the number of the first name it gets, -1 for none."""
    count, never = tracing.labels.count, len(raw)
    rows = tracing.labels.resolve(Axis(never, raw[None]))
    made, named = np.full(count, never), np.full(count, never)
    moments = np.arange(never)
    for row in rows:
        for first, known in ((made, row != NONE), (named, (row != NONE) & (given != NONE))):
            earlier = np.append(moments[known], never)[earliest(row[known], count)]
            np.minimum(first, earlier, out=first)
    name: Rows = np.append(given, NONE)[named]
    return made, name


def _together(classes: _Classes, seeded: int) -> list[Rows]:
    """Classes of the same places, role and fate, in the order of computation."""
    order = classes.order
    order = order[~(classes.frozen[order] & (classes.role[order] == 0) & (order >= seeded) & classes.halves[order])]
    if not len(order):
        return []
    key = 2 * (classes.places[order] * (classes.role.max() + 1) + classes.role[order]) + classes.frozen[order]
    by_key = np.argsort(key, kind="stable")
    groups = np.split(by_key, np.flatnonzero(np.diff(key[by_key])) + 1)
    groups.sort(key=lambda positions: (int(classes.made[order[positions]].min()), int(positions[0])))
    return [order[positions] for positions in groups]


def _numbered(values: Rows) -> tuple[int, Rows]:
    """How many different values there are, and for each entry the number of its own; mostly there is one."""
    if len(values) and (values == values[0]).all():
        return 1, np.zeros_like(values)
    known, numbers = np.unique(values, return_inverse=True)
    return len(known), numbers


def _producers(tracing: Tracing, axes: Mapping[str, tuple[Axis, ...]]) -> tuple[Rows, Rows, list[str]]:
    """Raw labels in the order in which their units are made, the number of the name each got, and the names: modules, then tensors.

    What no module makes is named after its tensor; what is neither has the number -1.
    """
    raw, given, names = tracing.made()
    starts = [(int(axis.rows[0, 0]), name) for name, tensor in axes.items() for axis in tensor if axis.size]
    begin = np.array([start for start, _ in starts], np.int64)
    own = np.where(raw < tracing.seeded, len(names) + np.searchsorted(begin, raw, side="right") - 1, NONE)
    return raw, np.where(given < len(names) - 1, given, own), [*names, *(name for _, name in starts)]


def _roles(tracing: Tracing) -> dict[int, str]:
    """Class → what its units are within their module; nothing for plain outputs."""
    found: dict[int, set[str]] = {}
    for axis, role in tracing.roles:
        for root in np.flatnonzero(roots_of(tracing, [axis])).tolist():
            found.setdefault(root, set()).add(role)
    return {root: "head_dim" if {"qk_dim", "v_dim"} <= roles else min(roles) for root, roles in found.items()}


def roots_of(tracing: Tracing, axes: Iterable[Axis]) -> NDArray[np.bool_]:
    """Per class whether it occurs on any of the axes; a last entry, for none, is False."""
    return marked(tracing.labels.count, (tracing.labels.resolve(axis) for axis in {id(axis): axis for axis in axes}.values()))


def _name(producer: str, role: str, place: Place) -> str:
    if not producer:
        return f"{place[0]}[{place[1]}]"
    if role == "groups":
        return f"{producer}.groups"
    return f"{producer.rpartition('.')[0] or producer}.{role}" if role else producer
