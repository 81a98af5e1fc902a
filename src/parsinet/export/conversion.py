"""Which linear layers are faster without their zeros is measured here, on this machine and batch; only those are converted."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from parsinet.draws import kept
from parsinet.errors import UsageError
from parsinet.export.csr_layer import DTYPES, CSRLinear
from parsinet.export.numbers import wide
from parsinet.measure import ExampleInputs, Latency, compare_latency
from parsinet.measure.examples import arguments, call, evaluating, tensors

Timer = Callable[[Mapping[str, nn.Module], ExampleInputs], Mapping[str, Latency]]
LEAST_ZEROS = 0.5
"""Below this share of zeros a layer is not even timed."""


@dataclass(frozen=True)
class LayerChoice:
    """One linear layer: its share of zeros, seconds dense and in CSR (None: not timed), whether it was converted, and why or why not."""

    name: str
    zeros: float
    dense: float | None
    csr: float | None
    converted: bool
    reason: str


@dataclass(frozen=True)
class Conversion:
    """A copy of the model with CSR layers where they won; seconds per batch before and after, and a choice per linear layer."""

    model: nn.Module
    layers: tuple[LayerChoice, ...]
    dense: float | None
    csr: float | None

    def __str__(self) -> str:
        lines = [f"{layer.name}: {'CSR' if layer.converted else 'dense'}, {layer.reason}" for layer in self.layers]
        if self.dense is not None and self.csr is not None:
            lines.append(f"whole model: {1e6 * self.dense:.0f} µs dense, {1e6 * self.csr:.0f} µs with CSR layers")
        return "\n".join(lines) or "no linear layer"


def to_csr(model: nn.Module, example_inputs: ExampleInputs, *, margin: float = 1.1, timer: Timer = compare_latency) -> Conversion:
    """Convert a copy of the model, layer by layer, where CSR is at least `margin` times as fast; in the end all of it or nothing.

    Every `nn.Linear` with half its weights 0 or more is timed against its CSR twin on the input it gets from the example inputs, in turn.
    The whole converted model is then compared with the dense one: if it is not faster, or does not give the same output, nothing is
    converted. The batch of the example inputs matters: small layers never gain with one example, and with 64 from about 90 % zeros on,
    large ones sooner. Convert after units have been removed. The model itself is left alone.

    timer: what times models against each other, `measure.compare_latency` if not given. Raises UsageError for margin < 1 or a model that
    does not run on the inputs.
    """
    if not margin >= 1:
        raise UsageError(f"to_csr: margin must be ≥ 1, got {margin}.")
    call("to_csr", model, example_inputs)
    inputs = _inputs(model, example_inputs)
    lean = copy.deepcopy(model)
    layers = tuple(_choose(lean, name, inputs.get(name), margin, timer) for name in _linears(model))
    if not any(layer.converted for layer in layers):
        return Conversion(copy.deepcopy(model), layers, None, None)
    reason = _difference(model, lean, example_inputs)
    if reason:
        return Conversion(copy.deepcopy(model), _refused(layers, reason), None, None)
    times = timer({"dense": model, "csr": lean}, example_inputs)
    dense, csr = times["dense"].median, times["csr"].median
    if csr >= dense:
        return Conversion(copy.deepcopy(model), _refused(layers, "the whole model is not faster with it"), dense, csr)
    return Conversion(lean, layers, dense, csr)


def to_dense(model: nn.Module) -> nn.Module:
    """Replace every CSR layer by an `nn.Linear` of the same function, in place; returns the model, or the layer if it is one itself."""
    if isinstance(model, CSRLinear):
        return model.to_linear()
    for name, module in list(model.named_modules()):
        if isinstance(module, CSRLinear):
            model.set_submodule(name, module.to_linear())
    return model


def restore(model: nn.Module, state: Mapping[str, Tensor]) -> nn.Module:
    """Load the state_dict of a converted model into a dense one, whose linear layers become CSR where the state says so, in place.

    Raises UsageError where the state names a layer that is no `nn.Linear` of the model.
    """
    modules = dict(model.named_modules())
    names = sorted(key.removesuffix(".crow_indices") for key in state if key.endswith(".crow_indices"))
    for name in names:
        if not isinstance(modules.get(name), nn.Linear | CSRLinear):
            raise UsageError(f"restore: the state has a CSR layer {name!r}, but the model has no nn.Linear there.")
    for name in names:
        layer = modules[name]
        if isinstance(layer, nn.Linear):
            empty = CSRLinear(layer.in_features, layer.out_features, layer.bias is not None, layer.weight.dtype)
            model.set_submodule(name, empty.to(layer.weight.device).train(layer.training))
    model.load_state_dict(state)
    return model


def _linears(model: nn.Module) -> list[str]:
    """Names of the plain linear layers inside the model."""
    return [name for name, module in model.named_modules() if type(module) is nn.Linear and name]


def _inputs(model: nn.Module, example_inputs: ExampleInputs) -> dict[str, Tensor]:
    """What every linear layer gets at its first call."""
    found: dict[str, Tensor] = {}

    def keep(name: str) -> Callable[[nn.Module, tuple[Any, ...]], None]:
        return lambda _, args: None if name in found or not args else found.update({name: args[0].detach().clone()})

    hooks = [model.get_submodule(name).register_forward_pre_hook(keep(name)) for name in _linears(model)]
    try:
        with evaluating(model):
            call("to_csr", model, example_inputs)
    finally:
        for hook in hooks:
            hook.remove()
    return found


def _choose(lean: nn.Module, name: str, x: Tensor | None, margin: float, timer: Timer) -> LayerChoice:
    """Time one layer of `lean` in both forms and put the CSR one in its place if it wins."""
    layer = lean.get_submodule(name)
    assert isinstance(layer, nn.Linear)
    zeros = 1 - int(layer.weight.detach().count_nonzero()) / max(layer.weight.numel(), 1)
    share = f"{100 * zeros:.1f} % zeros"
    reason = ""
    if zeros < LEAST_ZEROS:
        reason = f"only {share}"
    elif x is None or x.numel() == 0:
        reason = "the example inputs do not reach it"
    elif layer.weight.dtype not in DTYPES or layer.weight.device.type != "cpu":
        reason = f"{layer.weight.dtype} on {layer.weight.device.type} is not supported"
    if reason or x is None:
        return LayerChoice(name, zeros, None, None, False, reason)
    sparse = CSRLinear.from_linear(layer)
    times = timer({"dense": layer, "csr": sparse}, x)
    dense, csr = times["dense"].median, times["csr"].median
    wins = dense >= margin * csr
    if wins:
        lean.set_submodule(name, sparse)
    reason = f"{share}: {1e6 * dense:.1f} µs dense, {1e6 * csr:.1f} µs CSR" + ("" if wins else f", less than {margin:g} times as fast")
    return LayerChoice(name, zeros, dense, csr, wins, reason)


def _difference(model: nn.Module, lean: nn.Module, example_inputs: ExampleInputs) -> str:
    """Why the converted model cannot stand for the dense one; "" if it can."""
    args, kwargs = arguments(example_inputs)
    with evaluating(model, lean), torch.no_grad():
        try:
            outputs = [_output(each, args, kwargs) for each in (model, lean)]
        except Exception as error:
            return f"the model does not run with it: {type(error).__name__}: {error}"
    for one, other in zip(*outputs, strict=True):
        atol = 1e-5 * float(wide(one).abs().max() if one.numel() else 0)
        if not torch.allclose(wide(one), wide(other), rtol=1e-4, atol=atol, equal_nan=True):
            return "the output of the whole model differs"
    return ""


def _output(model: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> list[Tensor]:
    """What it returns; what it draws, it draws from where the next one does."""
    with kept():
        return tensors((model(*args, **kwargs),))


def _refused(layers: tuple[LayerChoice, ...], reason: str) -> tuple[LayerChoice, ...]:
    """The choices with every conversion taken back."""
    return tuple(
        LayerChoice(layer.name, layer.zeros, layer.dense, layer.csr, False, f"{layer.reason}, but {reason}") if layer.converted else layer
        for layer in layers
    )
