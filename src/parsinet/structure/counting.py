"""What an operator's sizes say of the axes of its result: attributes that count their indices, tensors they are as long as.

`view(b, t, self.h, 16)` says that `h` counts the indices of the third axis; after `b, t, c = x.shape`, `view(b, t, c)` says that its
last axis is as long as that of x, and `view(b, t, self.h, c // self.h)` that its last two together are.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import numpy as np

from parsinet.structure.axes import Axis, labelled
from parsinet.structure.kept import KEY, SHAPE
from parsinet.structure.numbers import Kept, Seen, Share
from parsinet.structure.tracing import Tracing, Value


def sizes_of(tracing: Tracing) -> Sequence[int | slice]:
    """The whole numbers among the running operator's arguments as the module's code gave them; () where none of them is kept."""
    found = tracing.node.meta.get("custom", {}).get(KEY, ()) if tracing.node is not None else ()
    return copy.copy(found)


def count(tracing: Tracing, number: Any, axis: Axis) -> bool:
    """If `number` is kept somewhere and is this axis' size, it counts the axis' indices (of k·n: those of one of k equal parts).

    A size read off a tensor ties the axis to the one it was read of: they stay equally long.
    """
    if isinstance(number, Seen):
        return _tie(tracing, number, axis)
    if not isinstance(number, Kept) or not axis.tracked or axis.size != number:
        return False
    if number.factor != 1:
        axis = labelled(np.unique(tracing.labels.resolve(axis), axis=1))
        if axis.size * number.factor != number:
            return False
    tracing.count_of(number.module, number.attribute, axis)
    return True


def note_shape(tracing: Tracing, x: Value, *_: Any, **__: Any) -> None:
    """The running operator marks where the shape of `x` is read."""
    custom = tracing.node.meta.get("custom", {}) if tracing.node is not None else {}
    if SHAPE in custom:
        tracing.seen[custom[SHAPE]] = x


def count_compared(tracing: Tracing, equal: Sequence[tuple[Seen, Kept]]) -> None:
    """`assert x.shape[1] == self.channels`: what code checks to be equal stays equal, where nothing else says what the attribute counts."""
    known = set(tracing.counts)
    for size, kept in equal:
        if size.tensor in tracing.seen and (kept.module, kept.attribute) not in known:
            count(tracing, kept, tracing.seen[size.tensor].axes[size.dim])


def _tie(tracing: Tracing, number: Seen, axis: Axis) -> bool:
    source = tracing.seen[number.tensor].axes[number.dim] if number.tensor in tracing.seen else axis
    if not (source.tracked and axis.tracked and source.size == axis.size == number):
        return False
    tracing.labels.unify(source, axis, tracing.where)
    return True


def _tie_share(tracing: Tracing, number: Share, given: Sequence[int | slice], axes: Sequence[Axis], d: int) -> None:
    """`view(b, t, self.heads, c // self.heads)`: both axes together are as long as the one `c` was read of."""
    for k, other in enumerate(given[:d]):
        if isinstance(other, Kept) and (other.module, other.attribute) == (number.divisor.module, number.divisor.attribute):
            _tie(tracing, number.whole, tracing.labels.merge([axes[k], axes[d]]))


def count_axes(tracing: Tracing, axes: Sequence[Axis]) -> set[int]:
    """Where an operator was told the sizes of its result: axis by axis; returns which were counted."""
    given = sizes_of(tracing)
    return {d for d, (number, axis) in enumerate(zip(given, axes, strict=False)) if count(tracing, number, axis)}


def count_split(tracing: Tracing, axes: Sequence[Axis], before: int) -> None:
    """Where a view was told the sizes of its result, or (`unflatten`) a dimension of `before` and what becomes of it."""
    given = sizes_of(tracing)
    if len(given) == len(axes):
        count_axes(tracing, axes)
        for d, number in enumerate(given):
            if isinstance(number, Share):
                _tie_share(tracing, number, given, axes, d)
    elif given and len(given) - 1 == len(axes) - before + 1 and isinstance(given[0], int):
        for number, axis in zip(given[1:], axes[given[0] % before :], strict=False):
            count(tracing, number, axis)


def count_cut(tracing: Tracing, start: int, stop: int, first: Axis, piece: Axis) -> bool:
    """Where a slice was told its bounds: `x[:n]` has n indices, and so has what `x[n:]` leaves out (`first`). True if one was counted."""
    counted = False
    for entry in sizes_of(tracing):
        if isinstance(entry, slice):
            if entry.start is not None and entry.start == start:
                counted |= count(tracing, entry.start, first)
            if entry.stop is not None and entry.stop == stop and not start:
                counted |= count(tracing, entry.stop, piece)
    return counted
