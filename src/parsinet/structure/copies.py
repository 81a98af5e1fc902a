"""Copies of a network to try things on: quick ones, and ones whose tensors look at the original's memory."""

from __future__ import annotations

import copy
import gc
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn

from parsinet.errors import StructureError
from parsinet.structure.export import first_line
from parsinet.structure.record import StructureRecord, record_of

_OWN_WAYS = {"__deepcopy__", "__getstate__", "__setstate__", "__reduce__", "__reduce_ex__", "__new__", "__getattribute__"}
_UNCHANGING = {bool, int, float, str, type(None)}


def copy_for_tracing(model: nn.Module, *, share: bool = False) -> nn.Module:
    """A copy in evaluation mode, to export and to try things on; StructureError where there can be none.

    share: its tensors look at the model's own memory, which is enough for torch.export: it reads shapes. Never run it then.
    """
    try:
        return duplicate(model, share=share).eval()
    except (RuntimeError, TypeError) as error:
        raise StructureError(
            f"{type(model).__name__} cannot be deep-copied for tracing ({first_line(error)}). "
            "Detach tensors kept as attributes (`.detach()`), or trace the model before its first training step."
        ) from error


def duplicate(model: nn.Module, *, share: bool = False) -> nn.Module:
    """A deep copy without the record of removals. share: plain parameters and buffers are new ones of the same memory.

    Most of a deep copy's time goes to the plain numbers and empty tables that every module carries; modules without a way of copying of
    their own are therefore filled here. Hooks that compute tensors anew before a pass and can `hold` do so: what is tried on the copy
    must not change them.
    """
    memo: dict[int, Any] = _views(model) if share else {}
    record = record_of(model)
    memo[id(record)] = StructureRecord()
    plain = [module for module in model.modules() if _copies_plainly(type(module))]
    memo.update((id(module), type(module).__new__(type(module))) for module in plain)
    for module in plain:
        vars(memo[id(module)]).update((key, _copied(value, memo)) for key, value in vars(module).items())
    twin = copy.deepcopy(model, memo)
    for module in twin.modules():
        for hook in module._forward_pre_hooks.values():
            getattr(hook, "hold", lambda: None)()
    return twin


def _copies_plainly(kind: type[nn.Module]) -> bool:
    """Whether a deep copy of such a module is a new one with copies of its attributes, and nothing else."""
    own = [base for base in kind.__mro__ if base not in (nn.Module, object)]
    return not any(_OWN_WAYS & vars(base).keys() or vars(base).get("__slots__") for base in own)


def _copied(value: Any, memo: dict[int, Any]) -> Any:
    """`copy.deepcopy`, without its detours for values that cannot change and for empty or flat tables."""
    if type(value) in _UNCHANGING:
        return value
    is_table = type(value) is dict or (type(value) is OrderedDict and not vars(value))
    if not is_table or id(value) in memo or not all(type(key) in _UNCHANGING for key in value):
        return copy.deepcopy(value, memo)
    memo[id(value)] = table = type(value)()
    table.update((key, _copied(entry, memo)) for key, entry in value.items())
    return table


def _views(model: nn.Module) -> dict[int, Any]:
    """What takes the place of plain parameters and buffers; others are copied in their own way."""
    views: dict[int, Any] = {}
    for tensor in (*model.parameters(), *model.buffers()):
        if type(tensor) is nn.Parameter and not tensor.__dict__:
            views[id(tensor)] = nn.Parameter(tensor.data, tensor.requires_grad)
        elif type(tensor) is Tensor and tensor.grad_fn is None and not tensor.requires_grad:
            views[id(tensor)] = tensor.data
    return views


def own_memory(model: nn.Module) -> None:
    """Give every tensor memory of its own: what a forward pass writes must not reach the original."""
    for tensor in unique_tensors(model):
        tensor.data = tensor.data.clone()


@contextmanager
def no_collection() -> Iterator[None]:
    """Python's search for cyclic garbage rests within: a graph of many objects is built, and each search would walk all of it."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


@contextmanager
def unchanged(model: nn.Module) -> Iterator[None]:
    """On exit every tensor is given back the data it had; meant for data that is replaced within, not written to."""
    before = [(tensor, tensor.data) for tensor in unique_tensors(model)]
    try:
        yield
    finally:
        for tensor, data in before:
            tensor.data = data


def unique_tensors(model: nn.Module) -> list[Tensor]:
    """Every parameter and buffer once, without those of lazy modules that never ran."""
    tensors = (*model.parameters(), *model.buffers())
    return [tensor for tensor in tensors if not isinstance(tensor, nn.UninitializedParameter | nn.UninitializedBuffer)]
