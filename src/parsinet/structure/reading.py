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

from parsinet.structure.plan import Reading


@dataclass
class Seen:
    """Leaving units' values in a module's input, summed up over calls, examples and positions: one entry per index."""

    reading: Reading
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


@contextlib.contextmanager
def observed(model: nn.Module, readings: Sequence[Reading]) -> Iterator[list[Seen]]:
    """Within the context every run of the model adds to what is seen of the readings."""
    seen = [Seen(reading) for reading in readings]
    handles = [model.get_submodule(entry.reading.module).register_forward_pre_hook(_taker(entry), with_kwargs=True) for entry in seen]
    try:
        yield seen
    finally:
        for handle in handles:
            handle.remove()


def _taker(entry: Seen) -> Any:
    def take(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        entry.take(args[0] if args else kwargs["input"])

    return take


def response(module: nn.Module, reading: Reading, constant: Tensor) -> Tensor:
    """What the module's output gains, per output channel, from `constant` at the read indices, everywhere: Σ_i W[:, i] c_i.

    Summed over the taps of a kernel; a transposed convolution spreads them over its stride, and this is the average.
    """
    weight: Any = module.weight
    values = constant.new_zeros(_inputs(module, weight)).index_copy(0, torch.tensor(reading.indices, device=constant.device), constant)
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
    indices = torch.tensor(reading.indices, device=constant.device)
    if isinstance(module, _ConvNd):
        indices = indices % weight.shape[axis]
    columns = weight.index_select(axis, indices).movedim(axis, 0).flatten(1)
    return bool((columns.abs().amax(1) * constant.abs()).any())


def border(module: nn.Module) -> str:
    """Why a constant input does not give a constant output; '' if it does."""
    if isinstance(module, _ConvTransposeNd):
        plain = all(size == 1 for size in (*module.kernel_size, *module.stride)) and not any((*module.padding, *module.output_padding))
        return "" if plain else "is a transposed convolution, whose output pixels see different taps"
    padded = isinstance(module, _ConvNd) and module.padding_mode == "zeros" and any(module._reversed_padding_repeated_twice)
    return "pads its input with zeros, which the constant does not reach" if padded else ""


def channels_first(module: nn.Module, values: Tensor) -> Tensor:
    """[channels] in a shape that is added to the module's output."""
    return values.view(-1, *(1 for _ in module.kernel_size)) if isinstance(module, _ConvNd) else values


def _inputs(module: nn.Module, weight: Tensor) -> int:
    if isinstance(module, _ConvTransposeNd):
        return weight.shape[0]
    return weight.shape[1] * (module.groups if isinstance(module, _ConvNd) else 1)
