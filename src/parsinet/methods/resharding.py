"""Where parameters are sharded: traced as a whole, at a removal built anew in the smaller shapes and filled tensor by tensor."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map

from parsinet.distributed import Sharded, gathered, is_sharded, scattered
from parsinet.errors import ParsinetWarning, UsageError
from parsinet.methods.base import Method, Moving
from parsinet.methods.folds import Folding
from parsinet.structure import Plan, Structure, trace
from parsinet.structure.calling import ExampleInputs
from parsinet.structure.cutting import cut, rescaled
from parsinet.structure.optimizers import Carried, carry, check_optimizers, reset_message, with_wrapped
from parsinet.structure.record import record_of
from parsinet.structure.removal import shrink

Optimizers = Iterable[torch.optim.Optimizer]
Kept = Mapping[int, tuple[int, ...]]


@dataclass(eq=False)
class _Successor:
    """What follows a parameter: this rank's part of its data and gradient, per optimizer the state that goes with it, `carried` if cut."""

    data: Tensor
    gradient: Tensor | None
    states: dict[torch.optim.Optimizer, dict[str, Any]] = field(default_factory=dict)
    carried: list[Carried] = field(default_factory=list)


def check_sharded(method: Method, folding: Folding | None) -> None:
    """UsageError for what needs whole weights."""
    if folding is not None:
        raise UsageError("Pruner: a fold runs the whole network, and this one is sharded. Leave fold out, or use Replicas(net).")
    if not isinstance(method, Moving):
        raise UsageError(
            f"Pruner: {method.name} works on whole weights, and this network's are sharded. Use gates, which act on what flows between "
            "layers, or Replicas(net)."
        )


def traced_whole(
    sharded: Sharded, model: nn.Module, example_inputs: ExampleInputs, *, ignored_layers: Iterable[str | nn.Module] = (), **options: Any
) -> Structure:
    """`structure.trace` of the whole network, on the CPU of rank 0, which tells the others. A collective. model: the sharded network."""
    names = {id(module): name for name, module in model.named_modules()}
    ignored = [layer if isinstance(layer, str) else names.get(id(layer), layer) for layer in ignored_layers]
    whole = sharded.whole()
    inputs = tree_map(lambda leaf: leaf.cpu() if isinstance(leaf, Tensor) else leaf, example_inputs)

    def traced() -> Structure:
        assert whole is not None, "rank 0 has the whole network"
        return trace(whole, inputs, ignored_layers=ignored, **options)

    return sharded.ranks.first(traced)


@torch.no_grad()
def shrink_sharded(model: Sharded, plan: Plan, optimizers: Optimizers) -> None:
    """Remove the units and blocks `plan` lets go, as `structure.shrink` does; a collective. `model.module` is another object afterwards.

    A parameter that is cut, and its optimizer state, is whole on every rank's device while it is cut, one after another; what is not cut is
    handed over. The optimizers stay, with the new parameters in the places of the old ones.
    Raises as `structure.shrink`, with nothing changed; ParsinetWarning if optimizer state has to start afresh.
    """
    optimizers = with_wrapped(optimizers)
    model.reshard()
    check_optimizers(model.module, optimizers)
    outline = model.outline()
    shrink(outline, plan)
    fresh = model.spread(copy.deepcopy(outline, {id(record_of(outline)): record_of(outline)}))
    before, after = dict(model.module.named_parameters()), dict(fresh.named_parameters())
    successors = _successors(model.module, after, plan, optimizers)
    message = reset_message((entry for one in successors.values() for entry in one.carried), {id(p): name for name, p in before.items()})
    if message:
        warnings.warn(message, ParsinetWarning, stacklevel=3)
    model.become(outline, fresh, {name: one.data for name, one in successors.items()})
    _hand_over(before, dict(model.module.named_parameters()), successors, optimizers)


def _successors(
    module: nn.Module, after: Mapping[str, Tensor], plan: Plan, optimizers: list[torch.optim.Optimizer]
) -> dict[str, _Successor]:
    """Per parameter that stays, by name; a shared one is cut under any of its names."""
    known = dict(module.named_parameters(remove_duplicate=False))
    keeps = {id(known[name]): kept for name, kept in plan.keeps().items() if name in known}
    norms = {id(known[norm.g]): norm for norm in plan.norms}
    found = {}
    for name, like in after.items():
        old = known[name]
        kept, norm = keeps.get(id(old), {}), norms.get(id(old))
        data = None
        if norm is not None:
            scale = {norm.g: gathered(known[norm.g].detach()), norm.v: gathered(known[norm.v].detach())}
            data = rescaled(norm, scale, keeps[id(known[norm.v])])
        found[name] = _successor(old, like, kept, data, optimizers)
    return found


def _successor(old: nn.Parameter, like: Tensor, kept: Kept, data: Tensor | None, optimizers: list[torch.optim.Optimizer]) -> _Successor:
    """data: the whole parameter before the cut, where it is no longer what the model holds."""
    holders = [optimizer for optimizer in optimizers if old in optimizer.state]
    if not kept:
        handed = old.detach() if data is None else scattered(data, like)
        return _Successor(handed, old.grad, {optimizer: optimizer.state[old] for optimizer in holders})
    whole = gathered(old.detach()) if data is None else data
    one = _Successor(scattered(cut(whole, kept), like), None if old.grad is None else scattered(cut(gathered(old.grad), kept), like))
    for optimizer in holders:
        state = optimizer.state[old]
        full = {key: gathered(value) if isinstance(value, Tensor) else value for key, value in state.items()}
        entry = carry(optimizer, old, kept, full)
        one.carried.append(entry)
        if entry.content is not None:
            one.states[optimizer] = {**state, **_spread(entry.content, state)}
    return one


def _spread(content: Mapping[str, Any], state: Mapping[str, Any]) -> dict[str, Any]:
    """What was spread is spread again."""
    return {key: scattered(value, state[key]) if is_sharded(state[key]) else value for key, value in content.items()}


def _hand_over(
    before: Mapping[str, Tensor], after: Mapping[str, nn.Parameter], successors: Mapping[str, _Successor], optimizers: Optimizers
) -> None:
    """The new parameters in the optimizers' groups, with state and gradients; those that left are gone."""
    names = {id(parameter): name for name, parameter in before.items()}
    for name, one in successors.items():
        after[name].grad = one.gradient
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            stays = [names.get(id(parameter), "") in after or id(parameter) not in names for parameter in group["params"]]
            for key in ("params", "param_names"):
                if key in group:
                    group[key] = [entry for entry, kept in zip(group[key], stays, strict=True) if kept]
            group["params"] = [after.get(names.get(id(parameter), ""), parameter) for parameter in group["params"]]
        for parameter in [parameter for parameter in optimizer.state if id(parameter) in names]:
            del optimizer.state[parameter]
        optimizer.state.update({after[name]: one.states[optimizer] for name, one in successors.items() if optimizer in one.states})
