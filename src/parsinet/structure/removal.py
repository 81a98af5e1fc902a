"""Carry a plan out: in place, every parameter keeps its identity, optimizer state and gradients are cut with it."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from parsinet.errors import ArgumentTypeError, ParsinetWarning, StructureError, told
from parsinet.structure.atomic import all_or_nothing
from parsinet.structure.attributes import refresh
from parsinet.structure.blocks_removal import check_present, forget, leaving_tensors, take_out
from parsinet.structure.cautions import check_projections, strided_messages
from parsinet.structure.configs import described
from parsinet.structure.cutting import cut, rescaled, resize_
from parsinet.structure.optimizers import Carried, carry, check_optimizers, reset_message, with_wrapped
from parsinet.structure.parts import extend_record
from parsinet.structure.plan import Fold, Plan
from parsinet.structure.selecting import select, whole_selections


@dataclass(frozen=True)
class _Piece:
    """What a tensor becomes: its data and gradient, and the optimizer state that goes with it."""

    tensor: Tensor
    data: Tensor
    gradient: Tensor | None
    states: list[Carried]


@torch.inference_mode(False)
@torch.no_grad()
def shrink(
    model: nn.Module, plan: Plan, *, optimizers: torch.optim.Optimizer | Iterable[torch.optim.Optimizer] = (), fold: Fold | None = None
) -> None:
    """Remove the units and blocks `plan` lets go, from the model and from every optimizer.

    Parameters are cut in place (`p.data`), so parameter groups, schedulers and hooks stay valid; gradients and the optimizer's state are
    cut with them (`optimizers.py` says how), those of optimizers that it wraps too. fold: changes of biases that make up for the units
    (`fold_units` plans them). The removal is added to the model's structure record. ParsinetWarning if optimizer state has to start
    afresh, and where torch is known to fail on what is left.

    Raises StructureError if the plan does not fit the model's present shapes or an optimizer cannot go on. Whatever fails,
    model and optimizers are left exactly as they were.
    """
    check_plan("shrink", plan)
    optimizers = with_wrapped(_optimizers(optimizers))
    tensors = tensors_of(model)
    selections = selections_of(model, plan)
    tensors.update(selections)
    check_fit(plan, tensors)
    check_present(model, plan.absent, plan.bare)
    check_projections(model, plan.keeps())
    check_optimizers(model, optimizers)
    if plan.empty:
        return
    keeps = plan.keeps()
    data = {norm.g: rescaled(norm, tensors, keeps[norm.v]) for norm in plan.norms}
    data |= _folded(fold, tensors, keeps) if fold is not None else {}
    pieces = [_piece(tensors[name], keeps.get(name, {}), optimizers, data.get(name)) for name in {**keeps, **data}]
    _warn([*_reset(pieces, tensors), *strided_messages(model, keeps)])
    before = described(model)
    leaving = leaving_tensors(model, plan.absent, plan.bare)
    with all_or_nothing(model, [*(piece.tensor for piece in pieces), *leaving], optimizers):
        classes = select(model, selections)
        for piece in pieces:
            for state in piece.states:
                state.apply()
            resize_(piece.tensor, piece.data, piece.gradient)
        take_out(model, plan.absent, plan.bare)
        for optimizer in optimizers if leaving else ():
            forget(optimizer, leaving)
        changed = refresh(model, plan.counts, before)
        for path, kind in classes.items():
            changed.setdefault(path, {})["__class__"] = kind
        extend_record(model, plan, changed)


def _optimizers(given: Any) -> list[torch.optim.Optimizer]:
    """One, several or none as a list; ArgumentTypeError for what is no optimizer."""
    several = [given] if isinstance(given, torch.optim.Optimizer) or not isinstance(given, Iterable) else list(given)
    for one in several:
        if not isinstance(one, torch.optim.Optimizer):
            raise ArgumentTypeError(f"shrink: optimizers must be an optimizer or a list of them, got {told(one)}. Leave it out for none.")
    return several


def _piece(
    tensor: Tensor, by_dim: Mapping[int, tuple[int, ...]], optimizers: Iterable[torch.optim.Optimizer], data: Tensor | None
) -> _Piece:
    gradient = None if tensor.grad is None else cut(tensor.grad, by_dim)
    states = [carry(optimizer, tensor, by_dim) for optimizer in _states(tensor, optimizers)] if by_dim else []
    return _Piece(tensor, cut(tensor.data if data is None else data, by_dim), gradient, states)


def _folded(fold: Fold, tensors: Mapping[str, Tensor], keeps: Iterable[str]) -> dict[str, Tensor]:
    """The biases with what is folded into them, at their present size; a shared one under the name by which it is cut."""
    for name, change in fold.changes.items():
        if name not in tensors or tensors[name].shape != change.shape:
            raise StructureError(
                f"The fold changes {name} by a tensor of shape {tuple(change.shape)}, which does not fit the model. "
                "Plan it from this model at its present size."
            )
    names = {id(tensors[name]): name for name in keeps}
    return {names.get(id(tensors[name]), name): tensors[name].data + change.to(tensors[name]) for name, change in fold.changes.items()}


def _reset(pieces: Iterable[_Piece], tensors: Mapping[str, Tensor]) -> list[str]:
    """What is said where optimizer state starts afresh."""
    names = {id(tensor): name for name, tensor in tensors.items()}
    message = reset_message((state for piece in pieces for state in piece.states), names)
    return [message] if message else []


def _warn(messages: Iterable[str]) -> None:
    """Before anything changes: where warnings are errors, the removal has not begun."""
    for message in messages:
        warnings.warn(message, ParsinetWarning, stacklevel=3)


def tensors_of(model: nn.Module) -> dict[str, Tensor]:
    """Parameters and buffers by name; shared ones under every name they have."""
    return {**dict(model.named_parameters(remove_duplicate=False)), **dict(model.named_buffers(remove_duplicate=False))}


def selections_of(model: nn.Module, plan: Plan) -> dict[str, Tensor]:
    """The index buffers of layers that read raw inputs and, with this plan, begin to select."""
    known = tensors_of(model)
    return whole_selections(model, {name: size for (name, _), size in plan.sizes.items() if name not in known})


def check_plan(who: str, plan: object) -> None:
    """ArgumentTypeError for what is no plan."""
    if not isinstance(plan, Plan):
        raise ArgumentTypeError(f"{who}: plan must be a Plan, got {told(plan)}. structure.plan({{group: mask}}) makes one.")


def check_fit(plan: Plan, tensors: Mapping[str, Tensor]) -> None:
    """StructureError if the plan speaks of other shapes than the model has."""
    for (name, dim), size in plan.sizes.items():
        if name not in tensors or tensors[name].dim() <= dim or tensors[name].shape[dim] != size:
            have = tuple(tensors[name].shape) if name in tensors else "no such tensor"
            raise StructureError(
                f"The plan expects {name} to have size {size} in dimension {dim}, but the model has {have}. "
                "Make the plan from a structure traced from this model at its present size."
            )


def _states(tensor: Tensor, optimizers: Iterable[torch.optim.Optimizer]) -> list[torch.optim.Optimizer]:
    """The optimizers that keep something of this tensor."""
    return [optimizer for optimizer in optimizers if tensor in optimizer.state]
