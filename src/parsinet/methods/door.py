"""What a pruner is given, looked at before anything is traced: arguments swapped, forgotten or half built are refused in words."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterable
from typing import Protocol
from weakref import WeakValueDictionary

from torch import Tensor, nn
from torch.optim import Optimizer

from parsinet.errors import ArgumentTypeError, ParsinetWarning, UsageError, told
from parsinet.methods.base import Method
from parsinet.methods.options import check_whole


class HasMethod(Protocol):
    """A pruner, as far as this file knows it."""

    method: Method


_AT_WORK: WeakValueDictionary[int, HasMethod] = WeakValueDictionary()
"""Pruners that have not finished, by the identity of their method."""
_USED: WeakValueDictionary[int, Method] = WeakValueDictionary()
"""Methods whose pruner has finished, by identity: they have decided everything, and would decide nothing about another network."""


def check_arguments(model: object, optimizer: object, method: object) -> list[Optimizer]:
    """The optimizers as a list.

    Errors: ArgumentTypeError for a model, optimizer or method that is none, UsageError for a method that is at work elsewhere.
    """
    if not isinstance(model, nn.Module):
        raise ArgumentTypeError(f"Pruner: model must be a torch module, got {told(model)}. The order is model, optimizer, method, inputs.")
    optimizers: list[Optimizer] = []
    for entry in [optimizer] if isinstance(optimizer, Optimizer) or not isinstance(optimizer, Iterable) else optimizer:
        if not isinstance(entry, Optimizer):
            raise ArgumentTypeError(
                f"Pruner: optimizer must be a torch optimizer or a list of them, got {told(entry)}. Build it from "
                "method.param_groups(model); learning-rate schedulers stay in your loop."
            )
        optimizers.append(entry)
    if isinstance(method, type) or not hasattr(method, "attach"):
        built = f"{method.__name__}(...)" if isinstance(method, type) else "parsinet.methods.Gates(...)"
        raise ArgumentTypeError(f"Pruner: method must be a training method such as {built}, got {told(method)}.")
    other = _AT_WORK.get(id(method))
    if other is not None and other.method is method:
        raise UsageError(
            f"Pruner: this {type(method).__name__} is at work on another network already, and would forget it. Build a method for each "
            "network; one whose run was given up has nothing to give to the next."
        )
    if _USED.get(id(method)) is method:
        raise UsageError(f"Pruner: this {type(method).__name__} has finished a network already. Build a method for each network.")
    return optimizers


def unmet(method: Method, network: nn.Module, optimizers: Iterable[Optimizer]) -> str:
    """What the method wants of the optimizers and does not find in their groups, such as a learning rate of eigenvalues; "" for nothing.

    That vectors are not decayed is advice, and not asked for.
    """
    groups = {id(parameter): group for optimizer in optimizers for group in optimizer.param_groups for parameter in group["params"]}
    for wanted in method.param_groups(network):
        options = {key: value for key, value in wanted.items() if key != "params" and (key, value) != ("weight_decay", 0.0)}
        held = [group for parameter in wanted["params"] if (group := groups.get(id(parameter))) is not None]
        for key, value in options.items():
            if any(group.get("initial_lr" if key == "lr" and "initial_lr" in group else key) != value for group in held):
                return (
                    f"{method.name} wants a parameter group with {key} = {value!r}, which the optimizer does not have. "
                    "Build the optimizer from method.param_groups(network)."
                )
    return ""


def tell_unmet(wanted: str) -> None:
    """ParsinetWarning where the optimizer lacks what the method wants of it: the method goes on with what the optimizer has."""
    if wanted:
        warnings.warn(f"Pruner: {wanted} It goes on with what the optimizer has.", ParsinetWarning, stacklevel=3)


def tell_unpenalised(method: Method) -> None:
    """ParsinetWarning where the method adds something to the loss that the loop has not asked for."""
    penalty = method.penalty()
    if isinstance(penalty, Tensor) and penalty.requires_grad:
        warnings.warn(
            f"Pruner: {method.name} learns by what it adds to the loss, and the loop has not asked for it. Without "
            "it hardly anything leaves: (loss + pruner.penalty()).backward().",
            ParsinetWarning,
            stacklevel=3,
        )


def check_numbers(steps: int | None, examples: int | None, round_to: int) -> None:
    """UsageError for numbers that are not whole, or not above 0."""
    check_whole("Pruner", "steps", steps)
    check_whole("Pruner", "examples", examples)
    check_whole("Pruner", "round_to", round_to, needed=True)


def may_remove(method: Method) -> bool:
    """Whether units may leave at all: not where all is decided, nor where a method makes zeros alone (`remove_units=False`)."""
    return not method.settled and bool(getattr(method, "remove_units", True))


def begin_work(pruner: HasMethod) -> None:
    """The pruner's method stands in its network; a pruner that could not be built leaves it free."""
    _AT_WORK[id(pruner.method)] = pruner


def end_work(pruner: HasMethod) -> None:
    """The method has left the network."""
    if _AT_WORK.get(id(pruner.method)) is pruner:
        del _AT_WORK[id(pruner.method)]
    with contextlib.suppress(TypeError):  # of a kind without weak references
        _USED[id(pruner.method)] = pruner.method
