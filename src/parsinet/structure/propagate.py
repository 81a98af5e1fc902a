"""Walk the exported graph once: every operator passes labels on by its rule, or freezes them with a reason."""

from __future__ import annotations

import operator
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.fx import Node
from torch.fx.node import map_aggregate

from parsinet.structure.axes import NONE, Axis, labelled, marked
from parsinet.structure.constants import why_fixed
from parsinet.structure.export import Exported
from parsinet.structure.rules import RULES, Rule
from parsinet.structure.rules.elementwise import pointwise
from parsinet.structure.tracing import Tracing, Value
from parsinet.structure.work import note_work

Rules = Mapping[str, Rule]
"""Operator name ("library::operator") → rule."""


def seed(tracing: Tracing, exported: Exported) -> tuple[dict[str, Any], dict[str, tuple[Axis, ...]]]:
    """Give every index of every dimension of every tensor of the model a label of its own.

    Returns the placeholders' values and, per tensor name, its labelled axes. Tensors shared under several names (tied
    weights) are labelled once, under their first name; tensors no operator reads have no units.
    """
    named = {**dict(tracing.model.named_parameters(remove_duplicate=False)), **dict(tracing.model.named_buffers(remove_duplicate=False))}
    axes: dict[str, tuple[Axis, ...]] = {}
    first: dict[int, str] = {}
    values: dict[str, Any] = {}
    for node in exported.graph.nodes:
        if node.op != "placeholder":
            continue
        target = exported.tensors.get(node.name)
        if target in named:
            tensor = named[target]
            name = first.setdefault(id(tensor), target)
            if not node.users:
                continue
            if name not in axes:
                axes[name] = tuple(Axis(size, tracing.labels.fresh(size)[None]) for size in tensor.shape)
            values[node.name] = Value(axes[name], constant=True, name=name)
        elif isinstance(node.meta.get("val"), Tensor):
            why = why_fixed(tracing.model, target, exported.constants.get(target)) if target else ""
            values[node.name] = tracing.unknown(tuple(node.meta["val"].shape), constant=target is not None, why=why)
    tracing.seeded = tracing.labels.count
    return values, axes


def propagate(tracing: Tracing, exported: Exported, values: dict[str, Any], own: Rules) -> None:
    """Run the rules over the graph, the user's `own` before ours; what reaches the output is frozen by the caller's choice."""
    for node in exported.graph.nodes:
        tracing.node = node
        if node.op == "call_function" and not _idle(node):
            values[node.name] = _apply(tracing, node, values, own)
            first = node.args[0] if node.args else None
            if mutable(node) and isinstance(first, Node) and isinstance(values[node.name], Value):
                values[first.name] = values[node.name]
    tracing.node = None


def _idle(node: Node) -> bool:
    """Whether nobody reads what the operator makes of one tensor (`x[:, :, -1]` for the sake of its shape) and it writes nowhere."""
    single = isinstance(node.target, torch._ops.OpOverload) and len(node.all_input_nodes) < 2 and bool(node.target._schema.returns)
    return single and not node.users and not mutable(node)


def mutable(node: Node) -> bool:
    """Whether the operator writes into an argument."""
    return isinstance(node.target, torch._ops.OpOverload) and bool(node.target._schema.is_mutable)


def outputs(exported: Exported, values: Mapping[str, Any]) -> list[Value]:
    """The tensors the model returns, in order."""
    return [value for name in exported.results if isinstance(value := values.get(name), Value)]


def freeze_unused(tracing: Tracing, axes: dict[str, tuple[Axis, ...]]) -> None:
    """Entries of tensors that nothing makes or reads in this run (positions beyond the example's length) may be needed in another.

    That an index met another tensor's says nothing of the axis' other indices, and two that met each other alone may be needed too.
    """
    labels = tracing.labels
    met = [*tracing.met, *tracing.used, *tracing.folded, *tracing.blind, *tracing.outside, *(axis for axis, _ in tracing.inexact)]
    noted = np.flatnonzero(marked(labels.count, [*(rows for rows, _ in tracing.produced), *(axis.rows for axis in met)]))
    needed = marked(labels.count, [labels.find(noted), labels.resolve(labelled(noted))])
    for axis in (axis for tensor in axes.values() for axis in tensor if axis.tracked):
        rows = labels.resolve(axis)
        labels.freeze(labelled(rows[~needed[rows] & (rows != NONE)]), "the example inputs do not use it")


def understands(target: Any, own: Rules) -> bool:
    """Whether a rule speaks of the operator; what is no tensor operator needs none."""
    return not isinstance(target, torch._ops.OpOverload) or _rule(target, own) is not None


def _apply(tracing: Tracing, node: Node, values: dict[str, Any], own: Rules) -> Any:
    def resolve(arg: Any) -> Any:
        return values.get(arg.name) if isinstance(arg, Node) else arg

    args: Any = map_aggregate(node.args, resolve)
    kwargs: Any = map_aggregate(node.kwargs, resolve)
    if node.name in tracing.chosen:
        args = (args[0].replace_axis(*tracing.chosen[node.name]), *args[1:])
    if node.target is operator.getitem:
        return args[0][args[1]] if isinstance(args[0], list | tuple) else None
    rule = _rule(node.target, own)
    if rule is None:
        return _refuse(tracing, node, args, kwargs, f"{tracing.where} is not understood")
    try:
        result = rule(tracing, *args, **kwargs)
    except Exception as error:
        if not _form(error):
            raise
        return _refuse(tracing, node, args, kwargs, f"{tracing.where} is used in a form that is not understood ({type(error).__name__})")
    note_work(tracing, node.target, args, kwargs, result)
    return result


def _form(error: Exception) -> bool:
    """Whether a rule met arguments it does not know, among them sizes that depend on data (torch's class for those is costly to import)."""
    return isinstance(error, TypeError | LookupError | AttributeError | ValueError) or type(error).__name__ == "GuardOnDataDependentSymNode"


def _rule(target: Any, own: Rules) -> Rule | None:
    if not isinstance(target, torch._ops.OpOverload):
        return None
    if target._schema.name in own:
        return own[target._schema.name]
    packet = target.overloadpacket.__name__
    names = [f"{packet}.{target._overloadname}", packet, packet.rstrip("_")]
    rule = next((RULES[name] for name in names if name in RULES), None)
    if rule is None and torch.Tag.pointwise in target.tags:
        return pointwise
    return rule


def _refuse(tracing: Tracing, node: Node, args: Any, kwargs: Any, reason: str) -> Any:
    """Freeze everything that enters an operator no rule understands; its results carry no labels, only the first such reason."""
    reasons = [reason]

    def freeze(arg: Any) -> Any:
        if isinstance(arg, Value):
            reasons[:0] = [axis.why for axis in arg.axes if axis.why][:1]
            tracing.freeze(arg, reasons[0])
            if arg.name and len(arg.axes) > 1 and isinstance(tracing.owner, nn.Module):
                tracing.produce(arg.axes[0], tracing.module)
        return arg

    map_aggregate((args, kwargs), freeze)
    result = node.meta.get("val")
    if isinstance(result, Tensor):
        return tracing.unknown(tuple(result.shape), why=reasons[0])
    if isinstance(result, tuple | list):
        return [tracing.unknown(tuple(part.shape), why=reasons[0]) if isinstance(part, Tensor) else None for part in result]
    return None


def ignore(tracing: Tracing, axes: dict[str, tuple[Axis, ...]], layers: tuple[str, ...]) -> None:
    """Freeze the units that the named layers produce."""
    made = marked(tracing.labels.count, [rows for rows, _ in tracing.produced])
    for layer in layers:
        module = tracing.model.get_submodule(layer)
        for name, parameter in module.named_parameters(prefix=layer):
            for axis in axes.get(name, ()):
                if isinstance(parameter, nn.Parameter) and made[axis.rows].any():
                    tracing.labels.freeze(axis, f"{layer} is in ignored_layers")
