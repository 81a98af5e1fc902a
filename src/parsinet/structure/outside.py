"""Tensors of the model that its code reaches by ways on which a copy of it does not follow: through a global, a weak reference."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from torch import Tensor, nn

from parsinet.structure.export import Exported
from parsinet.structure.tracing import Tracing


def named_outside(model: nn.Module, exported: Exported) -> tuple[Exported, Mapping[str, str]]:
    """The graph of a copy of `model`, where constants that are tensors of the model itself get their names; placeholder → name of these."""
    if not exported.constants:
        return exported, {}
    tensors = {**dict(model.named_buffers(remove_duplicate=False)), **dict(model.named_parameters(remove_duplicate=False))}
    known = {place: name for name, tensor in reversed(tensors.items()) if (place := _place(tensor))}
    foreign = ((node, exported.constants.get(target)) for node, target in exported.tensors.items() if target not in tensors)
    places = {node: _place(constant) for node, constant in foreign}
    outside = {node: known[place] for node, place in places.items() if place in known}
    return replace(exported, tensors={**exported.tensors, **outside}), outside


def freeze_outside(tracing: Tracing, values: Mapping[str, Any], outside: Mapping[str, str]) -> None:
    """No trial on a copy can say what becomes of these tensors."""
    for node, name in outside.items():
        if node in values:
            tracing.freeze(values[node], f"{name} is also reached from outside the model, by a global or an object that holds it")


def _place(tensor: Any) -> tuple[Any, ...]:
    """Where a plain tensor lies in memory, and how; () for everything else."""
    if type(tensor) not in (Tensor, nn.Parameter) or not tensor.numel():
        return ()
    return tensor.data_ptr(), tuple(tensor.shape), tensor.stride(), tensor.dtype, tensor.device
