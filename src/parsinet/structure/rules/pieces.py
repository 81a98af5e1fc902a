"""Operators that cut axes into pieces and join them."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np

from parsinet.structure.axes import Axis, concatenate, fixed, part
from parsinet.structure.counting import count, count_cut, sizes_of
from parsinet.structure.sizes import PIECES
from parsinet.structure.tracing import Tracing, Value


def slice_(ctx: Tracing, x: Value, dim: int = 0, start: int | None = None, end: int | None = None, step: int = 1) -> Value:
    """A cut along one axis; labels go with their indices. A bound that nothing keeps does not follow when units before it leave."""
    piece, follows = _cut(ctx, x, dim, slice(start, end, step))
    if not follows:
        ctx.cuts.append((x.axes[dim], ctx.where))
    return piece


def _cut(ctx: Tracing, x: Value, dim: int, cut: slice) -> tuple[Value, bool]:
    """One piece, and whether a module is seen to keep its bounds. Pieces of a size that the module keeps may take it from there."""
    axis = x.axes[dim]
    new = part(axis, cut) if axis.tracked else Axis(len(range(axis.size)[cut]), free=axis.free)
    if new.size == axis.size:
        return x.replace_axis(dim, new), True
    start, stop = cut.start or 0, axis.size if cut.stop is None else cut.stop
    counted = axis.tracked and count_cut(ctx, start, stop, part(axis, slice(0, start)), new)
    hinted = not start and ctx.hint(PIECES, new)
    return x.replace_axis(dim, new), counted or hinted


def narrow(ctx: Tracing, x: Value, dim: int, start: int, length: int) -> Value:
    piece, follows = _cut(ctx, x, dim, slice(start, start + length))
    for number in sizes_of(ctx)[2:]:
        follows |= count(ctx, number, piece.axes[dim])
    if not follows:
        ctx.cuts.append((x.axes[dim], ctx.where))
    return piece


def split(ctx: Tracing, x: Value, size: int, dim: int = 0) -> list[Value]:
    """Pieces of equal size."""
    pieces = _equal_pieces(ctx, x, size, dim)
    for number in sizes_of(ctx)[:1]:
        count(ctx, number, pieces[0].axes[dim])
    return pieces


def chunk(ctx: Tracing, x: Value, chunks: int, dim: int = 0) -> list[Value]:
    """As many pieces of equal size as asked for."""
    return _equal_pieces(ctx, x, -(-x.axes[dim].size // chunks), dim)


def tensor_split(ctx: Tracing, x: Value, where: int | list[int], dim: int = 0) -> list[Value]:
    """Pieces as equal as possible, or cut at given indices."""
    size = x.axes[dim].size
    if isinstance(where, int) and size % where == 0:
        return _equal_pieces(ctx, x, size // where, dim)
    if isinstance(where, int):
        return _pieces(ctx, x, [size // where + (k < size % where) for k in range(where)], dim)
    bounds = [0, *where, size]
    return [slice_(ctx, x, dim, start, end) for start, end in itertools.pairwise(bounds)]


def hsplit(ctx: Tracing, x: Value, where: int | list[int]) -> list[Value]:
    """tensor_split along the second axis; of a vector along its only one."""
    return tensor_split(ctx, x, where, min(1, len(x.axes) - 1))


def dsplit(ctx: Tracing, x: Value, where: int | list[int]) -> list[Value]:
    """tensor_split along the third axis."""
    return tensor_split(ctx, x, where, 2)


def _equal_pieces(ctx: Tracing, x: Value, size: int, dim: int = 0) -> list[Value]:
    """They stay equal, so index i of one goes with index i of the others."""
    total = x.axes[dim].size
    starts = range(0, total, size)
    pieces = [_cut(ctx, x, dim, slice(start, min(start + size, total)))[0] for start in starts]
    for piece in pieces[1:]:
        if piece.axes[dim].size == size:
            ctx.labels.unify(pieces[0].axes[dim], piece.axes[dim], ctx.where)
        else:
            ctx.labels.freeze(x.axes[dim], f"{ctx.where} cuts it into pieces of {size}")
    return pieces


def split_with_sizes(ctx: Tracing, x: Value, sizes: list[int], dim: int = 0) -> list[Value]:
    pieces = _pieces(ctx, x, sizes, dim)
    for number, piece in zip(sizes_of(ctx), pieces, strict=False):
        count(ctx, number, piece.axes[dim])
    for piece in pieces[1:]:
        ctx.hint(PIECES, piece.axes[dim])
    return pieces


def _pieces(ctx: Tracing, x: Value, sizes: list[int], dim: int) -> list[Value]:
    starts = np.cumsum([0, *sizes])
    return [_cut(ctx, x, dim, slice(int(start), int(start) + size))[0] for start, size in zip(starts[:-1], sizes, strict=True)]


def select(ctx: Tracing, x: Value, dim: int, index: int) -> Value:
    """One index by its position: the axis must stay as it is."""
    ctx.labels.freeze(x.axes[dim], f"{ctx.where} picks an index by its position")
    n = len(x.axes)
    return x.with_axes([axis for d, axis in enumerate(x.axes) if d != dim % n])


def unbind(ctx: Tracing, x: Value, dim: int = 0) -> list[Value]:
    return [select(ctx, x, dim, 0)] * x.axes[dim].size


def slice_scatter(
    ctx: Tracing, x: Value, part_: Value, dim: int = 0, start: int | None = None, end: int | None = None, step: int = 1
) -> Value:
    """x with a slice replaced: x[:, start:end] = part. Where the part is not the whole, places do not follow a removal."""
    d = dim % len(x.axes)
    shape = tuple(1 if k == d else size for k, size in enumerate(ctx.shape()))
    others = ctx.add_up([value.replace_axis(d, fixed(1)) for value in (x, part_)], shape)
    if part_.axes[d].size < x.axes[d].size:
        for axis in (x.axes[d], part_.axes[d]):
            ctx.labels.freeze(axis, f"{ctx.where} writes to indices by their position")
        return others.replace_axis(d, fixed(x.axes[d].size))
    return others.replace_axis(d, ctx.labels.unify(part_.axes[d], x.axes[d], ctx.where))


def cat(ctx: Tracing, tensors: list[Value], dim: int = 0) -> Value:
    """Concatenation: labels keep their order; the other axes meet index by index."""
    tensors = [tensor for tensor in tensors if [axis.size for axis in tensor.axes] != [0]]
    n = len(tensors[0].axes)
    d = dim % n
    shape = ctx.shape()
    others = ctx.add_up([tensor.replace_axis(d, fixed(1)) for tensor in tensors], (*shape[:d], 1, *shape[d + 1 :]))
    axis = concatenate([_open(ctx, tensor.axes[d]) for tensor in tensors])
    return Value(others.replace_axis(d, axis).axes, all(tensor.constant for tensor in tensors))


def _open(ctx: Tracing, axis: Axis) -> Axis:
    """What fits any size (zeros a recurrent cell starts from) takes on the units it meets later."""
    return ctx.labels.numbered(axis.size) if axis.free else axis


def stack(ctx: Tracing, tensors: list[Value], dim: int = 0) -> Value:
    shape = list(ctx.shape())
    d = dim % len(shape)
    count = shape.pop(d)
    joined = ctx.add_up(tensors, tuple(shape))
    return joined.with_axes([*joined.axes[:d], fixed(count), *joined.axes[d:]])


def pad(ctx: Tracing, x: Value, amounts: list[int], *_: Any, **__: Any) -> Value:
    """Padding (or cropping, where negative) of the last axes; what is added is fixed."""
    axes = list(x.axes)
    for k in range(len(amounts) // 2):
        d, before, after = len(axes) - 1 - k, amounts[2 * k], amounts[2 * k + 1]
        if before or after:
            axis = part(axes[d], slice(max(0, -before), axes[d].size - max(0, -after)))
            axes[d] = concatenate([fixed(max(0, before)), axis, fixed(max(0, after))])
    return x.with_axes(axes)
