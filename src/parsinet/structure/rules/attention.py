"""Attention: which axes are heads, and which the dimensions of a head."""

from __future__ import annotations

from collections.abc import Iterable

from parsinet.structure.axes import Axis, fixed
from parsinet.structure.tracing import Tracing, Value


def attention(
    ctx: Tracing,
    query: Value,
    key: Value,
    value: Value,
    attn_mask: Value | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    *,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Value:
    """softmax(q kᵀ · scale) v over [..., heads, positions, dimension]; with `enable_gqa` query heads share a key head."""
    ctx.contract(query, len(query.axes) - 1, key, len(key.axes) - 1)
    ctx.roles.append((value.axes[-1], "v_dim"))
    if scale is None and query.axes[-1].tracked:
        ctx.inexact.append((query.axes[-1], f"the scale 1/√d of {ctx.where} changes with it"))
    batch = ctx.unify_shapes([key.with_axes(key.axes[:-2]), value.with_axes(value.axes[:-2])], _batch(key))
    heads = batch.axes[-1] if batch.axes else fixed(1)
    if enable_gqa and query.axes[-3].size != heads.size:
        shared, each = ctx.labels.split(query.axes[-3], (heads.size, query.axes[-3].size // heads.size), ctx.where)
        ctx.labels.unify(shared, heads, ctx.where)
        ctx.roles.append((each, "queries"))
        batch = batch.with_axes((*batch.axes[:-1], query.axes[-3]))
    batch = ctx.unify_shapes([query.with_axes(query.axes[:-2]), batch], ctx.shape()[:-2])
    if attn_mask is not None:
        ctx.unify_shapes([attn_mask.with_axes(attn_mask.axes[:-2]), batch], ctx.shape()[:-2])
    ctx.labels.unify(key.axes[-2], value.axes[-2], ctx.where)
    name_attention(ctx, query.axes[-1], "qk_dim", [] if enable_gqa else batch.axes)
    if enable_gqa:
        ctx.roles.append((heads, "heads"))
    return Value((*batch.axes, query.axes[-2], value.axes[-1]))


def name_attention(ctx: Tracing, axis: Axis, role: str, batch: Iterable[Axis]) -> None:
    """Two activations meet: tracked batch axes are heads (of a single one only the place is left), `axis` is a head's dimension.

    Without heads `axis` is what its producer made: the output of a similarity's tower.
    """
    batch = list(batch)
    heads = [entry for entry in batch if entry.tracked]
    if heads or len(batch) > 1 or (axis.tracked and (axis.rows >= ctx.seeded).any()):
        ctx.roles.append((axis, role))
    ctx.roles.extend((entry, "heads") for entry in heads)


def _batch(value: Value) -> tuple[int, ...]:
    return tuple(axis.size for axis in value.axes[:-2])
