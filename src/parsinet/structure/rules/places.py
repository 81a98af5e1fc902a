"""Operators that pick, add and order indices by their position: the axis they act on must stay as it is."""

from __future__ import annotations

from typing import Any

from parsinet.structure.axes import fixed
from parsinet.structure.tracing import Tracing, Value


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
    return x.replace_axis(dim, fixed(len(chosen.axes) and chosen.axes[0].size))


def gather(ctx: Tracing, x: Value, dim: int, chosen: Value, **_: Any) -> Value:
    """x[i, chosen[i, j]]: positions along `dim`; the other axes pass."""
    d = dim % len(x.axes) if x.axes else 0
    ctx.labels.freeze(x.axes[d], f"{ctx.where} picks indices by their position")
    return _beside(ctx, d, [x, chosen], ctx.shape())


def scatter(ctx: Tracing, x: Value, dim: int, places: Value, source: Any = None, *_: Any, **__: Any) -> Value:
    """Entries of `source` written or added to places along `dim`; the other axes meet index by index."""
    d = dim % len(x.axes)
    values = [x, places, *([source] if isinstance(source, Value) else [])]
    for value in values:
        ctx.labels.freeze(value.axes[d], f"{ctx.where} writes to indices by their position")
    return _beside(ctx, d, values, ctx.shape())


def index_add(ctx: Tracing, x: Value, dim: int, places: Value, source: Any, *_: Any, **__: Any) -> Value:
    """Slices of `source` written or added to places along `dim`; the other axes meet index by index."""
    d = dim % len(x.axes)
    values = [x, *([source] if isinstance(source, Value) and source.axes else [])]
    for value in values:
        ctx.labels.freeze(value.axes[d], f"{ctx.where} writes to indices by their position")
    return _beside(ctx, d, values, ctx.shape())


def index_put(ctx: Tracing, x: Value, indices: list[Value | None], values: Value, *_: Any) -> Value:
    """x[i, :] = values: indexed axes must stay as they are, the others meet those of `values`."""
    given = [d for d, entry in enumerate(indices) if entry is not None]
    for d in given:
        ctx.labels.freeze(x.axes[d], f"{ctx.where} writes to indices by their position")
    axes, first = list(x.axes), given[-1] + 1
    for d in range(-1, -min(len(axes) - first, len(values.axes)) - 1, -1):
        if axes[d].size == values.axes[d].size:
            axes[d] = ctx.labels.unify(axes[d], values.axes[d], ctx.where)
    for axis in (*values.axes[: max(0, len(values.axes) - (len(axes) - first))], *x.axes[: given[-1]]):
        ctx.labels.freeze(axis, f"{ctx.where} writes to indices by their position")
    return Value(tuple(axes), x.constant and values.constant)


def masked_scatter(ctx: Tracing, x: Value, mask: Value, source: Value) -> Value:
    """Entries of `source`, in their order, where the mask holds. Last axes along which the mask is one value are written whole, and
    meet those of `source` (images put among the embeddings of a text); the others must stay as they are."""
    shape, whole = ctx.shape(), 0
    for mine, held, written in zip(reversed(x.axes), reversed(mask.axes), reversed(source.axes), strict=False):
        if not (held.free or held.size == 1) or mine.size != written.size:
            break
        whole += 1
    ends = [(value, len(value.axes) - whole) for value in (x, source)]
    for axis in (*mask.axes, *(axis for value, end in ends for axis in value.axes[:end])):
        ctx.labels.freeze(axis, f"{ctx.where} fills places in their order")
    met = ctx.unify_shapes([value.with_axes(value.axes[end:]) for value, end in ends], shape[len(shape) - whole :])
    return met.with_axes([*(fixed(size) for size in shape[: len(shape) - whole]), *met.axes])


def _beside(ctx: Tracing, d: int, values: list[Value], shape: tuple[int, ...]) -> Value:
    """The values' axes besides d, united where their sizes agree; elsewhere positions count."""
    for value in values:
        for k, axis in enumerate(value.axes):
            if k != d and axis.size != shape[k]:
                ctx.labels.freeze(axis, f"{ctx.where} uses its first indices only")
    aside = [value.replace_axis(d, fixed(1)) for value in values]
    others = ctx.unify_shapes(aside, (*shape[:d], 1, *shape[d + 1 :]))
    return others.replace_axis(d, fixed(shape[d]))


def along(ctx: Tracing, x: Value, shifts: Any = None, dims: Any = None, *_: Any, **__: Any) -> Value:
    """Roll and flip: free on axes without units, not understood on those with."""
    chosen = dims if dims is not None else shifts
    for d in [chosen] if isinstance(chosen, int) else list(chosen):
        ctx.labels.freeze(x.axes[d], f"{ctx.where} changes the order of its indices")
    return x


def differences(ctx: Tracing, x: Value, n: int = 1, dim: int = -1, *edges: Value | None, **named: Value | None) -> Value:
    """Differences of neighbours along `dim`, edges put before and behind; the other axes meet index by index."""
    d = dim % len(x.axes)
    values = [x, *(edge for edge in (*edges, *named.values()) if edge is not None)]
    for value in values:
        ctx.labels.freeze(value.axes[d], f"{ctx.where} subtracts neighbours")
    return _beside(ctx, d, values, ctx.shape())


def triangle(ctx: Tracing, x: Value, *_: Any) -> Value:
    """tril, triu: which entries stay depends on their position in both axes."""
    for axis in x.axes[-2:]:
        ctx.labels.freeze(axis, f"{ctx.where} depends on the order of its indices")
    return x


def diagonal(ctx: Tracing, x: Value, offset: int = 0, dim1: int = 0, dim2: int = 1) -> Value:
    """Entries whose two indices go together, as the last axis; the other axes pass."""
    pair = [d % len(x.axes) for d in (dim1, dim2)]
    for d in pair:
        ctx.labels.freeze(x.axes[d], f"{ctx.where} depends on the order of its indices")
    return x.with_axes([*(axis for d, axis in enumerate(x.axes) if d not in pair), fixed(ctx.shape()[-1])])


def fourier(ctx: Tracing, x: Value, dims: list[int], *_: Any, **__: Any) -> Value:
    """Fourier transforms along `dims`, real or complex; the other axes pass."""
    shape = ctx.shape()
    axes = list(x.axes)
    for d in dims:
        ctx.labels.freeze(axes[d], f"{ctx.where} runs along it")
        axes[d] = fixed(shape[d])
    return x.with_axes(axes)


def bucketize(ctx: Tracing, x: Value, bounds: Value, **_: Any) -> Value:
    """Entry by entry the number of the interval it lies in; the bounds stay."""
    ctx.freeze(bounds, f"{ctx.where} picks by them")
    return x


def searchsorted(ctx: Tracing, bounds: Value, x: Value, **_: Any) -> Value:
    """The same, for one sequence of bounds."""
    if len(bounds.axes) != 1:
        raise ValueError("rows of bounds belong to rows of values")
    return bucketize(ctx, x, bounds)


def histogram(ctx: Tracing, x: Value, *_: Any, **__: Any) -> Value:
    """histc, bincount: how often each number comes; the result is as long as the numbers go."""
    ctx.freeze(x, f"{ctx.where} counts its entries")
    return ctx.unknown(ctx.shape())
