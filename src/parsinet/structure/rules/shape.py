"""Operators that view, move and copy axes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import prod
from typing import Any

import numpy as np

from parsinet.structure.axes import Axis, fixed, formula, labelled, same_size
from parsinet.structure.counting import count_split
from parsinet.structure.origins import named_in_source
from parsinet.structure.sizes import HEAD_SIZES, HEADS, INNER, OUTER
from parsinet.structure.tracing import Tracing, Value

BEYOND = 1 << 40
"""Larger than sizes are."""


def reshape(ctx: Tracing, x: Value, *_: Any, **__: Any) -> Value:
    """Any view: axes are merged and split, the last one running fastest. Axes of size 1 come and go beside the others."""
    shape = ctx.shape()
    axes: list[Axis] = []
    for old, new in _segments(*_as_numbers([axis.size for axis in x.axes], shape)):
        if len(old) == 1 and len(new) == 1:
            axes.append(x.axes[old[0]])
        elif old and new:
            axes.extend(_rearranged(ctx, [x.axes[d] for d in old], [shape[d] for d in new]))
        else:
            axes.extend(fixed(1) for _ in new)
    count_split(ctx, axes, len(x.axes))
    return x.with_axes(axes)


def _rearranged(ctx: Tracing, old: list[Axis], new: list[Any]) -> list[Axis]:
    """What becomes of axes that a view joins or takes apart."""
    if not all(isinstance(axis.size, int) for axis in old):
        for axis in old:
            ctx.labels.freeze(axis, f"{ctx.where} joins it with positions whose number depends on values")
        return [fixed(size) for size in new]
    merged = ctx.labels.merge([axis for axis in old if axis.size != 1])
    parts = iter(ctx.labels.split(merged, tuple(size for size in new if size != 1), ctx.where))
    found = [next(parts) if size != 1 else fixed(1) for size in new]
    _count_heads(ctx, found)
    return found


def _as_numbers(*shapes: Sequence[Any]) -> list[tuple[int, ...]]:
    """The shapes with a number for every symbol of a size that depends on values: powers of one larger than sizes are."""
    formulas = [[formula(size) for size in shape] for shape in shapes]
    symbols = sorted({symbol for sizes in formulas for size in sizes if not isinstance(size, int) for symbol in size.free_symbols}, key=str)
    stands_for = {symbol: BEYOND ** (number + 1) for number, symbol in enumerate(symbols)}
    return [tuple(size if isinstance(size, int) else int(size.subs(stands_for)) for size in sizes) for sizes in formulas]


def _segments(old: tuple[int, ...], new: tuple[int, ...]) -> Iterator[tuple[list[int], list[int]]]:
    """Smallest runs of old and new axes with equal products; an axis of size 1 meets one or nothing, unless it stands within a run."""
    i = j = 0
    while i < len(old) or j < len(new):
        ones = i < len(old) and old[i] == 1, j < len(new) and new[j] == 1
        left, right = ([i], [j]) if ones[0] == ones[1] else ([i], []) if ones[0] else ([], [j])
        while left and right and (p := prod(old[d] for d in left)) != (q := prod(new[d] for d in right)):
            run = left if p < q else right
            run.append(run[-1] + 1)
        i, j = i + len(left), j + len(right)
        yield left, right


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


def movedim(ctx: Tracing, x: Value, source: int | list[int], destination: int | list[int]) -> Value:
    n = len(x.axes)
    sources, targets = ([d % n for d in ([dims] if isinstance(dims, int) else dims)] for dims in (source, destination))
    rest = iter(d for d in range(n) if d not in sources)
    moved = dict(zip(targets, sources, strict=True))
    return permute(ctx, x, [moved[d] if d in moved else next(rest) for d in range(n)])


def squeeze(ctx: Tracing, x: Value, dim: int | list[int] | None = None) -> Value:
    n = len(x.axes)
    chosen = range(n) if dim is None else [d % n for d in ([dim] if isinstance(dim, int) else dim)]
    return x.with_axes([axis for d, axis in enumerate(x.axes) if not (d in chosen and same_size(axis.size, 1))])


def unsqueeze(ctx: Tracing, x: Value, dim: int) -> Value:
    axes = list(x.axes)
    axes.insert(dim if dim >= 0 else dim + len(axes) + 1, fixed(1))
    return x.with_axes(axes)


def expand(ctx: Tracing, x: Value, *_: Any, **__: Any) -> Value:
    """Copies of one index fit any size: such an axis is free, and the dry run judges whether the code follows."""
    shape = ctx.shape()
    lead = len(shape) - len(x.axes)
    pairs = zip(x.axes, shape[lead:], strict=True)
    axes = [axis if same_size(axis.size, size) else Axis(size, free=not axis.tracked) for axis, size in pairs]
    return x.with_axes([*(fixed(size) for size in shape[:lead]), *axes])


def tile(ctx: Tracing, x: Value, repeats: list[int]) -> Value:
    """As `repeat`; where fewer numbers are given than there are axes, the last ones are meant."""
    return repeat(ctx, x, [*[1] * (len(x.axes) - len(repeats)), *repeats])


def repeat(ctx: Tracing, x: Value, repeats: list[int]) -> Value:
    lead = [fixed(1)] * (len(repeats) - len(x.axes))
    axes = [_tile(axis, times) for axis, times in zip([*lead, *x.axes], repeats, strict=True)]
    return x.with_axes(axes)


def _tile(axis: Axis, times: int) -> Axis:
    """Copies; those of a single index fit any number, as in `expand`."""
    if axis.tracked:
        return labelled(np.tile(axis.rows, times))
    return Axis(axis.size * times, free=axis.free or (axis.size == 1 and times > 1))


def repeat_interleave(ctx: Tracing, x: Value, repeats: int, dim: int | None = None, **_: Any) -> Value:
    if dim is None or not isinstance(repeats, int):
        ctx.freeze(x, f"{ctx.where} is not understood")
        return ctx.unknown(ctx.shape())
    axis = x.axes[dim]
    new = labelled(np.repeat(axis.rows, repeats, axis=1)) if axis.tracked else fixed(axis.size * repeats)
    return x.replace_axis(dim, new)


def view_as_complex(ctx: Tracing, x: Value) -> Value:
    """[…, n, 2] → […, n]: real and imaginary part stay together."""
    ctx.labels.freeze(x.axes[-1], f"{ctx.where} reads it as real and imaginary part")
    return x.with_axes(x.axes[:-1])


def view_as_real(ctx: Tracing, x: Value) -> Value:
    """[…, n] → […, n, 2]."""
    return x.with_axes((*x.axes, fixed(2)))
