"""Carry a plan out: in place, every parameter keeps its identity, optimizer state and gradients are cut with it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from parsinet.errors import StructureError
from parsinet.structure.attributes import refresh
from parsinet.structure.cutting import cut, rescaled, resize_
from parsinet.structure.plan import Plan
from parsinet.structure.record import extend_record


@dataclass(frozen=True)
class _Piece:
    """What a tensor becomes: its data and gradient, and the optimizer state that goes with it."""

    tensor: Tensor
    data: Tensor
    gradient: Tensor | None
    states: list[tuple[dict[str, object], str, Tensor]]


def shrink(model: nn.Module, plan: Plan, *, optimizers: Iterable[torch.optim.Optimizer] = ()) -> None:
    """Remove the units `plan` lets go, from the model and from every optimizer.

    Parameters are cut in place (`p.data`), so parameter groups, schedulers and hooks stay valid. Of an optimizer's state every
    tensor of the parameter's shape, or of its shape with some dimensions reduced to 1 (Adafactor), is cut the same way; step
    counts stay. The removal is added to the model's structure record.

    Raises StructureError, with nothing changed, if the plan does not fit the model's present shapes or an optimizer is not the
    model's.
    """
    optimizers = list(dict.fromkeys(optimizers))
    tensors = _tensors(model)
    _check(plan, tensors)
    _check_optimizers(model, optimizers)
    if plan.empty:
        return
    keeps = _keeps(plan)
    scales = {norm.g: rescaled(norm, tensors, keeps[norm.v]) for norm in plan.norms}
    pieces = [_piece(tensors[name], by_dim, optimizers, scales.pop(name, None)) for name, by_dim in keeps.items()]
    for name, scale in scales.items():
        tensors[name].data.copy_(scale)
    for piece in pieces:
        for state, key, value in piece.states:
            state[key] = value
        resize_(piece.tensor, piece.data, piece.gradient)
    changed = refresh(model, plan.counts)
    extend_record(model, plan, changed)


def _piece(
    tensor: Tensor, by_dim: Mapping[int, tuple[int, ...]], optimizers: Iterable[torch.optim.Optimizer], data: Tensor | None
) -> _Piece:
    gradient = None if tensor.grad is None else cut(tensor.grad, by_dim)
    states = [(state, key, value) for state in _states(tensor, optimizers) for key, value in _cut_state(state, tensor, by_dim)]
    return _Piece(tensor, cut(tensor.data if data is None else data, by_dim), gradient, states)


def _cut_state(state: dict[str, object], tensor: Tensor, by_dim: Mapping[int, tuple[int, ...]]) -> Iterator[tuple[str, Tensor]]:
    for key, value in state.items():
        if isinstance(value, Tensor) and value.dim() == tensor.dim() > 0:
            sizes = list(zip(value.shape, tensor.shape, strict=True))
            if all(own in (size, 1) for own, size in sizes):
                yield key, cut(value, {d: kept for d, kept in by_dim.items() if sizes[d][0] == sizes[d][1]})


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


def _check_optimizers(model: nn.Module, optimizers: Iterable[torch.optim.Optimizer]) -> None:
    own = {id(parameter) for parameter in model.parameters()}
    for optimizer in optimizers:
        kind = type(optimizer).__name__
        if isinstance(optimizer, torch.optim.LBFGS):
            raise StructureError("LBFGS keeps one flat history of all parameters, which cannot be cut; use another optimizer.")
        if not any(id(parameter) in own for group in optimizer.param_groups for parameter in group["params"]):
            raise StructureError(f"The {kind} optimizer holds no parameter of this {type(model).__name__}; pass the one that trains it.")


def _states(tensor: Tensor, optimizers: Iterable[torch.optim.Optimizer]) -> list[dict[str, object]]:
    return [optimizer.state[tensor] for optimizer in optimizers if tensor in optimizer.state]
