"""Copies of a network to try things on: quick ones, and ones whose tensors look at the original's memory."""

from __future__ import annotations

import copy
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager

from torch import Tensor, nn
from torch.nn.utils.prune import BasePruningMethod

from parsinet.errors import StructureError
from parsinet.structure.closures import rebind
from parsinet.structure.origins import first_line
from parsinet.structure.parts import SHARE
from parsinet.structure.record import StructureRecord, record_of

TORCHS = frozenset({*nn.Module().__dict__, "_compiled_call_impl"})
"""Attributes that every module has, or may have, of torch."""


def copy_for_tracing(model: nn.Module, *, share: bool = False) -> nn.Module:
    """A copy in evaluation mode, to export and to try things on; StructureError where there can be none.

    share: its tensors look at the model's own memory, which is enough for torch.export: it reads shapes. Never run it then.
    """
    try:
        return duplicate(model, share=share).eval()
    except (RuntimeError, TypeError) as error:
        advice = _advice(model, _uncopied(model))
        raise StructureError(f"{type(model).__name__} cannot be deep-copied for tracing ({first_line(error)}). {advice}") from error


def _uncopied(model: nn.Module) -> list[str]:
    """Attributes of modules that are no tensors and cannot be copied: locks, files, connections."""
    modules = {id(module): module for module in model.modules()}
    return [
        f"{path}.{name}".removeprefix(".")
        for path, module in model.named_modules()
        for name, value in vars(module).items()
        if name not in TORCHS and not isinstance(value, Tensor) and not _copies(value, dict(modules))
    ]


def _copies(value: object, memo: dict[int, object]) -> bool:
    """Whether a deep copy can be made; what fails by tensors within is another matter. memo: what needs none."""
    try:
        copy.deepcopy(value, memo)
    except (RuntimeError, TypeError) as error:
        return "Tensor" in str(error)
    return True


def _advice(model: nn.Module, uncopied: list[str]) -> str:
    hooks = [(path, hook) for path, module in model.named_modules() for hook in module._forward_pre_hooks.values()]
    pruned = [f'"{path}", "{hook._tensor_name}"' for path, hook in hooks if isinstance(hook, BasePruningMethod)]
    if pruned:
        return (
            "torch.nn.utils.prune keeps computed tensors as attributes. Make pruned tensors parameters again, each by "
            f"torch.nn.utils.prune.remove(module, name), here of {'; '.join(pruned)}."
        )
    if any(type(hook).__name__ == "WeightNorm" for _, hook in hooks):
        return "torch.nn.utils.weight_norm keeps computed tensors as attributes; use torch.nn.utils.parametrizations.weight_norm."
    if uncopied:
        return f"Keep {' and '.join(uncopied)} outside of the module, or give its class __deepcopy__."
    return "Detach tensors kept as attributes (`.detach()`), or trace the model before its first training step."


def duplicate(model: nn.Module, *, share: bool = False) -> nn.Module:
    """A deep copy without the records of removals. share: plain parameters and buffers are new ones of the same memory.

    Functions that hold the model or parts of it hold those of the copy. Most of a deep copy's time goes to the empty tables of hooks that
    every module carries; they are made anew instead. Hooks that compute tensors anew before a pass and can `hold` do so: what is tried
    on the copy must not change them.
    """
    memo: dict[int, object] = _views(model) if share else {}
    for module in model.modules():
        memo.update((id(table), OrderedDict()) for table in module.__dict__.values() if type(table) is OrderedDict and not table)
    record = record_of(model)
    memo[id(record)] = StructureRecord()
    twin = copy.deepcopy(model, memo)
    rebind(memo)
    for module in twin.modules():
        module.__dict__.pop(SHARE, None)
        for hook in module._forward_pre_hooks.values():
            getattr(hook, "hold", lambda: None)()
    return twin


def _views(model: nn.Module) -> dict[int, object]:
    """What takes the place of plain parameters and buffers; others are copied in their own way."""
    views: dict[int, object] = {}
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
