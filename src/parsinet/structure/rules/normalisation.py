"""Normalisation layers and softmax."""

from __future__ import annotations

from typing import Any

import numpy as np
from torch import nn
from torch.nn.modules.batchnorm import _NormBase

from parsinet.structure.axes import Axis, fixed, labelled
from parsinet.structure.counting import count, sizes_of
from parsinet.structure.tracing import Norm, Tracing, Value


def batch_norm(ctx: Tracing, x: Value, weight: Value | None, bias: Value | None, mean: Value | None, var: Value | None, *_: Any) -> Value:
    """Per-channel affine map with stored statistics; every channel for itself."""
    return _per_channel(ctx, x, [weight, bias, mean, var])


def batch_norm_evaluated(ctx: Tracing, x: Value, *tensors: Any) -> list[Value | None]:
    """Batch norm as the functional form of a graph has it: the result and two empty tensors."""
    return [_per_channel(ctx, x, list(tensors[:4])), None, None]


def batch_norm_trained(ctx: Tracing, x: Value, *tensors: Any) -> list[Value | None]:
    """Batch norm in training, in the functional form: the result, the batch's statistics and the new running ones, which nobody reads."""
    return [_per_channel(ctx, x, list(tensors[:4])), None, None, None, None]


def instance_norm(
    ctx: Tracing, x: Value, weight: Value | None, bias: Value | None, mean: Value | None, var: Value | None, *_: Any
) -> Value:
    """Statistics over the positions of one channel; every channel for itself."""
    return _per_channel(ctx, x, [weight, bias, mean, var])


def layer_norm(ctx: Tracing, x: Value, shape: list[int], weight: Value | None = None, bias: Value | None = None, *_: Any) -> Value:
    """Statistics over the last axes: removing a unit changes them, so removal is not exact."""
    return _over_last_axes(ctx, x, shape, [weight, bias], nn.LayerNorm)


def rms_norm(ctx: Tracing, x: Value, shape: list[int], weight: Value | None = None, eps: float | None = None) -> Value:
    """Root mean square over the last axes; not exact, as in layer_norm."""
    return _over_last_axes(ctx, x, shape, [weight], nn.RMSNorm)


def group_norm(ctx: Tracing, x: Value, groups: int, weight: Value | None = None, bias: Value | None = None, *_: Any) -> Value:
    """Statistics over each group of channels: a group stays whole or leaves whole; a single group is a layer norm."""
    axis = x.axes[1]
    if groups == 1:
        if axis.tracked:
            ctx.inexact.append((axis, f"{ctx.where} normalises over it"))
    else:
        width = axis.size // groups
        grid = ctx.labels.resolve(axis).reshape(-1, groups, width)
        for column in range(1, width):
            ctx.labels.unify(labelled(grid[:, :, 0]), labelled(grid[:, :, column]), ctx.where)
        first = labelled(grid[:, :, 0]) if len(grid) else Axis(groups)
        if isinstance(ctx.owner, nn.GroupNorm):
            ctx.count("num_groups", first)
        elif not any(count(ctx, number, first) for number in sizes_of(ctx)[:1]):
            ctx.labels.freeze(axis, f"{ctx.where} has its number of groups written in the code")
    return _per_channel(ctx, x, [weight, bias])


def softmax(ctx: Tracing, x: Value, dim: int, *_: Any, **__: Any) -> Value:
    """Couples all entries along `dim`: without one, the others change."""
    ctx.run_over(x.axes[dim])
    return x.with_axes(x.axes)


def _per_channel(ctx: Tracing, x: Value, tensors: list[Value | None]) -> Value:
    axis = x.axes[1]
    attribute = "num_features" if isinstance(ctx.owner, _NormBase) else "num_channels" if isinstance(ctx.owner, nn.GroupNorm) else ""
    if attribute and not any(tensors):
        _count_bare(ctx, attribute, axis)
    for tensor in tensors:
        if tensor is not None:
            axis = ctx.labels.unify(axis, tensor.axes[0], ctx.where)
    return x.with_axes((x.axes[0], axis, *x.axes[2:]))


def _count_bare(ctx: Tracing, attribute: str, axis: Axis) -> None:
    """The number of channels of a norm without tensors, which several layers may share without being tied: then it stays."""
    place = (ctx.module, attribute)
    known = ctx.counts.setdefault(place, axis)
    if not np.array_equal(ctx.labels.resolve(known), ctx.labels.resolve(axis)):
        ctx.counts[place] = fixed(axis.size)


def _over_last_axes(ctx: Tracing, x: Value, shape: list[int], tensors: list[Value | None], kind: type[nn.Module]) -> Value:
    axes = list(x.axes)
    for k in range(len(shape)):
        d = len(axes) - len(shape) + k
        for tensor in tensors:
            if tensor is not None:
                axes[d] = ctx.labels.unify(axes[d], tensor.axes[k], ctx.where)
        if not axes[d].tracked:
            continue
        ctx.inexact.append((axes[d], f"{ctx.where} normalises over it"))
        if isinstance(ctx.owner, kind):
            ctx.count(f"normalized_shape[{k}]", axes[d])
        elif given := sizes_of(ctx):  # else it is read off a weight or written in the code: the trials of removals tell
            count(ctx, given[k], axes[d])
    return x.with_axes(axes)


def unit_rows(ctx: Tracing, v: Value, g: Value, order: float, dim: int) -> Value:
    """The same as `weight_norm` with a norm of any order (directions of spectral layers)."""
    return weight_norm(ctx, v, g, dim, order)


def weight_norm(ctx: Tracing, v: Value, g: Value, dim: int = 0, order: float = 2.0) -> Value:
    """w = g · v/‖v‖ with the norm over all axes but `dim`: where entries of v leave, g follows so that the rest of w stays."""
    ctx.labels.unify(v.axes[dim], g.axes[dim], ctx.where)
    if v.name and g.name:
        ctx.norms.append(Norm(g.name, v.name, dim % len(v.axes), order))
    else:
        for d in set(range(len(v.axes))) - {dim % len(v.axes)}:
            ctx.run_over(v.axes[d])
    return Value(v.axes, v.constant and g.constant)
