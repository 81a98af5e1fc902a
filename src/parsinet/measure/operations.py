"""Multiply-adds of one forward pass, counted at the operators that are really executed."""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from math import prod
from typing import Any

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from parsinet.measure.examples import ExampleInputs, batch_size, call, evaluating
from parsinet.switches import no_fused_attention

Shape = Sequence[int]


def macs(model: nn.Module, example_inputs: ExampleInputs) -> int:
    """Multiply-adds of the forward pass per example, in evaluation mode.

    `FLOPs / (2 · batch)`, rounded, where `torch.utils.flop_counter` counts two FLOPs per multiply-add of every matrix product and
    convolution; fused recurrent layers and CPU attention, which it counts as nothing, are added here:

    - recurrent layer, per step: the entries of its weight matrices, an LSTM layer `4H·I + 4H·H` (G gates: `G·H·I + G·H·H`), summed over
      layers and directions, plus the projections;
    - attention: `heads · queries · keys · (d_qk + d_v)`; a causal mask saves nothing here, as it does not in most kernels.

    Zeros inside a weight are multiplied like any other value. Biases, norms, activations, pooling and look-ups count as nothing.
    What is computed once per forward pass, such as weights that a parametrization composes, is divided among the batch's examples.
    The batch is the first dimension of the first tensor. The model is left as found.
    Raises UsageError if the model cannot run on the inputs, ArgumentTypeError for inputs of another kind.
    """
    batch = batch_size(example_inputs)
    counter = FlopCounterMode(display=False, custom_mapping=dict(_formulas()))
    with evaluating(model), no_fused_attention(), _frozen(model), counter:
        call("macs", model, example_inputs)
    return round(counter.get_total_flops() / (2 * batch))


@contextlib.contextmanager
def _frozen(model: nn.Module) -> Iterator[None]:
    """The counter hangs hooks on the gradients of what modules are given; a parameter given to one has none without a graph."""
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    try:
        for parameter in trained:
            parameter.requires_grad_(False)
        yield
    finally:
        for parameter in trained:
            parameter.requires_grad_(True)


def attention_flops(query: Shape, key: Shape, value: Shape, *_: Any, **__: Any) -> int:
    """`2 · batch · heads · queries · keys · (d_qk + d_v)` for shapes [batch, heads, length, d]."""
    return 2 * prod(query[:-1]) * key[-2] * (query[-1] + value[-1])


def one_lstm_layer_flops(inputs: Shape, input_weight: Shape, hidden_weight: Shape, *_: Any, **__: Any) -> int:
    """One layer in one direction: 2 · steps · batch · (entries of both weight matrices); inputs [steps, batch, features]."""
    return recurrent_flops(inputs, [input_weight, hidden_weight])


def recurrent_flops(inputs: Shape, weights: Sequence[Shape], *_: Any, **__: Any) -> int:
    """All layers and directions at once: 2 · steps · batch · (entries of all weight matrices, projections too)."""
    return 2 * prod(inputs[:-1]) * sum(prod(weight) for weight in weights if len(weight) == 2)


def vector_flops(matrix: Shape, *_: Any, **__: Any) -> int:
    """Matrix [n, m] times vector [m], or vector [n] times vector [n]: 2 · entries of the first."""
    return 2 * prod(matrix)


def added_vector_flops(_start: Shape, matrix: Shape, *_: Any, **__: Any) -> int:
    """`start + matrix · vector`: 2 · entries of the matrix."""
    return 2 * prod(matrix)


def bilinear_flops(first: Shape, weight: Shape, *_: Any, **__: Any) -> int:
    """Rows [b, i] through a weight [o, i, j] to rows [b, j]: 2 · b · entries of the weight."""
    return 2 * prod(first[:-1]) * prod(weight)


def summed_products_flops(_start: Shape, left: Shape, right: Shape, *_: Any, **__: Any) -> int:
    """`start + Σ_b left[b] · right[b]` for [b, n, m] and [b, m, p]: 2 · b · n · m · p."""
    return 2 * prod(left) * right[-1]


def grouped_flops(rows: Shape, matrices: Shape, *_: Any, **__: Any) -> int:
    """Rows [s, i], each times one of the matrices [groups, i, o]: 2 · s · i · o."""
    return 2 * prod(rows) * matrices[-1]


def _formulas() -> Iterator[tuple[Any, Callable[..., int]]]:
    """Operators that the counter of torch has no formula for."""
    aten = torch.ops.aten
    yield aten._scaled_dot_product_flash_attention_for_cpu, attention_flops
    yield aten.mkldnn_rnn_layer, one_lstm_layer_flops
    yield aten._cudnn_rnn, recurrent_flops
    yield aten.mv, vector_flops
    yield aten.dot, vector_flops
    yield aten.vdot, vector_flops
    yield aten.addmv, added_vector_flops
    yield aten._trilinear, bilinear_flops
    yield aten.addbmm, summed_products_flops
    yield aten._grouped_mm, grouped_flops
    if hasattr(torch.ops.transformers, "grouped_mm_fallback"):
        yield torch.ops.transformers.grouped_mm_fallback, grouped_flops
