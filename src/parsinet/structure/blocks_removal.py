"""Taking a leaving block's modules out of a network, and their parameters out of the optimizers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from parsinet.errors import StructureError
from parsinet.structure.blocks_absent import Absent, Answer, depart, lay_bare
from parsinet.structure.cutting import place_of


def check_present(model: nn.Module, absent: Mapping[str, Answer], bare: Iterable[str]) -> None:
    """StructureError, with nothing changed, where the network has no such module or parameter any more."""
    modules, parameters = dict(model.named_modules()), dict(model.named_parameters(remove_duplicate=False))
    for path in absent:
        if path not in modules or isinstance(modules[path], Absent):
            raise StructureError(f"The plan expects a module {path!r} to leave, which the model does not have (any more).")
    for name in bare:
        if name not in parameters:
            raise StructureError(f"The plan expects a parameter {name!r} to leave, which the model does not have (any more).")


def take_out(model: nn.Module, absent: Mapping[str, Answer], bare: Iterable[str]) -> None:
    """Turn modules into absent ones and parameters into untrained ones; no gradient of theirs is left to be clipped with the others."""
    for tensor in leaving_tensors(model, absent, bare):
        tensor.grad = None
    for path, answer in absent.items():
        depart(model.get_submodule(path), answer)
    ones: dict[int, Tensor] = {}
    for name in bare:
        path, _, attribute = name.rpartition(".")
        old = model.get_parameter(name)
        lay_bare(model.get_submodule(path), attribute, ones.setdefault(id(old), torch.ones_like(old.detach(), device=place_of(old))))


def leaving_tensors(model: nn.Module, absent: Mapping[str, Answer], bare: Iterable[str]) -> list[Tensor]:
    """The parameters the model will not have any more; one that a staying module shares is none of them."""
    gone, single = {model.get_submodule(path) for path in absent}, set(bare)
    going = [*(model.get_parameter(name) for name in bare), *(parameter for module in gone for parameter in module.parameters())]
    staying = {
        id(parameter)
        for path, module in model.named_modules(memo=set(gone))
        for name, parameter in module._parameters.items()
        if f"{path}.{name}".lstrip(".") not in single
    }
    return list({id(parameter): parameter for parameter in going if id(parameter) not in staying}.values())


def forget(optimizer: torch.optim.Optimizer, tensors: Iterable[Tensor]) -> None:
    """Take parameters and their state out of an optimizer; its groups stay, some maybe without parameters."""
    gone = {id(tensor) for tensor in tensors}
    for group in optimizer.param_groups:
        stays = [id(parameter) not in gone for parameter in group["params"]]
        if not all(stays):
            group.update({key: _filtered(group[key], stays) for key in ("params", "param_names") if key in group})
    for tensor in [tensor for tensor in optimizer.state if id(tensor) in gone]:
        del optimizer.state[tensor]


def _filtered(entries: list[Any], stays: list[bool]) -> list[Any]:
    return [entry for entry, kept in zip(entries, stays, strict=True) if kept]
