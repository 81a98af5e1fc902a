"""Operators that move, cut and join axes."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np

from parsinet.structure.axes import Axis, concatenate, fixed, labelled, part
from parsinet.structure.export import named_in_source
from parsinet.structure.sizes import HEAD_SIZES, HEADS, INNER, OUTER, PIECES
from parsinet.structure.tracing import Tracing, Value


def reshape(ctx: Tracing, x: Value, *_: Any, **__: Any) -> Value:
    """Any view: axes are merged and split, the last one running fastest."""
    sizes = tuple(axis.size for axis in x.axes)
    axes: list[Axis] = []
    for old, new in _segments(sizes, ctx.shape()):
        if len(old) == 1 and len(new) == 1:
            axes.append(x.axes[old[0]])
        elif not old:
            axes.extend(fixed(1) for _ in new)
        else:
            merged = ctx.labels.merge([x.axes[d] for d in old])
            parts = ctx.labels.split(merged, tuple(ctx.shape()[d] for d in new), ctx.where) if new else []
            _count_heads(ctx, parts)
            axes.extend(parts)
    return x.with_axes(axes)


def _segments(old: tuple[int, ...], new: tuple[int, ...]) -> list[tuple[list[int], list[int]]]:
    """Smallest runs of old and new axes with equal products."""
    segments: list[tuple[list[int], list[int]]] = []
    i = j = 0
    while i < len(old) or j < len(new):
        left: list[int] = []
        right: list[int] = []
        p = q = 1
        while True:
            if i < len(old) and (p <= q or j >= len(new)):
                p, i = p * old[i], i + 1
                left.append(i - 1)
            elif j < len(new):
                q, j = q * new[j], j + 1
                right.append(j - 1)
            if p == q and (
                (left and right) or (i >= len(old) and j >= len(new)) or (not left and i >= len(old)) or (not right and j >= len(new))
            ):
                break
        segments.append((left, right))
    return segments


def _count_heads(ctx: Tracing, parts: list[Axis]) -> None:
    """Where a view splits off heads or joins heads × dimension by sizes the module keeps in attributes, those follow a removal."""
    tracked = [axis for axis in parts if axis.tracked]
    if len(parts) == 1:
        ctx.hint([*INNER, *(name for name in OUTER if named_in_source(ctx.node, name))], parts[0])
    elif len(tracked) == 1:
        _ = ctx.hint(HEADS, tracked[0]) or ctx.hint(HEAD_SIZES, tracked[0])
    elif tracked:
        for axis in tracked[:-1]:
            ctx.hint(HEADS, axis)
        ctx.hint(HEAD_SIZES, tracked[-1])


def permute(ctx: Tracing, x: Value, dims: list[int]) -> Value:
    return x.with_axes([x.axes[d] for d in dims])


def transpose(ctx: Tracing, x: Value, first: int = 0, second: int = 1) -> Value:
    axes = list(x.axes)
    if len(axes) > 1:
        axes[first], axes[second] = axes[second], axes[first]
    return x.with_axes(axes)


def squeeze(ctx: Tracing, x: Value, dim: int | list[int] | None = None) -> Value:
    n = len(x.axes)
    chosen = range(n) if dim is None else [d % n for d in ([dim] if isinstance(dim, int) else dim)]
    return x.with_axes([axis for d, axis in enumerate(x.axes) if not (d in chosen and axis.size == 1)])


def unsqueeze(ctx: Tracing, x: Value, dim: int) -> Value:
    axes = list(x.axes)
    axes.insert(dim if dim >= 0 else dim + len(axes) + 1, fixed(1))
    return x.with_axes(axes)


def expand(ctx: Tracing, x: Value, *_: Any, **__: Any) -> Value:
    """Copies of one index fit any size: such an axis is free, and the dry run judges whether the code follows."""
    shape = ctx.shape()
    lead = len(shape) - len(x.axes)
    axes = [axis if axis.size == size else Axis(size, free=not axis.tracked) for axis, size in zip(x.axes, shape[lead:], strict=True)]
    return x.with_axes([*(fixed(size) for size in shape[:lead]), *axes])


def repeat(ctx: Tracing, x: Value, repeats: list[int]) -> Value:
    lead = [fixed(1)] * (len(repeats) - len(x.axes))
    axes = [_tile(axis, times) for axis, times in zip([*lead, *x.axes], repeats, strict=True)]
    return x.with_axes(axes)


def _tile(axis: Axis, times: int) -> Axis:
    return labelled(np.tile(axis.rows, times)) if axis.tracked else fixed(axis.size * times)


def repeat_interleave(ctx: Tracing, x: Value, repeats: int, dim: int | None = None, **_: Any) -> Value:
    if dim is None or not isinstance(repeats, int):
        ctx.freeze(x, f"{ctx.where} is not understood")
        return ctx.unknown(ctx.shape())
    axis = x.axes[dim]
    new = labelled(np.repeat(axis.rows, repeats, axis=1)) if axis.tracked else fixed(axis.size * repeats)
    return _replace(x, dim, new)


def slice_(ctx: Tracing, x: Value, dim: int = 0, start: int | None = None, end: int | None = None, step: int = 1) -> Value:
    """A cut along one axis; labels go with their indices. A first piece of a size that the module keeps may take it from there."""
    axis = x.axes[dim]
    cut = slice(start, end, step)
    new = part(axis, cut) if axis.tracked else Axis(len(range(axis.size)[cut]), free=axis.free)
    if new.size < axis.size and not start:
        ctx.hint(PIECES, new)
    return _replace(x, dim, new)


def narrow(ctx: Tracing, x: Value, dim: int, start: int, length: int) -> Value:
    return slice_(ctx, x, dim, start, start + length)


def select(ctx: Tracing, x: Value, dim: int, index: int) -> Value:
    """One index by its position: the axis must stay as it is."""
    ctx.labels.freeze(x.axes[dim], f"{ctx.where} picks an index by its position")
    n = len(x.axes)
    return x.with_axes([axis for d, axis in enumerate(x.axes) if d != dim % n])


def unbind(ctx: Tracing, x: Value, dim: int = 0) -> list[Value]:
    return [select(ctx, x, dim, 0)] * x.axes[dim].size


def split(ctx: Tracing, x: Value, size: int, dim: int = 0) -> list[Value]:
    """Pieces of equal size; they stay equal, so index i of one goes with index i of the others."""
    total = x.axes[dim].size
    starts = range(0, total, size)
    pieces = [slice_(ctx, x, dim, start, min(start + size, total)) for start in starts]
    for piece in pieces[1:]:
        if piece.axes[dim].size == size:
            ctx.labels.unify(pieces[0].axes[dim], piece.axes[dim], ctx.where)
        else:
            ctx.labels.freeze(x.axes[dim], f"{ctx.where} cuts it into pieces of {size}")
    return pieces


def chunk(ctx: Tracing, x: Value, chunks: int, dim: int = 0) -> list[Value]:
    return split(ctx, x, -(-x.axes[dim].size // chunks), dim)


def split_with_sizes(ctx: Tracing, x: Value, sizes: list[int], dim: int = 0) -> list[Value]:
    starts = np.cumsum([0, *sizes])
    pieces = [slice_(ctx, x, dim, int(start), int(start) + size) for start, size in zip(starts[:-1], sizes, strict=True)]
    for piece in pieces[1:]:
        ctx.hint(PIECES, piece.axes[dim])
    return pieces


def cat(ctx: Tracing, tensors: list[Value], dim: int = 0) -> Value:
    """Concatenation: labels keep their order; the other axes meet index by index."""
    tensors = [tensor for tensor in tensors if [axis.size for axis in tensor.axes] != [0]]
    n = len(tensors[0].axes)
    d = dim % n
    shape = ctx.shape()
    others = ctx.unify_shapes([_replace(tensor, d, fixed(1)) for tensor in tensors], (*shape[:d], 1, *shape[d + 1 :]))
    axis = concatenate([tensor.axes[d] for tensor in tensors])
    return Value(_replace(others, d, axis).axes, all(tensor.constant for tensor in tensors))


def stack(ctx: Tracing, tensors: list[Value], dim: int = 0) -> Value:
    shape = list(ctx.shape())
    d = dim % len(shape)
    count = shape.pop(d)
    joined = ctx.unify_shapes(tensors, tuple(shape))
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


def pixel_shuffle(ctx: Tracing, x: Value, factor: int) -> Value:
    """[.., C·r², H, W] → [.., C, H·r, W·r]: the r² channels of an output channel stay together."""
    c = len(x.axes) - 3
    channels, rest = ctx.labels.split(x.axes[c], (x.axes[c].size // factor**2, factor**2), ctx.where)
    ctx.labels.freeze(rest, f"{ctx.where} turns it into positions")
    return x.with_axes([*x.axes[:c], channels, *(fixed(size) for size in ctx.shape()[-2:])])


def along(ctx: Tracing, x: Value, shifts: Any = None, dims: Any = None, *_: Any, **__: Any) -> Value:
    """Roll and flip: free on axes without units, not understood on those with."""
    chosen = dims if dims is not None else shifts
    for d in [chosen] if isinstance(chosen, int) else list(chosen):
        ctx.labels.freeze(x.axes[d], f"{ctx.where} changes the order of its indices")
    return x


def movedim(ctx: Tracing, x: Value, source: int | list[int], destination: int | list[int]) -> Value:
    n = len(x.axes)
    sources, targets = ([d % n for d in ([dims] if isinstance(dims, int) else dims)] for dims in (source, destination))
    rest = iter(d for d in range(n) if d not in sources)
    moved = dict(zip(targets, sources, strict=True))
    return permute(ctx, x, [moved[d] if d in moved else next(rest) for d in range(n)])


def tensor_split(ctx: Tracing, x: Value, where: int | list[int], dim: int = 0) -> list[Value]:
    """Pieces as equal as possible, or cut at given indices."""
    size = x.axes[dim].size
    if isinstance(where, int) and size % where == 0:
        return split(ctx, x, size // where, dim)
    if isinstance(where, int):
        return split_with_sizes(ctx, x, [size // where + (k < size % where) for k in range(where)], dim)
    bounds = [0, *where, size]
    return [slice_(ctx, x, dim, start, end) for start, end in itertools.pairwise(bounds)]


def index(ctx: Tracing, x: Value, indices: list[Value | None]) -> Value:
    """x[i, :, j]: indexed axes must stay as they are, the others pass."""
    given = [d for d, entry in enumerate(indices) if entry is not None]
    for entry in indices:
        ctx.freeze(entry or ctx.unknown(()), f"{ctx.where} picks by them")
    for d in given:
        ctx.labels.freeze(x.axes[d], f"{ctx.where} picks indices by their position")
    rest = [axis for d, axis in enumerate(x.axes) if d not in given]
    shape = ctx.shape()
    adjacent = given == list(range(given[0], given[-1] + 1))
    start = given[0] if adjacent else 0
    new = [fixed(size) for size in shape[start : start + len(shape) - len(rest)]]
    return x.with_axes([*rest[:start], *new, *rest[start:]])


def index_select(ctx: Tracing, x: Value, dim: int, chosen: Value) -> Value:
    """Indices of one axis by their position."""
    ctx.labels.freeze(x.axes[dim], f"{ctx.where} picks indices by their position")
    return _replace(x, dim, fixed(len(chosen.axes) and chosen.axes[0].size))


def slice_scatter(
    ctx: Tracing, x: Value, part_: Value, dim: int = 0, start: int | None = None, end: int | None = None, step: int = 1
) -> Value:
    """x with a slice replaced: x[:, start:end] = part. Where the part is not the whole, places do not follow a removal."""
    d = dim % len(x.axes)
    shape = tuple(1 if k == d else size for k, size in enumerate(ctx.shape()))
    others = ctx.unify_shapes([_replace(value, d, fixed(1)) for value in (x, part_)], shape)
    if part_.axes[d].size < x.axes[d].size:
        for axis in (x.axes[d], part_.axes[d]):
            ctx.labels.freeze(axis, f"{ctx.where} writes to indices by their position")
        return _replace(others, d, fixed(x.axes[d].size))
    return _replace(others, d, ctx.labels.unify(part_.axes[d], x.axes[d], ctx.where))


def triangle(ctx: Tracing, x: Value, *_: Any) -> Value:
    """tril, triu: which entries stay depends on their position in both axes."""
    for axis in x.axes[-2:]:
        ctx.labels.freeze(axis, f"{ctx.where} depends on the order of its indices")
    return x


def pixel_unshuffle(ctx: Tracing, x: Value, factor: int) -> Value:
    """[.., C, H·r, W·r] → [.., C·r², H, W]: the r² channels made of one input channel stay together."""
    c = len(x.axes) - 3
    channels = ctx.labels.merge([x.axes[c], fixed(factor**2)])
    return x.with_axes([*x.axes[:c], channels, *(fixed(size) for size in ctx.shape()[-2:])])


def channel_shuffle(ctx: Tracing, x: Value, groups: int) -> Value:
    """[n, g·k, …] read as [n, g, k, …], g and k exchanged."""
    group, position = ctx.labels.split(x.axes[1], (groups, x.axes[1].size // groups), ctx.where)
    ctx.labels.freeze(group, f"{ctx.where} has its number of groups written in the code")
    return _replace(x, 1, ctx.labels.merge([position, group]))


def _replace(x: Value, dim: int, axis: Axis) -> Value:
    axes = list(x.axes)
    axes[dim] = axis
    return x.with_axes(axes)
