"""Which classes of labels form a group, in which order, under which name: one array entry per class, no loop over single units."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from parsinet.structure.axes import NONE, Axis, Rows
from parsinet.structure.tracing import Tracing

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


def gather(tracing: Tracing, axes: Mapping[str, tuple[Axis, ...]], resolved: Mapping[Place, Rows]) -> dict[str, list[int]]:
    """Classes that occur in the same places form a group; a group that holds both frozen and free units is cut in two.

    Groups come in the order in which the network computes them, units in the order of their indices. What nothing produces and
    nothing may change (positions, rows of an embedding, the model's input) is no group, nor is the fixed or single half of a
    product (query, key, value as thirds of one projection).
    """
    producers, roles = _producers(tracing, axes), _roles(tracing)
    names = list(dict.fromkeys(name for _, name in producers if name))
    kinds = ["", *sorted({role for role in roles.values() if role})]
    classes = _classes(tracing, resolved, producers, names, {root: kinds.index(role) for root, role in roles.items()})
    named: dict[str, list[int]] = {}
    for members in _together(classes, tracing.seeded):
        first = int(members[0])
        produced, role = int(classes.name[first]), kinds[int(classes.role[first])]
        single = len(members) == 1
        if single and first >= tracing.seeded and not role:
            continue
        if produced == NONE and (single or classes.frozen[first]):
            continue
        name = _name(names[produced] if produced != NONE else "", role, list(resolved)[classes.first[first]])
        while name in named:
            stem, _, number = name.partition("#")
            name = f"{stem}#{int(number or 1) + 1}"
        named[name] = members.tolist()
    return named


def _classes(
    tracing: Tracing, resolved: Mapping[Place, Rows], producers: list[tuple[int, str]], names: list[str], role_of: Mapping[int, int]
) -> _Classes:
    count = tracing.labels.count
    first, places, role = np.full(count, NONE), np.zeros(count, np.int64), np.zeros(count, np.int64)
    order, used = [np.empty(0, np.int64)], 1
    for number, rows in enumerate(resolved.values()):
        roots = _distinct(rows)
        new = roots[first[roots] == NONE]
        first[new] = number
        order.append(new)
        _, refined = np.unique(places[roots], return_inverse=True)
        places[roots] = used + refined
        used += len(roots)
    role[list(role_of)] = list(role_of.values())
    made, name = _production(tracing, producers, names)
    return _Classes(np.concatenate(order), first, places, made, name, role, tracing.labels.frozen())


def _production(tracing: Tracing, producers: list[tuple[int, str]], names: list[str]) -> tuple[Rows, Rows]:
    """Per class the moment of its first production, and the number of the name it gets there."""
    count, never = tracing.labels.count, len(producers)
    number = {known: index for index, known in enumerate(names)}
    given = np.array([number.get(known, NONE) for _, known in producers], np.int64)
    rows = tracing.labels.resolve(Axis(never, np.array([[raw for raw, _ in producers]], np.int64)))
    made, named = np.full(count, never), np.full(count, never)
    moments = np.arange(never)[::-1]
    for row in rows[:, ::-1]:
        for first, known in ((made, row != NONE), (named, (row != NONE) & (given[::-1] != NONE))):
            earlier = np.full(count, never)
            earlier[row[known]] = moments[known]
            np.minimum(first, earlier, out=first)
    name: Rows = np.append(given, NONE)[named]
    return made, name


def _together(classes: _Classes, seeded: int) -> list[Rows]:
    """Classes of the same places, role and fate, in the order of computation."""
    order = classes.order
    order = order[~(classes.frozen[order] & (classes.role[order] == 0) & (order >= seeded))]
    if not len(order):
        return []
    keys = np.stack([classes.places[order], classes.role[order], classes.frozen[order]])
    _, key = np.unique(keys, axis=1, return_inverse=True)
    key = key.reshape(-1)
    cuts = np.flatnonzero(np.diff(np.sort(key))) + 1
    groups = np.split(np.argsort(key, kind="stable"), cuts)
    groups.sort(key=lambda positions: (int(classes.made[order[positions]].min()), int(positions[0])))
    return [order[positions] for positions in groups]


def _distinct(rows: Rows) -> Rows:
    """The labels of an axis in the order in which they appear, row by row."""
    flat = rows[rows != NONE]
    _, first = np.unique(flat, return_index=True)
    found: Rows = flat[np.sort(first)]
    return found


def _producers(tracing: Tracing, axes: Mapping[str, tuple[Axis, ...]]) -> list[tuple[int, str]]:
    """Raw labels in the order in which their units are produced, each with a name: the module's, or the tensor's own."""
    starts = [(int(axis.rows[0, 0]), name) for name, tensor in axes.items() for axis in tensor if axis.size]
    begin = np.array([start for start, _ in starts], np.int64)

    def tensor_of(label: int) -> str:
        return starts[int(np.searchsorted(begin, label, side="right")) - 1][1] if label < tracing.seeded else ""

    return [(label, name or tensor_of(label)) for label, name in tracing.produced.items()]


def _roles(tracing: Tracing) -> dict[int, str]:
    """Class → what the units are within their module."""
    found: dict[int, set[str]] = {}
    for axis, role in tracing.roles:
        for root in distinct_roots(tracing, [axis]):
            found.setdefault(root, set()).add(role)
    return {root: "head_dim" if {"qk_dim", "v_dim"} <= roles else min(roles) for root, roles in found.items()}


def distinct_roots(tracing: Tracing, axes: Iterable[Axis]) -> set[int]:
    """The classes that occur on any of the axes."""
    return {root for axis in axes for root in np.unique(tracing.labels.resolve(axis)).tolist() if root != NONE}


def _name(producer: str, role: str, place: Place) -> str:
    if not producer:
        return f"{place[0]}[{place[1]}]"
    if role == "groups":
        return f"{producer}.groups"
    return f"{producer.rpartition('.')[0] or producer}.{role}" if role else producer
