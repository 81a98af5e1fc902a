"""What modules are called with and return while the network is exported, and from it what a stand-in has to answer."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd

from parsinet.structure.attributes import is_kind
from parsinet.structure.blocks_absent import Absent, Answer

Kind = tuple[tuple[int, ...], torch.dtype]
"""Shape and type of a tensor."""

WIDE: tuple[tuple[str, int], ...] = (("torch.nn.modules.linear.Linear", 0), ("transformers.pytorch_utils.Conv1D", 1))
"""Layers that give the last axis another size, and the dimension of their weight that says which."""

LAYERS = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)
NORMS = (nn.modules.batchnorm._BatchNorm, nn.modules.instancenorm._InstanceNorm, nn.GroupNorm, nn.LayerNorm, nn.RMSNorm)
ACTIVATIONS = (
    *(nn.CELU, nn.ELU, nn.GELU, nn.Hardshrink, nn.Hardsigmoid, nn.Hardswish, nn.Hardtanh, nn.LeakyReLU, nn.LogSigmoid, nn.Mish, nn.PReLU),
    *(nn.ReLU, nn.ReLU6, nn.RReLU, nn.SELU, nn.Sigmoid, nn.SiLU, nn.Softplus, nn.Softshrink, nn.Softsign, nn.Tanh, nn.Tanhshrink),
)
"""What a section is made of: a layer, and modules that return what they are given in its shape."""


@dataclass(frozen=True)
class Called:
    """One call: tensors by position or keyword, and per returned element its kind, None for None; nothing returned that is known: None."""

    arguments: Mapping[int | str, Kind]
    returned: tuple[Kind | None, ...] | None
    single: bool


@contextlib.contextmanager
def calls_noted(model: nn.Module) -> Iterator[dict[str, list[Called]]]:
    """Within the context every call of a module that has tensors of its own, or beneath it, is noted under its path."""
    found: dict[str, list[Called]] = {}
    with contextlib.ExitStack() as stack:
        for path, module in model.named_modules():
            if path and not isinstance(module, Absent) and any(True for _ in module.parameters()):
                stack.callback(module.register_forward_hook(_noting(found.setdefault(path, [])), with_kwargs=True).remove)
        yield found


def _noting(calls: list[Called]) -> Any:
    def note(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
        named: dict[int | str, Any] = dict(enumerate(args))
        named.update(kwargs)
        given = {name: value for name, value in named.items() if isinstance(value, Tensor)}
        calls.append(_called(given, output))

    return note


def _called(given: Mapping[int | str, Tensor], output: Any) -> Called:
    single = isinstance(output, Tensor)
    elements = (output,) if single else output
    arguments = {name: _kind(value) for name, value in given.items()}
    known = type(elements) is tuple and all(element is None or isinstance(element, Tensor) for element in elements)
    if not known or any(element is value for element in elements for value in given.values()):
        return Called(arguments, None, single)
    return Called(arguments, tuple(None if element is None else _kind(element) for element in elements), single)


def _kind(tensor: Tensor) -> Kind:
    return tuple(tensor.shape), tensor.dtype


def answer_of(module: nn.Module, calls: Sequence[Called]) -> Answer | None:
    """What a stand-in for the module answers; None where its shapes follow no rule that is known."""
    if not calls or isinstance(module, _ConvTransposeNd | nn.RNNBase):
        return None
    found = {_answer(module, call) for call in calls}
    return found.pop() if len(found) == 1 else None


def sized_by(module: nn.Module) -> tuple[tuple[str, int], ...]:
    """Tensors of the module, each with the dimension that is the size of its answer's axis; () where that has its argument's shape."""
    path, layer = _layer(module)
    if isinstance(layer, _ConvNd):
        return (f"{path}weight", 0), (f"{path}bias", 0)
    return next((((f"{path}weight", dim), (f"{path}bias", 0)) for kind, dim in WIDE if is_kind(layer, kind)), ())


def _layer(module: nn.Module) -> tuple[str, nn.Module]:
    """The module itself; of an nn.Sequential of one layer, norms and activations the layer, behind its path."""
    parts = dict(module.named_children()) if type(module) is nn.Sequential else {}
    layers = [name for name, part in parts.items() if not isinstance(part, NORMS + ACTIVATIONS)]
    return (f"{layers[0]}.", parts[layers[0]]) if len(layers) == 1 and type(parts[layers[0]]) in LAYERS else ("", module)


def _answer(module: nn.Module, call: Called) -> Answer | None:
    if call.returned is None:
        return None
    if sized_by(module):
        return _sized(module, call)
    if any(_moves(part) for part in module.modules()):
        return None
    entries = []
    for kind in call.returned:
        like = next((name for name, argument in call.arguments.items() if argument == kind), None)
        if kind is not None and like is None:
            return None
        entries.append(None if kind is None else like)
    return Answer(tuple(entries), call.single)


def _sized(module: nn.Module, call: Called) -> Answer | None:
    (name, (_, given)), *others = call.arguments.items()
    (made,) = call.returned or (None,)
    if others or made is None or made[1] != given:
        return None
    _, layer = _layer(module)
    if not isinstance(layer, _ConvNd):
        return Answer((name,), axis=-1, size=made[0][-1])
    axis = -1 - len(layer.kernel_size)
    return Answer((name,), axis=axis, size=made[0][axis], window=tuple(_window(layer, d) for d in range(len(layer.kernel_size))))


def _window(module: _ConvNd, d: int) -> tuple[int, int]:
    """n positions become ⌊(n + padding before and after − dilation·(kernel − 1) − 1)/stride⌋ + 1."""
    reach = module.dilation[d] * (module.kernel_size[d] - 1)
    named = {"same": reach, "valid": 0}
    padding = named[module.padding] if isinstance(module.padding, str) else 2 * int(module.padding[d])
    return padding - reach - 1, int(module.stride[d])


def _moves(part: nn.Module) -> bool:
    """Whether the number of positions may change in the module: equal sizes before and after would be coincidence."""
    stride = getattr(part, "stride", 1)
    steps = stride if isinstance(stride, tuple | list) else (stride,)
    return any(type(step) is int and step > 1 for step in steps)
