"""What a layer emits: whose units the axis of a result is, with the bias that goes along."""

from __future__ import annotations

from torch import nn

from parsinet.structure.attributes import NAMED_RULES, is_kind
from parsinet.structure.axes import Axis
from parsinet.structure.tracing import Tracing, Value

LAYERS = (
    nn.Linear,
    nn.Bilinear,
    nn.Conv1d,
    nn.Conv2d,
    nn.Conv3d,
    nn.ConvTranspose1d,
    nn.ConvTranspose2d,
    nn.ConvTranspose3d,
    nn.Embedding,
    nn.EmbeddingBag,
)


def add_bias(ctx: Tracing, out: Axis, bias: Value | None) -> Axis:
    produce(ctx, out)
    return out if bias is None else ctx.labels.unify(out, bias.axes[0], ctx.where)


def produce(ctx: Tracing, axis: Axis) -> None:
    ctx.produce(axis, ctx.module if in_layer(ctx) else "")


def in_layer(ctx: Tracing) -> bool:
    """Whether the running module is a layer: its input feeds one contraction with its weight."""
    owner = ctx.owner
    return isinstance(owner, LAYERS) or (owner is not None and any(is_kind(owner, kind) for kind in NAMED_RULES))
