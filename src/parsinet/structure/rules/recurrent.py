"""Recurrent layers and cells: LSTM, GRU, Elman RNN.

Hidden unit h owns row h of every gate block, column h of the recurrent weights, and what the next layer reads of it. A
torch module keeps one hidden size for all its layers and directions, so unit h of every layer and direction leaves together.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from torch import nn

from parsinet.structure.axes import Axis, concatenate, labelled
from parsinet.structure.tracing import Tracing, Value

RECURRENT = (nn.RNNBase, nn.RNNCellBase)


def lstm(
    ctx: Tracing,
    x: Value,
    state: list[Value],
    weights: list[Value],
    has_biases: bool,
    num_layers: int,
    dropout: float,
    train: bool,
    bidirectional: bool,
    batch_first: bool,
) -> list[Value]:
    hidden, out = _layers(ctx, x, weights, 4, has_biases, num_layers, bidirectional)
    ctx.labels.unify(state[0].axes[-1], out, ctx.where)
    ctx.labels.unify(state[1].axes[-1], hidden, ctx.where)
    return [_sequence(x, out, bidirectional), _state(ctx, 1, out), _state(ctx, 2, hidden)]


def gru(ctx: Tracing, x: Value, state: Value, weights: list[Value], *options: Any) -> list[Value]:
    return _one_state(ctx, x, state, weights, 3, *options)


def rnn(ctx: Tracing, x: Value, state: Value, weights: list[Value], *options: Any) -> list[Value]:
    return _one_state(ctx, x, state, weights, 1, *options)


def _one_state(
    ctx: Tracing,
    x: Value,
    state: Value,
    weights: list[Value],
    blocks: int,
    has_biases: bool,
    num_layers: int,
    dropout: float,
    train: bool,
    bidirectional: bool,
    batch_first: bool,
) -> list[Value]:
    hidden, _ = _layers(ctx, x, weights, blocks, has_biases, num_layers, bidirectional)
    ctx.labels.unify(state.axes[-1], hidden, ctx.where)
    return [_sequence(x, hidden, bidirectional), _state(ctx, 1, hidden)]


def lstm_cell(ctx: Tracing, x: Value, state: list[Value], *weights: Value) -> list[Value]:
    hidden = _cell(ctx, x, list(weights), 4)
    for value in state:
        ctx.labels.unify(value.axes[-1], hidden, ctx.where)
    result = x.with_axes((*x.axes[:-1], hidden))
    return [result, result]


def gru_cell(ctx: Tracing, x: Value, state: Value, *weights: Value) -> Value:
    return _cell_result(ctx, x, state, _cell(ctx, x, list(weights), 3))


def rnn_cell(ctx: Tracing, x: Value, state: Value, *weights: Value) -> Value:
    return _cell_result(ctx, x, state, _cell(ctx, x, list(weights), 1))


def _cell_result(ctx: Tracing, x: Value, state: Value, hidden: Axis) -> Value:
    ctx.labels.unify(state.axes[-1], hidden, ctx.where)
    return x.with_axes((*x.axes[:-1], hidden))


def _layers(
    ctx: Tracing, x: Value, weights: list[Value], blocks: int, has_biases: bool, num_layers: int, bidirectional: bool
) -> tuple[Axis, Axis]:
    """Walk layers and directions; returns the axes of the cell state and of the emitted state (they differ with projections)."""
    directions = 2 if bidirectional else 1
    per_cell = len(weights) // (num_layers * directions)
    projected = per_cell - (4 if has_biases else 2) == 1
    hidden = out = None
    reading = x
    for layer in range(num_layers):
        emitted: list[Axis] = []
        for direction in range(directions):
            start = (layer * directions + direction) * per_cell
            parts = weights[start : start + per_cell]
            projection = parts.pop() if projected else None
            cell = _cell(ctx, reading, parts, blocks, projection)
            result = cell if projection is None else projection.axes[0]
            hidden = cell if hidden is None else ctx.labels.unify(hidden, cell, f"`hidden_size` of {ctx.module}")
            out = result if out is None else ctx.labels.unify(out, result, f"`hidden_size` of {ctx.module}")
            emitted.append(result)
        reading = Value((*x.axes[:-1], concatenate(emitted)))
    assert hidden is not None
    assert out is not None
    return hidden, out


def _cell(ctx: Tracing, x: Value, weights: list[Value], blocks: int, projection: Value | None = None) -> Axis:
    """One cell: returns the axis of its hidden state."""
    w_input, w_hidden = weights[0], weights[1]
    size = w_input.axes[0].size // blocks
    rows = w_input.axes[0].rows[:1, :size]
    hidden = labelled(rows)
    tiled = labelled(np.tile(rows, blocks))
    for tensor in weights:
        ctx.labels.unify(tiled, tensor.axes[0], ctx.where)
    ctx.contract(x, len(x.axes) - 1, w_input, 1)
    out = hidden
    if projection is not None:
        ctx.meet(x, hidden, projection, projection.axes[1])
        ctx.note_read(-1, hidden, rows=None)
        out = projection.axes[0]
        ctx.produce(out, f"{ctx.module}.projection")
    ctx.meet(x, out, w_hidden, w_hidden.axes[1])
    ctx.note_read(-1, out, rows=None)
    ctx.produce(hidden, ctx.module if isinstance(ctx.owner, RECURRENT) else "")
    return hidden


def _sequence(x: Value, out: Axis, bidirectional: bool) -> Value:
    return Value((*x.axes[:-1], concatenate([out, out]) if bidirectional else out))


def _state(ctx: Tracing, index: int, axis: Axis) -> Value:
    return Value((*ctx.unknown(ctx.shape(index)[:-1]).axes, axis))
