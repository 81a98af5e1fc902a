"""Multiply-adds of every operator as a product of the axes it runs over, so that a count follows the widths."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch

from parsinet.structure.axes import Axis
from parsinet.structure.letters import terms_of
from parsinet.structure.tracing import Tracing, Value

Loops = list[tuple[Axis, ...]]
"""What an operator runs over: Σ over entries of Π of the axes' sizes is its number of multiply-adds."""


def note_work(tracing: Tracing, target: Any, args: Any, kwargs: Mapping[str, Any], result: Any) -> None:
    """Keep what the operator runs over; operators that multiply no matrices count as nothing, as in `parsinet.measure.macs`."""
    loops = LOOPS.get(target.overloadpacket.__name__) if isinstance(target, torch._ops.OpOverload) else None
    if loops is not None:
        tracing.work.extend((tracing.module, axes) for axes in loops(result, *args, **kwargs))


def _linear(_: Value, x: Value, weight: Value, *__: Any, **___: Any) -> Loops:
    return [(*x.axes, weight.axes[0])]


def _product(result: Value, left: Value, *_: Any, **__: Any) -> Loops:
    return [(*result.axes, left.axes[-1])]


def _added_product(result: Value, _: Value, left: Value, *__: Any, **___: Any) -> Loops:
    return _product(result, left)


def _bilinear(result: Value, first: Value, second: Value, *_: Any, **__: Any) -> Loops:
    return [(*result.axes, first.axes[-1], second.axes[-1])]


def _convolution(result: Value, _: Value, weight: Value, *__: Any, **___: Any) -> Loops:
    return [(*result.axes, *weight.axes[1:])]


def _transposed(_: Value, x: Value, weight: Value, *__: Any, **___: Any) -> Loops:
    return [(*x.axes, *weight.axes[1:])]


def _attention(_: Value, query: Value, key: Value, value: Value, *__: Any, **___: Any) -> Loops:
    return [(*query.axes, key.axes[-2]), (*query.axes[:-1], key.axes[-2], value.axes[-1])]


def _recurrent(_: Any, x: Value, __: Any, weights: list[Value], *___: Any, **____: Any) -> Loops:
    return [(*x.axes[:-1], *weight.axes) for weight in weights if len(weight.axes) == 2]


def _cell(result: Any, x: Value, state: Any, *weights: Any, **_: Any) -> Loops:
    return _recurrent(result, x, state, [weight for weight in weights if isinstance(weight, Value)])


def _einsum(_: Value, equation: str, operands: list[Value], *__: Any, **___: Any) -> Loops:
    """Operands are taken in from left to right, each by a product over all letters of both; without a letter to sum nothing is counted."""
    letters, result = terms_of(equation, [len(operand.axes) for operand in operands])
    terms = [dict(zip(term, operand.axes, strict=True)) for term, operand in zip(letters, operands, strict=True)]
    loops, held = [], terms[0]
    for number, term in enumerate(terms[1:], start=1):
        needed = set(result).union(*terms[number + 1 :])
        if set(held) & set(term) - needed:
            loops.append(tuple({**held, **term}.values()))
        held = {letter: axis for letter, axis in {**held, **term}.items() if letter in needed}
    return loops


LOOPS: Mapping[str, Callable[..., Loops]] = {
    **dict.fromkeys(("matmul", "mm", "bmm", "mv", "dot", "vdot", "grouped_mm", "_grouped_mm", "grouped_mm_fallback"), _product),
    **dict.fromkeys(("addmm", "baddbmm", "addmv"), _added_product),
    **dict.fromkeys(("conv1d", "conv2d", "conv3d"), _convolution),
    **dict.fromkeys(("conv_transpose1d", "conv_transpose2d", "conv_transpose3d"), _transposed),
    **dict.fromkeys(("lstm", "gru", "rnn_tanh", "rnn_relu"), _recurrent),
    **dict.fromkeys(("lstm_cell", "gru_cell", "rnn_tanh_cell", "rnn_relu_cell"), _cell),
    "linear": _linear,
    "bilinear": _bilinear,
    "scaled_dot_product_attention": _attention,
    "einsum": _einsum,
}
"""Operator → what it runs over; the same operators as `parsinet.measure.macs` counts."""
