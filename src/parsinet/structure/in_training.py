"""What a network does in training mode beyond evaluation: auxiliary heads, noise with scales of its own, other results."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from types import CodeType, FunctionType, MethodType
from typing import Any

import torch
from torch import Tensor, nn

from parsinet.draws import kept
from parsinet.structure.calling import ExampleInputs
from parsinet.structure.copies import duplicate
from parsinet.structure.export import Exported
from parsinet.structure.running import Call

TRAINING = "training"
"""How modules call their mode."""


@dataclass(frozen=True)
class TrainingPass:
    """A forward pass in training mode. call: with what; times: every example so often. shapes: of its results. reached: parameters on
    which these depend, each as all its names."""

    call: Call
    shapes: list[torch.Size]
    reached: frozenset[tuple[str, ...]]
    times: int = 1

    def beyond(self, evaluation: Exported) -> bool:
        """Whether it depends on parameters that evaluation does not look at."""
        looked_at = used(evaluation)
        return any(looked_at.isdisjoint(names) for names in self.reached)


def training_pass(model: nn.Module, call: Call) -> TrainingPass:
    """One pass of a copy, and what it leads to. Raises what the network raises: it may want targets, or more than one example."""
    twin = duplicate(model)
    names = _differentiable(twin)
    output = _trained(twin, call)
    reached = frozenset(tuple(names[id(tensor)]) for tensor in _leaves(output) if id(tensor) in names)
    return TrainingPass(call, [tensor.shape for tensor in output], reached)


def training_shapes(model: nn.Module, call: Call) -> list[torch.Size]:
    """The shapes of what a copy gives in training mode. Raises what the network raises."""
    return [tensor.shape for tensor in _trained(duplicate(model), call)]


def trains(model: nn.Module, call: Call | None) -> bool:
    """Whether the network runs in training mode; True where there is no call to try it on."""
    try:
        return call is None or bool(training_shapes(model, call))
    except Exception:
        return False


def first_training_pass(model: nn.Module, example_inputs: ExampleInputs) -> TrainingPass | None:
    """A pass on the example inputs, with every example twice where there is but one and one is too few; None if the network does not train
    on them alone, and where no code of its own asks whether it trains."""
    if not asks(model):
        return None
    call = Call.of(example_inputs)
    found = _tried(model, call)
    if found is not None:
        return found
    found = _tried(model, _twice(call))
    return None if found is None else replace(found, times=2)


def asks(model: nn.Module) -> bool:
    """Whether code of the network, torch's layers aside, asks `training`: its classes, functions beside them, hooks and own forwards."""
    kinds = {kind for module in model.modules() for kind in type(module).__mro__ if not _is_torchs(kind.__module__)}
    places = [vars(kind) for kind in kinds] + [vars(sys.modules[name]) for name in {kind.__module__ for kind in kinds} & sys.modules.keys()]
    named = (value for place in places for value in list(place.values()))
    hooks = (hook for m in model.modules() for hook in (*m._forward_pre_hooks.values(), *m._forward_hooks.values()))
    own = (module.__dict__["forward"] for module in model.modules() if "forward" in module.__dict__)
    return any(TRAINING in _names_in(code) for found in (*named, *hooks, *own) if (code := _code(found)) is not None)


def _is_torchs(name: str) -> bool:
    return name.partition(".")[0] in ("torch", "builtins", "typing", "abc")


def _code(found: Any) -> CodeType | None:
    """The code of a function of the caller's, whatever wraps it; None for everything else."""
    function = found.fget if isinstance(found, property) else found
    function = function.__func__ if isinstance(function, staticmethod | classmethod | MethodType) else function
    if not isinstance(function, FunctionType):
        return None
    function = inspect.unwrap(function)
    return None if _is_torchs(function.__module__ or "") else getattr(function, "__code__", None)


def _names_in(code: CodeType) -> set[Any]:
    """Names and texts in a function and the functions within it."""
    inner = [_names_in(constant) for constant in code.co_consts if isinstance(constant, CodeType)]
    return {*code.co_names, *(constant for constant in code.co_consts if isinstance(constant, str))}.union(*inner)


def _tried(model: nn.Module, call: Call) -> TrainingPass | None:
    try:
        return training_pass(model, call)
    except Exception:
        return None


def _twice(call: Call) -> Call:
    """Two examples where there is one: batch normalisation does not train on one."""
    return call.with_tensors(lambda leaf: torch.cat([leaf, leaf]) if _single(leaf) else leaf)


def _single(leaf: Tensor) -> bool:
    return leaf.dim() > 0 and len(leaf) == 1


def used(exported: Exported) -> frozenset[str]:
    """The model's tensors that an exported graph reads."""
    read = {node.name for node in exported.graph.nodes if node.op == "placeholder" and node.users}
    return frozenset(name for node, name in exported.tensors.items() if node in read)


def _differentiable(model: nn.Module) -> dict[int, list[str]]:
    """Names by the identity of each parameter, all of which take gradients from here on."""
    names: dict[int, list[str]] = {}
    for name, parameter in model.named_parameters(remove_duplicate=False):
        names.setdefault(id(parameter), []).append(name)
        if parameter.is_floating_point():
            parameter.requires_grad_()
    return names


def _trained(twin: nn.Module, call: Call) -> list[Tensor]:
    with kept(twin):
        return call.on(twin.train(), gradients=True)


def _leaves(output: list[Tensor]) -> Iterator[Tensor]:
    """What the results are computed from."""
    waiting: list[Any] = [tensor.grad_fn for tensor in output if tensor.grad_fn is not None]
    seen = set(waiting)
    while waiting:
        function = waiting.pop()
        if hasattr(function, "variable"):
            yield function.variable
        following = {other for other, _ in function.next_functions if other is not None} - seen
        seen |= following
        waiting.extend(following)
