"""Size of a network at rest: parameters, non-zero weights and bytes, anything shared counted once."""

from collections.abc import Iterable, Iterator

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from parsinet.errors import UsageError


def parameters(model: nn.Module) -> int:
    """Entries of all parameters; a tied parameter counts once. Raises UsageError if a lazy layer has no shape yet."""
    return sum(tensor.numel() for tensor in _distinct(model.parameters()))


def nonzeros(model: nn.Module) -> int:
    """Entries of all parameters that are not exactly 0; a tied parameter counts once. Raises UsageError as `parameters`."""
    return sum(int((tensor.detach() != 0).sum()) for tensor in _distinct(model.parameters()))


def stored_bytes(model: nn.Module) -> int:
    """Bytes of all parameters and buffers: Σ entries · bytes per entry of the type each is stored in; what is shared counts once.

    Zeros cost as much as any other value: only removing them physically makes this smaller. Raises UsageError as `parameters`.
    """
    return sum(tensor.numel() * tensor.element_size() for tensor in _distinct([*model.parameters(), *model.buffers()]))


def _distinct(group: Iterable[Tensor]) -> Iterator[Tensor]:
    seen: set[object] = set()
    for tensor in group:
        if is_lazy(tensor):
            raise UsageError("measure: the model has a lazy layer whose shape is not known yet; run it on one batch first.")
        key = _place(tensor)
        if key not in seen:
            seen.add(key)
            yield tensor


def _place(tensor: Tensor) -> object:
    """What two tensors have in common exactly if they are the same entries: the memory, or the object where there is no memory."""
    if tensor.is_meta or tensor.layout != torch.strided or tensor.numel() == 0:
        return id(tensor)
    return tensor.data_ptr(), tensor.dtype, tensor.shape, tensor.stride()
