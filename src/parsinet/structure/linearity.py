"""Modules of any kind that add a bias to a linear map of what they read: found out by running them."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from parsinet.structure.reading import Arguments, Seen, with_values
from parsinet.structure.removal import tensors_of
from parsinet.structure.running import close


def reads_as_guessed(model: nn.Module, entry: Seen) -> bool:
    """Whether a guessed reading is one: the slices of the weight zeroed are the units of the input zeroed."""
    if entry.slices is None:
        return True
    name, dim = entry.slices
    module, weight = model.get_submodule(entry.reading.module), tensors_of(model)[name]
    zeroed = weight.detach().index_fill(dim, torch.tensor(entry.reading.indices, device=weight.device), 0)
    with _holding(weight, zeroed):
        without = _run(module, entry.arguments)
    silent = _run(module, with_values(entry.arguments, entry.reading, torch.zeros_like(entry.mean)))
    return without is not None and silent is not None and close([without], [silent])


def added(module: nn.Module, entry: Seen) -> tuple[str, Tensor] | None:
    """What the output gains from the mean at the read indices, and the module's parameter that adds just that; None if none does.

    With the output y = f(x) + b, b along one axis of y, the gain f(x with the mean) − f(x with zero) must be the same for all examples and
    positions, of the last call.
    """
    silent = with_values(entry.arguments, entry.reading, torch.zeros_like(entry.mean))
    base, whole = _run(module, silent), _run(module, with_values(entry.arguments, entry.reading, entry.mean))
    if base is None or whole is None:
        return None
    for name, bias in module.named_parameters(recurse=False):
        axis = _axis(module, bias, silent, base) if bias.dim() == 1 else None
        if axis is None:
            continue
        rows = (whole - base).movedim(axis, -1)
        change = rows.reshape(-1, len(bias)).mean(0)
        if close([rows], [change.expand_as(rows)]):
            return name, change
    return None


def _axis(module: nn.Module, bias: nn.Parameter, call: Arguments, base: Tensor) -> int | None:
    """The axis of the output along which the parameter is added."""
    shift = torch.linspace(1, 2, len(bias), dtype=bias.dtype, device=bias.device)
    with _holding(bias, bias.detach() + shift):
        moved = _run(module, call)
    if moved is None:
        return None
    for axis in range(base.dim()):
        difference = (moved - base).movedim(axis, -1)
        if difference.shape[-1] == len(bias) and close([difference], [shift.expand_as(difference)]):
            return axis
    return None


def _run(module: nn.Module, call: Arguments) -> Tensor | None:
    """The module's output, if it is one tensor."""
    with torch.no_grad():
        output = module(*call[0], **call[1])
    return output if isinstance(output, Tensor) else None


@contextlib.contextmanager
def _holding(tensor: Tensor, data: Tensor) -> Iterator[None]:
    """Within the context the tensor has other values."""
    saved = tensor.data
    tensor.data = data
    try:
        yield
    finally:
        tensor.data = saved
