"""Parameters that share memory without being one: a removal gives each memory of its own, so they would come apart."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from parsinet.errors import StructureError


def check_memory(model: nn.Module) -> None:
    """StructureError where a parameter begins at the place of another tensor of the model, as after `a.data = b.data`."""
    places: dict[Any, str] = {}
    for name, tensor in model.named_parameters():
        if (other := places.setdefault(_place(tensor), name)) != name and _place(tensor):
            _refuse(name, other)
    for name, buffer in model.named_buffers():
        if _place(buffer) and (other := places.get(_place(buffer), name)) != name:
            _refuse(name, other)


def _refuse(name: str, other: str) -> None:
    raise StructureError(
        f"{other} and {name} share memory without being one tensor (a.data = b.data, a view), so a removal would part them. Tie them as "
        "torch does, by assigning the parameter itself (layer.weight = other.weight), use it in forward, or give one a .clone()."
    )


def _place(tensor: Tensor) -> Any:
    """Where a plain tensor begins in memory; None for everything else."""
    plain = type(tensor) in (Tensor, nn.Parameter) and tensor.numel() > 0 and not tensor.is_sparse
    return (tensor.device, tensor.data_ptr()) if plain and tensor.data_ptr() else None
