"""Operators that look up positions and leave channels alone: sampled grids, windows, images put together from patches, unpooling."""

from __future__ import annotations

from typing import Any

from parsinet.structure.axes import fixed
from parsinet.structure.tracing import Tracing, Value


def grid_sampler(ctx: Tracing, x: Value, grid: Value, *_: Any) -> Value:
    """x[n, c, …] read at the places grid[n, …, d] names: every channel for itself, all positions stay."""
    for axis in (*x.axes[2:], *grid.axes[1:]):
        ctx.labels.freeze(axis, f"{ctx.where} picks indices by their position")
    example = ctx.labels.unify(x.axes[0], grid.axes[0], ctx.where)
    return x.with_axes([example, x.axes[1], *(fixed(size) for size in ctx.shape()[2:])])


def unfold(ctx: Tracing, x: Value, dim: int, *_: Any) -> Value:
    """Windows along `dim`, each a row of a new last axis; the other axes pass."""
    d = dim % len(x.axes)
    ctx.labels.freeze(x.axes[d], f"{ctx.where} cuts it by position")
    count, width = ctx.shape()[d], ctx.shape()[-1]
    return x.with_axes([*x.replace_axis(d, fixed(count)).axes, fixed(width)])


def col2im(ctx: Tracing, x: Value, output_size: list[int], kernel_size: list[int], *_: Any) -> Value:
    """[.., C·k, L] → [.., C, H, W], patches added where they overlap: the k taps of a channel stay together."""
    shape, taps = ctx.shape(), kernel_size[0] * kernel_size[-1]
    channels, rest = ctx.labels.split(x.axes[-2], (x.axes[-2].size // taps, taps), ctx.where)
    for axis in (rest, x.axes[-1]):
        ctx.labels.freeze(axis, f"{ctx.where} turns it into positions")
    return x.with_axes([*x.axes[:-2], channels, *(fixed(size) for size in shape[-2:])])


def max_unpool(ctx: Tracing, x: Value, places: Value, output_size: list[int], *_: Any) -> Value:
    """Each maximum back where it was, which `places` says channel by channel."""
    positions = len(output_size)
    for axis in (*x.axes[-positions:], *places.axes[-positions:]):
        ctx.labels.freeze(axis, f"{ctx.where} writes to indices by their position")
    lead = ctx.unify_shapes([value.with_axes(value.axes[:-positions]) for value in (x, places)], ctx.shape()[:-positions])
    return x.with_axes([*lead.axes, *(fixed(size) for size in ctx.shape()[-positions:])])
