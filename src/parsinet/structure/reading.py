"""What a module reads of units and what it makes of it: inputs observed on the run, and the response of a linear map to a constant."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd

from parsinet.structure.plan import Plan, Reading
from parsinet.structure.removal import tensors_of
from parsinet.structure.selecting import columns_of, features

Arguments = tuple[tuple[Any, ...], dict[str, Any]]


@dataclass
class Seen:
    """Leaving units' values in a module's input, summed up over calls, examples and positions: one entry per index."""

    reading: Reading
    slices: tuple[str, int] | None = None
    """Of a reading that is guessed: the tensor and the dimension that read the units, presumably from the module's input."""
    arguments: Arguments = ((), {})
    """What the module was called with last."""
    count: int = 0
    total: Tensor | float = 0.0
    low: Tensor | float = math.inf
    high: Tensor | float = -math.inf

    def take(self, x: Tensor) -> None:
        """Add one input."""
        chosen = x.detach().index_select(self.reading.axis, torch.tensor(self.reading.indices, device=x.device))
        rows = chosen.movedim(self.reading.axis, -1).flatten(0, -2) if x.dim() > 1 else chosen[None]
        self.count += len(rows)
        self.total = self.total + rows.sum(0)
        self.low = rows.amin(0).clamp(max=torch.as_tensor(self.low))
        self.high = rows.amax(0).clamp(min=torch.as_tensor(self.high))

    @property
    def mean(self) -> Tensor:
        """What was read on average, [indices]."""
        return torch.as_tensor(self.total) / self.count

    def constant(self, tolerance: float) -> bool:
        """Whether every index always had the same value, up to rounding."""
        low, high = torch.as_tensor(self.low), torch.as_tensor(self.high)
        return bool(((high - low) <= tolerance * high.abs().clamp(min=1.0)).all())


def places(model: nn.Module, plan: Plan) -> list[Seen]:
    """Where modules read leaving units, nothing seen yet.

    The trace knows the inputs of torch's layers. Elsewhere a guess is made: a weight whose slices silence the units belongs to a
    module that reads them along the last axis of its input, before the axes of the weight's taps.
    """
    known, tensors = {entry.module for entry in plan.reads}, tensors_of(model)
    found = [Seen(entry) for entry in plan.reads]
    for (name, dim), indices in plan.silent.items():
        module = name.rpartition(".")[0]
        if module not in known and "parametrizations" not in module.split("."):
            found.append(Seen(Reading(module, min(-1, 1 - tensors[name].dim()), indices), (name, dim)))
    return found


@contextlib.contextmanager
def observed(model: nn.Module, seen: Sequence[Seen]) -> Iterator[None]:
    """Within the context every run of the model adds to what is seen of the readings."""
    tensors = tensors_of(model)

    def taker(entry: Seen) -> Any:
        size = None if entry.slices is None else tensors[entry.slices[0]].shape[entry.slices[1]]

        def take(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            x = read_input(args, kwargs)
            if x is not None and (size is None or (x.dim() >= -entry.reading.axis and x.shape[entry.reading.axis] == size)):
                entry.arguments = (args, kwargs)
                entry.take(x)

        return take

    with _hooks(model, seen, taker):
        yield


@contextlib.contextmanager
def replaced(model: nn.Module, seen: Sequence[Seen]) -> Iterator[None]:
    """Within the context the modules read, in place of the units, what was read of them on average."""

    def giver(entry: Seen) -> Any:
        return lambda _module, args, kwargs: with_values((args, kwargs), entry.reading, entry.mean)

    with _hooks(model, seen, giver):
        yield


@contextlib.contextmanager
def _hooks(model: nn.Module, seen: Sequence[Seen], hook: Any) -> Iterator[None]:
    handles = [model.get_submodule(entry.reading.module).register_forward_pre_hook(hook(entry), with_kwargs=True) for entry in seen]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def read_input(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor | None:
    """The tensor a module reads: its first argument, or the only tensor among its keyword arguments."""
    candidates = args[:1] if args else [value for value in kwargs.values() if isinstance(value, Tensor)]
    return candidates[0] if len(candidates) == 1 and isinstance(candidates[0], Tensor) else None


def with_values(arguments: Arguments, reading: Reading, values: Tensor) -> Arguments:
    """The same call with `values` [indices] at the read indices of the input."""
    args, kwargs = arguments
    x = read_input(args, kwargs)
    assert x is not None, "seen readings have an input"
    changed = x.movedim(reading.axis, -1).clone()
    changed[..., list(reading.indices)] = values.to(x)
    changed = changed.movedim(-1, reading.axis)
    if args:
        return (changed, *args[1:]), kwargs
    return args, {key: changed if value is x else value for key, value in kwargs.items()}


def response(module: nn.Module, reading: Reading, constant: Tensor) -> Tensor:
    """What the module's output gains, per output channel, from `constant` at the read indices, everywhere: Σ_i W[:, i] c_i.

    Summed over the taps of a kernel; a transposed convolution spreads them over its stride, and this is the average.
    """
    weight: Any = module.weight
    indices = torch.tensor(columns_of(module, reading.indices), device=constant.device)
    values = constant.new_zeros(_inputs(module, weight)).index_copy(0, indices, constant)
    groups = module.groups if isinstance(module, _ConvNd) else 1
    sums = weight.flatten(2).sum(2) if weight.dim() > 2 else weight
    parts = values.view(groups, -1)
    if isinstance(module, _ConvTransposeNd):
        return torch.einsum("gi,gio->go", parts, sums.view(groups, parts.shape[1], -1)).flatten() / math.prod(module.stride)
    return torch.einsum("gi,goi->go", parts, sums.view(groups, -1, parts.shape[1])).flatten()


def gains(module: nn.Module, reading: Reading, constant: Tensor) -> bool:
    """Whether `constant` reaches the module's output at all: some weight there times some constant is not zero."""
    weight: Any = module.weight
    axis = 0 if isinstance(module, _ConvTransposeNd) else 1
    indices = torch.tensor(columns_of(module, reading.indices), device=constant.device)
    if isinstance(module, _ConvNd):
        indices = indices % weight.shape[axis]
    columns = weight.index_select(axis, indices).movedim(axis, 0).flatten(1)
    return bool((columns.abs().amax(1) * constant.abs()).any())


def border(module: nn.Module, reading: Reading, constant: Tensor) -> str:
    """Why `constant` at the read indices does not give a constant output, and how far off it is; '' if it does."""
    if isinstance(module, _ConvTransposeNd):
        plain = all(size == 1 for size in (*module.kernel_size, *module.stride)) and not any((*module.padding, *module.output_padding))
        return "" if plain else "is a transposed convolution, whose output pixels see different taps"
    padded = isinstance(module, _ConvNd) and module.padding_mode == "zeros" and any(module._reversed_padding_repeated_twice)
    if not padded:
        return ""
    off, depth = border_error(module, reading, constant)
    where = f"exact but for the outer {depth} of its output, off by up to {off:.2g}"
    return f"pads its input with zeros, which the constant does not reach: {where}"


def border_error(module: Any, reading: Reading, constant: Tensor) -> tuple[float, int]:
    """Of a convolution that pads with zeros: by how much, at most, its output's border misses the response; how deep the border is.

    There the taps that lie on the padding do not see the constant. Seen on a constant image large enough for every kind of border.
    """
    sides = [2 * (k - 1) * d + 1 + p + q + s for k, d, s, p, q in _geometry(module)]
    silent = constant.new_zeros(1, features(module) or _inputs(module, module.weight), *sides)
    image = silent.clone()
    image[:, list(reading.indices)] = constant.view(-1, *(1 for _ in sides)).expand(-1, *sides)
    with torch.no_grad():
        missed = module(image) - module(silent) - channels_first(module, response(module, reading, constant))
    depth = max(-(-max(p, q) // s) for _, _, s, p, q in _geometry(module))
    return float(missed.abs().max()), depth


def _geometry(module: Any) -> list[tuple[int, int, int, int, int]]:
    """Per dimension: taps, dilation, stride, padding before and after."""
    padding = module._reversed_padding_repeated_twice[::-1]
    return list(zip(module.kernel_size, module.dilation, module.stride, padding[1::2], padding[::2], strict=True))


def channels_first(module: nn.Module, values: Tensor) -> Tensor:
    """[channels] in a shape that is added to the module's output."""
    return values.view(-1, *(1 for _ in module.kernel_size)) if isinstance(module, _ConvNd) else values


def _inputs(module: nn.Module, weight: Tensor) -> int:
    if isinstance(module, _ConvTransposeNd):
        return weight.shape[0]
    return weight.shape[1] * (module.groups if isinstance(module, _ConvNd) else 1)
