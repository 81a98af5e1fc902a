"""Carry a plan out: in place, every parameter keeps its identity, optimizer state and gradients are cut with it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor, nn

from parsinet.errors import StructureError
from parsinet.structure.attributes import refresh
from parsinet.structure.cutting import cut, rescaled, resize_
from parsinet.structure.plan import Plan
from parsinet.structure.record import extend_record


def shrink(model: nn.Module, plan: Plan, *, optimizers: Iterable[torch.optim.Optimizer] = ()) -> None:
    """Remove the units `plan` lets go, from the model and from every optimizer.

    Parameters are cut in place (`p.data`), so parameter groups, schedulers and hooks stay valid. Of an optimizer's state every
    tensor of the parameter's shape is cut the same way; step counts stay. The removal is added to the model's structure record.

    Raises StructureError, with nothing changed, if the plan does not fit the model's present shapes.
    """
    if plan.empty:
        return
    tensors = _tensors(model)
    keeps = _keeps(plan)
    _check(plan, tensors)
    scales = {norm.g: rescaled(norm, tensors, keeps[norm.v]) for norm in plan.norms}
    for name, scale in scales.items():
        tensors[name].data.copy_(scale)
    for name, by_dim in keeps.items():
        tensor = tensors[name]
        states = _states(tensor, optimizers)
        for state in states:
            for key, value in state.items():
                if isinstance(value, Tensor) and value.shape == tensor.shape and value.dim() > 0:
                    state[key] = cut(value, by_dim)
        resize_(tensor, cut(tensor.data, by_dim), None if tensor.grad is None else cut(tensor.grad, by_dim))
    changed = refresh(model, plan.counts)
    extend_record(model, plan, changed)


def _tensors(model: nn.Module) -> dict[str, Tensor]:
    return {**dict(model.named_parameters(remove_duplicate=False)), **dict(model.named_buffers(remove_duplicate=False))}


def _keeps(plan: Plan) -> dict[str, dict[int, tuple[int, ...]]]:
    keeps: dict[str, dict[int, tuple[int, ...]]] = {}
    for (name, dim), kept in plan.tensors.items():
        if len(kept) < plan.sizes[name, dim]:
            keeps.setdefault(name, {})[dim] = kept
    return keeps


def _check(plan: Plan, tensors: Mapping[str, Tensor]) -> None:
    for (name, dim), size in plan.sizes.items():
        if name not in tensors or tensors[name].dim() <= dim or tensors[name].shape[dim] != size:
            have = tuple(tensors[name].shape) if name in tensors else "no such tensor"
            raise StructureError(
                f"The plan expects {name} to have size {size} in dimension {dim}, but the model has {have}. "
                "Make the plan from a structure traced from this model at its present size."
            )


def _states(tensor: Tensor, optimizers: Iterable[torch.optim.Optimizer]) -> list[dict[str, object]]:
    return [optimizer.state[tensor] for optimizer in optimizers if tensor in optimizer.state]
