"""Operators on whole matrices, the last two axes: inverses, factorisations, distances of their rows."""

from __future__ import annotations

from typing import Any

from parsinet.structure.rules.emitting import produce
from parsinet.structure.tracing import Tracing, Value


def of_matrices(ctx: Tracing, *args: Any, **_: Any) -> Any:
    """Inverse, solution, factorisation, exponential, determinant: entries depend on the whole matrix; axes before the matrices pass."""
    assert ctx.node is not None
    why = f"{ctx.where} depends on the whole matrix"
    values = [arg for arg in args if isinstance(arg, Value)]
    batch = len(values[0].axes) - 2
    for value in values:
        for axis in value.axes[batch:]:
            ctx.labels.freeze(axis, why)
    found = ctx.node.meta["val"]
    shapes = [part.shape for part in (found if isinstance(found, tuple | list) else [found])]
    lead = ctx.unify_shapes([value.with_axes(value.axes[:batch]) for value in values], tuple(shapes[0][:batch]))
    results = [lead.with_axes([*lead.axes, *ctx.unknown(tuple(shape[batch:]), why=why).axes]) for shape in shapes]
    return results if isinstance(found, tuple | list) else results[0]


def cdist(ctx: Tracing, left: Value, right: Value, *_: Any) -> Value:
    """Distances of rows: ‖left[.., i, :] − right[.., j, :]‖, over units that may leave, but not exactly."""
    ctx.run_over(ctx.labels.unify(left.axes[-1], right.axes[-1], ctx.where))
    batch = ctx.unify_shapes([value.with_axes(value.axes[:-2]) for value in (left, right)], ctx.shape()[:-2])
    for value in (left, right):
        if value.constant:
            produce(ctx, value.axes[-2])
    return batch.with_axes([*batch.axes, left.axes[-2], right.axes[-2]])
