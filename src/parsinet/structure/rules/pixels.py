"""Operators between channels and positions of an image."""

from __future__ import annotations

from parsinet.structure.axes import fixed
from parsinet.structure.tracing import Tracing, Value


def pixel_shuffle(ctx: Tracing, x: Value, factor: int) -> Value:
    """[.., C·r², H, W] → [.., C, H·r, W·r]: the r² channels of an output channel stay together."""
    c = len(x.axes) - 3
    channels, rest = ctx.labels.split(x.axes[c], (x.axes[c].size // factor**2, factor**2), ctx.where)
    ctx.labels.freeze(rest, f"{ctx.where} turns it into positions")
    return x.with_axes([*x.axes[:c], channels, *(fixed(size) for size in ctx.shape()[-2:])])


def pixel_unshuffle(ctx: Tracing, x: Value, factor: int) -> Value:
    """[.., C, H·r, W·r] → [.., C·r², H, W]: the r² channels made of one input channel stay together."""
    c = len(x.axes) - 3
    channels = ctx.labels.merge([x.axes[c], fixed(factor**2)])
    return x.with_axes([*x.axes[:c], channels, *(fixed(size) for size in ctx.shape()[-2:])])


def channel_shuffle(ctx: Tracing, x: Value, groups: int) -> Value:
    """[n, g·k, …] read as [n, g, k, …], g and k exchanged."""
    group, position = ctx.labels.split(x.axes[1], (groups, x.axes[1].size // groups), ctx.where)
    ctx.labels.freeze(group, f"{ctx.where} has its number of groups written in the code")
    return x.replace_axis(1, ctx.labels.merge([position, group]))
