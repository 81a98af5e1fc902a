"""Convolutions of any dimension, plain, grouped and transposed."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from parsinet.structure.axes import Axis, fixed
from parsinet.structure.rules.emitting import LAYERS, add_bias, produce
from parsinet.structure.tracing import Tracing, Value


def convolution(
    ctx: Tracing, x: Value, weight: Value, bias: Value | None = None, stride: Any = 1, padding: Any = 0, dilation: Any = 1, groups: int = 1
) -> Value:
    """Convolution of any dimension; weight [out, in/groups, taps].

    In a grouped convolution channel (g, j) of the input carries {group g, position j}: a group may leave (with its inputs and
    outputs), or a position in every group.
    """
    c = _channel_axis(ctx, x, weight)
    gate = isinstance(ctx.owner, LAYERS)
    if groups == 1:
        ctx.contract(x, c, weight, 1, gate=gate)
        out = weight.axes[0]
    else:
        inner = weight.axes[1].size
        group_in, position = ctx.labels.split(x.axes[c], (groups, inner), ctx.where)
        group_out, _ = ctx.labels.split(weight.axes[0], (groups, weight.axes[0].size // groups), ctx.where)
        _couple_groups(ctx, group_in, group_out, named=inner > 1)
        if inner > 1:
            ctx.meet(x, position, weight, weight.axes[1])
            read = ctx.labels.merge([fixed(groups), position])
            rows = x.axes[0].size if gate and weight.constant else None
            ctx.note_read(c - len(x.axes), read, rows, along=x.axes[c])
        else:
            ctx.labels.freeze(weight.axes[1], "a depthwise filter has one input channel")
        out = weight.axes[0]
    out = add_bias(ctx, out, bias)
    pointwise = all(axis.size == 1 for axis in weight.axes[2:]) and _all(stride, 1) and (isinstance(padding, str) or _all(padding, 0))
    positions = x.axes[c + 1 :] if pointwise else _fixed_positions(ctx, x, c)
    return Value((*x.axes[:c], out, *positions), x.constant and weight.constant)


def conv_transpose(
    ctx: Tracing,
    x: Value,
    weight: Value,
    bias: Value | None = None,
    stride: Any = 1,
    padding: Any = 0,
    output_padding: Any = 0,
    groups: int = 1,
    dilation: Any = 1,
) -> Value:
    """Transposed convolution; weight [in, out/groups, taps]."""
    c = _channel_axis(ctx, x, weight)
    ctx.contract(x, c, weight, 0, gate=isinstance(ctx.owner, LAYERS))
    out = weight.axes[1]
    produce(ctx, out)
    if groups > 1:
        group, _ = ctx.labels.split(weight.axes[0], (groups, weight.axes[0].size // groups), ctx.where)
        if group.tracked and isinstance(ctx.owner, LAYERS):
            ctx.count("groups", group)
        if group.tracked and weight.axes[0].size > groups:
            ctx.roles.append((group, "groups"))
        out = ctx.labels.merge([group, out])
    out = add_bias(ctx, out, bias)
    return Value((*x.axes[:c], out, *_fixed_positions(ctx, x, c)), x.constant and weight.constant)


def _channel_axis(ctx: Tracing, x: Value, weight: Value) -> int:
    """Where the channels of a convolution's input are; the kernel's taps are fixed."""
    for axis in weight.axes[2:]:
        ctx.labels.freeze(axis, "taps of a kernel")
    return len(x.axes) - len(weight.axes) + 1


def _fixed_positions(ctx: Tracing, x: Value, c: int) -> list[Axis]:
    """What follows the channels of a convolution's input must stay: its order counts."""
    for axis in x.axes[c + 1 :]:
        ctx.labels.freeze(axis, f"{ctx.where} runs along it")
    return [fixed(size) for size in ctx.shape()[c + 1 :]]


def _all(numbers: int | Iterable[int], value: int) -> bool:
    return all(number == value for number in ([numbers] if isinstance(numbers, int) else numbers))


def _couple_groups(ctx: Tracing, group_in: Axis, group_out: Axis, named: bool) -> None:
    ctx.labels.unify(group_in, group_out, ctx.where)
    if isinstance(ctx.owner, LAYERS):
        ctx.count("groups", group_out)
    if named:
        ctx.roles.append((group_out, "groups"))
