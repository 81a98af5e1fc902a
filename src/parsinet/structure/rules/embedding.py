"""Tables whose rows the input chooses."""

from __future__ import annotations

from typing import Any

from parsinet.structure.axes import fixed
from parsinet.structure.rules.emitting import produce
from parsinet.structure.tracing import Tracing, Value


def embedding(ctx: Tracing, weight: Value, indices: Value, *_: Any, **__: Any) -> Value:
    """Rows of a table chosen by the input."""
    ctx.labels.freeze(weight.axes[0], "rows of an embedding are chosen by the input")
    produce(ctx, weight.axes[1])
    return Value((*indices.axes, weight.axes[1]))


def embedding_bag(ctx: Tracing, weight: Value, indices: Value, *_: Any, **__: Any) -> list[Value | None]:
    """Sums or means of rows chosen by the input; the other results are bookkeeping."""
    bag = embedding(ctx, weight, indices)
    return [bag.with_axes((fixed(ctx.shape(0)[0]), bag.axes[-1])), None, None, None]
