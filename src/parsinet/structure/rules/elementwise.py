"""Element-by-element operators, reductions, constants: what passes labels on unchanged, and what ends them."""

from __future__ import annotations

import re
from typing import Any

from parsinet.structure.axes import Axis, fixed, part
from parsinet.structure.counting import count_axes
from parsinet.structure.sizes import HEADS
from parsinet.structure.tracing import Tracing, Value


def pointwise(ctx: Tracing, *args: Any, **kwargs: Any) -> Value:
    """Any element-by-element operator: operands are broadcast and meet index by index."""
    values = [value for value in (*args, *kwargs.values()) if isinstance(value, Value)]
    return ctx.unify_shapes(values, ctx.shape())


def added(ctx: Tracing, *args: Any, **kwargs: Any) -> Value:
    """Element by element what is zero where all operands are: sums, differences, the larger of two."""
    values = [value for value in (*args, *kwargs.values()) if isinstance(value, Value)]
    return ctx.add_up(values, ctx.shape())


def chosen(ctx: Tracing, condition: Value, *sources: Any, **named: Any) -> Value:
    """`where`: entries of one tensor or another."""
    values = [source for source in (*sources, *named.values()) if isinstance(source, Value)]
    return ctx.add_up(values, ctx.shape(), [condition])


def places(ctx: Tracing, x: Value) -> list[Value]:
    """`where` of one argument: along each axis the places of the entries that are not zero."""
    ctx.freeze(x, f"{ctx.where} returns an index into it")
    return [ctx.unknown(ctx.shape(d), constant=x.constant) for d in range(len(x.axes))]


def place_rows(ctx: Tracing, x: Value) -> Value:
    """`nonzero`: the same, a row for each entry."""
    ctx.freeze(x, f"{ctx.where} returns an index into it")
    return ctx.unknown(ctx.shape(), constant=x.constant)


def blended(ctx: Tracing, start: Value, end: Value, weight: Any) -> Value:
    """a + t (b − a), with a number or a tensor t."""
    return ctx.add_up([start, end], ctx.shape(), [weight] if isinstance(weight, Value) else [])


def product_added(ctx: Tracing, x: Value, left: Value, right: Value, **_: Any) -> Value:
    """x + c a b, or x + c a / b."""
    return ctx.add_up([x, ctx.unify_shapes([left, right], ctx.shape())], ctx.shape())


def prelu(ctx: Tracing, x: Value, weight: Value) -> Value:
    """A slope per channel, or one for all."""
    channel = 1 if len(x.axes) > 1 else 0
    if weight.axes[0].size > 1:
        ctx.labels.unify(x.axes[channel], weight.axes[0], ctx.where)
    else:
        ctx.labels.freeze(weight.axes[0], "one slope for all channels")
    return x


def same(ctx: Tracing, x: Value, *_: Any, **__: Any) -> Value:
    """Operators that keep every index in its place: copies, casts, dropout."""
    return x


def same_with_mask(ctx: Tracing, x: Value, *_: Any) -> list[Value]:
    """Dropout as the functional form of a graph has it: the result, and what stays."""
    return [x, x]


def positions(ctx: Tracing, x: Value, *_: Any, **__: Any) -> Value:
    """Pooling, interpolation: every channel for itself, positions are the last axes, as many as the operator's name says.

    Whoever pools an image without a batch, or channels as depth, has units among the positions.
    """
    return _over_positions(ctx, x, ctx.shape())


def positions_with_indices(ctx: Tracing, x: Value, *_: Any, **__: Any) -> list[Value]:
    """Max pooling that also returns where each maximum was."""
    return [_over_positions(ctx, x, ctx.shape(0))] * 2


def fractional_pool(ctx: Tracing, x: Value, _: Any, __: Any, samples: Value) -> list[Value]:
    """Max pooling over windows whose places are drawn, [batch, channels, dimensions]."""
    ahead = len(x.axes) - _pooled(ctx)
    for axis, drawn in zip(x.axes[:ahead][::-1], samples.axes[-2::-1], strict=False):
        ctx.labels.unify(axis, drawn, ctx.where)
    return positions_with_indices(ctx, x)


def _over_positions(ctx: Tracing, x: Value, shape: tuple[int, ...]) -> Value:
    first = len(x.axes) - _pooled(ctx)
    for axis in x.axes[first:]:
        ctx.labels.freeze(axis, f"{ctx.where} runs over it")
    keep = [axis if d < first or axis.size == size else fixed(size) for d, (axis, size) in enumerate(zip(x.axes, shape, strict=True))]
    return x.with_axes(keep)


def _pooled(ctx: Tracing) -> int:
    """Over how many axes the running operator runs: the number before the `d` of its name."""
    found = re.search(r"([123])d", str(ctx.node.target)) if ctx.node is not None else None
    assert found is not None, "operators on positions are named after their number"
    return int(found[1])


def reduce(ctx: Tracing, x: Value, dim: int | list[int] | None = None, keepdim: bool = False, *_: Any, **options: Any) -> Value:
    """Mean, sum, maximum … over `dim`: it must not run over units, whose number it would depend on."""
    keepdim = options.get("keepdim", keepdim)
    n = len(x.axes)
    over = range(n) if dim is None or dim == [] else [d % n for d in ([dim] if isinstance(dim, int) else dim)]
    axes: list[Axis] = []
    for d, axis in enumerate(x.axes):
        if d not in over:
            axes.append(axis)
            continue
        ctx.run_over(axis)
        if keepdim:
            axes.append(fixed(1))
    return x.with_axes(axes)


def total(ctx: Tracing, x: Value, dim: int | list[int] | None = None, keepdim: bool = False, *_: Any, **options: Any) -> Value:
    """A sum over units reads each with weight one: a unit whose producers are zero adds nothing, the dry run says whether exactly."""
    before = len(ctx.inexact)
    result = reduce(ctx, x, dim, keepdim, **options)
    if not x.constant:
        ctx.met.extend(axis for axis, _ in ctx.inexact[before:])
        del ctx.inexact[before:]
    return result


def position(ctx: Tracing, x: Value, dim: int | None = None, keepdim: bool = False) -> Value:
    """argmax, argmin: an index into the axis, which must stay as it is; the other axes pass."""
    over = range(len(x.axes)) if dim is None else [dim % len(x.axes)]
    for d in over:
        ctx.labels.freeze(x.axes[d], f"{ctx.where} returns an index into it")
    kept = [fixed(1) if d in over else axis for d, axis in enumerate(x.axes) if keepdim or d not in over]
    return x.with_axes(kept)


def reduce_pair(ctx: Tracing, x: Value, dim: int = -1, keepdim: bool = False) -> list[Value]:
    """Maximum or minimum along an axis, with its position."""
    if any(user.args[1:] == (1,) and user.users for user in ctx.users):
        ctx.labels.freeze(x.axes[dim], f"{ctx.where} returns an index into it")
    value = reduce(ctx, x, dim, keepdim)
    return [value, value]


def kthvalue(ctx: Tracing, x: Value, k: int, dim: int = -1, keepdim: bool = False) -> list[Value]:
    """The k-th smallest along an axis, with its position."""
    return reduce_pair(ctx, x, dim, keepdim)


def quantile(ctx: Tracing, x: Value, q: Any, dim: int | None = None, keepdim: bool = False, **_: Any) -> Value:
    """Quantiles along an axis; of several, one after the other in a new first axis."""
    value = reduce(ctx, x, dim, keepdim)
    if not isinstance(q, Value):
        return value
    ctx.freeze(q, f"{ctx.where} is as long as they are")
    return value.with_axes([*(fixed(axis.size) for axis in q.axes), *value.axes])


def variance(ctx: Tracing, x: Value, dim: Any = None, unbiased: bool = True, keepdim: bool = False, **_: Any) -> Value:
    """Variance or standard deviation; one form has `unbiased` in the place of dim."""
    return reduce(ctx, x, None if isinstance(dim, bool) else dim, keepdim)


def moments(ctx: Tracing, x: Value, dim: Any = None, unbiased: bool = True, keepdim: bool = False, **_: Any) -> list[Value]:
    """Standard deviation or variance together with the mean."""
    return [variance(ctx, x, dim, unbiased, keepdim)] * 2


def norm(ctx: Tracing, x: Value, order: Any = 2, dim: int | list[int] | None = None, keepdim: bool = False, *_: Any, **__: Any) -> Value:
    """Vector norms over `dim`."""
    return reduce(ctx, x, dim, keepdim)


def ordered(ctx: Tracing, x: Value, *args: Any, **options: Any) -> list[Value]:
    """sort and topk along an axis without units; the other axes pass."""
    dim = options.get("dim", next((arg for arg in args[-1:] if type(arg) is int and len(args) > 1), -1))
    ctx.labels.freeze(x.axes[dim], f"{ctx.where} orders it")
    axes = [axis if axis.size == size else fixed(size) for axis, size in zip(x.axes, ctx.shape(0), strict=True)]
    return [x.with_axes(axes)] * 2


def glu(ctx: Tracing, x: Value, dim: int = -1) -> Value:
    """First half times the sigmoid of the second, index by index."""
    d, half = dim % len(x.axes), x.axes[dim].size // 2
    halves = [x.with_axes([*x.axes[:d], part(x.axes[d], cut), *x.axes[d + 1 :]]) for cut in (slice(0, half), slice(half, None))]
    return ctx.unify_shapes(halves, ctx.shape())


def along_axis(ctx: Tracing, x: Value, dim: int, *_: Any, **__: Any) -> Value:
    """Cumulative sums and the like along `dim`; the other axes pass."""
    ctx.labels.freeze(x.axes[dim], f"{ctx.where} runs along it")
    return x


def along_axis_pair(ctx: Tracing, x: Value, dim: int) -> list[Value]:
    """The same, with positions."""
    return [along_axis(ctx, x, dim)] * 2


def free_constant(ctx: Tracing, *_: Any, **__: Any) -> Value:
    """A constant with equal entries, or drawn: it fits any size the module asks for, be it a literal or one of its own attributes."""
    axes = [ctx.labels.numbered(size) for size in ctx.shape()]
    kept = count_axes(ctx, axes)
    counted = [d in kept or ctx.hint(HEADS, axis) for d, axis in enumerate(axes)]
    return Value(tuple(axis if own else Axis(axis.size, free=True) for axis, own in zip(axes, counted, strict=True)), constant=True)


def constant_like(ctx: Tracing, x: Value, *_: Any, **__: Any) -> Value:
    """A constant in the shape of x: index by index it is as long as x is, and takes part in what x takes part in."""
    return Value(x.axes, x.constant)


def fixed_constant(ctx: Tracing, *_: Any, **__: Any) -> Value:
    """A constant whose entries differ: its size is fixed."""
    return ctx.unknown(ctx.shape(), constant=True)
