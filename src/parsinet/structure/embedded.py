"""A core laid out in a network of full size whose other weights are zero, and computed without reading the zeros."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves

from parsinet.structure.copies import unchanged, unique_tensors
from parsinet.structure.plan import Plan
from parsinet.structure.removal import tensors_of

Kept = dict[int, tuple[int, ...]]
"""Dimension → indices."""

PLAIN = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)
"""Layers that hand their weight to one of these operators, and to nothing else."""
MAPS = (functional.linear, functional.conv1d, functional.conv2d, functional.conv3d)
"""Operators whose weight is [out, in, …], read along the axis of their input on which they make their output."""


@contextlib.contextmanager
def embedded(model: nn.Module, plan: Plan) -> Iterator[None]:
    """Within the context nothing of the model's matrices but what the plan keeps is left, shapes unchanged.

    Vectors keep their values unless silence takes them: what leaves goes on emitting something, which nobody may read. What a linear layer
    or convolution makes with such a matrix is computed from its kept entries alone; the matrix is laid out once anything else touches it.
    """
    tensors = tensors_of(model)
    kept, silent = _by_tensor(plan.tensors, tensors), _by_tensor(plan.silent, tensors)
    plain = {id(module.weight) for module in model.modules() if type(module) in PLAIN}
    parts: dict[int, _Part] = {}
    with unchanged(model):
        for tensor in unique_tensors(model):
            if id(tensor) in kept and tensor.dim() > 1:
                parts[id(tensor)] = _Part.of(tensor, kept[id(tensor)])
                tensor.data = _zeros(tensor)
                continue
            tensor.data = tensor.data.clone()
            for d, indices in silent.get(id(tensor), {}).items():
                tensor.data.index_fill_(d, torch.tensor(indices, device=tensor.device), 0)
        for key in [key for key, part in parts.items() if key not in plain or not part.kept.keys() <= {0, 1}]:
            parts.pop(key).lay_out()
        with _WithoutZeros(parts):
            yield


def _by_tensor(places: Mapping[tuple[str, int], tuple[int, ...]], tensors: Mapping[str, Tensor]) -> dict[int, Kept]:
    """id of tensor → dim → indices; tied tensors go by several names."""
    found: dict[int, Kept] = {}
    for (name, d), indices in ((place, indices) for place, indices in places.items() if place[0] in tensors):
        found.setdefault(id(tensors[name]), {})[d] = indices
    return found


def _zeros(tensor: Tensor) -> Tensor:
    """Zeros of this shape and type. In numpy's, unlike in torch's, those that nobody reads or writes take neither memory nor time."""
    if tensor.device.type != "cpu":
        return torch.zeros_like(tensor)
    return torch.from_numpy(np.zeros(tensor.numel() * tensor.element_size(), np.uint8)).view(tensor.dtype).view(tensor.shape)


@dataclass(frozen=True)
class _Part:
    """What is left of a tensor. kept: dimension → indices, dimensions left out are whole; entries: their values."""

    tensor: Tensor
    kept: Kept
    entries: Tensor

    @staticmethod
    def of(tensor: Tensor, kept: Kept) -> _Part:
        """The kept part of the tensor as it is."""
        return _Part(tensor, kept, tensor.detach()[_grid(tensor, kept)])

    def lay_out(self) -> None:
        """Write the entries where they belong."""
        self.tensor.data[_grid(self.tensor, self.kept)] = self.entries

    def indices(self, d: int) -> Tensor:
        """Those kept of a dimension."""
        return torch.tensor(self.kept.get(d, range(self.tensor.shape[d])), device=self.tensor.device)


def _grid(tensor: Tensor, kept: Kept) -> tuple[Tensor, ...]:
    """An index of all entries whose indices are kept in every dimension."""
    grid = np.ix_(*(np.array(kept[d]) if d in kept else np.arange(size) for d, size in enumerate(tensor.shape)))
    return tuple(torch.from_numpy(axis).to(tensor.device) for axis in grid)


class _WithoutZeros(TorchFunctionMode):
    """Linear maps run on what is left of their weight. Before anything else gets hold of a weight, it is laid out, for good."""

    def __init__(self, parts: dict[int, _Part]) -> None:
        super().__init__()
        self._parts = parts

    def __torch_function__(self, function: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None) -> Any:
        if function in MAPS and not kwargs and len(args) > 1 and id(args[1]) in self._parts and _reads_all(args[0], args[1]):
            return _on_part(function, self._parts[id(args[1])], *args)
        for key in {id(leaf) for leaf in tree_leaves((args, kwargs))} & self._parts.keys():
            self._parts.pop(key).lay_out()
        return function(*args, **(kwargs or {}))


def _axis(x: Tensor, weight: Tensor) -> int:
    """The axis of the input along which the weight reads: the last of a linear layer, the channels of a convolution."""
    return x.dim() - weight.dim() + 1


def _reads_all(x: Tensor, weight: Tensor) -> bool:
    """Whether the operator takes such an input and has no groups, which read parts of it."""
    axis = _axis(x, weight)
    return 0 <= axis < x.dim() and x.shape[axis] == weight.shape[1]


def _on_part(function: Any, part: _Part, x: Tensor, weight: Tensor, bias: Tensor | None = None, *rest: Any) -> Tensor:
    """What the map makes of the kept inputs, placed at the kept outputs; the others are zero, and every output has its bias."""
    axis = _axis(x, weight)
    made: Tensor = function(x.index_select(axis, part.indices(1)), part.entries, None, *rest)
    whole = made.new_zeros(*made.shape[:axis], weight.shape[0], *made.shape[axis + 1 :])
    whole.index_copy_(axis, part.indices(0), made)
    return whole if bias is None else whole.add_(bias.view(-1, *[1] * (x.dim() - axis - 1)))
