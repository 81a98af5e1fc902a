"""Residual branches as groups of one unit, each with the parameters that leave and what stands against that."""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, replace

from torch import nn
from torch.fx import Node

from parsinet.structure.blocks import Blocks, Muted, beneath_any, is_within, within_any
from parsinet.structure.blocks_graph import Branch, Graph, modules_of
from parsinet.structure.groups import UnitGroup


@dataclass(frozen=True)
class Found:
    """A branch with the module that makes it; of a shared module all branches together."""

    branches: tuple[Branch, ...]
    producer: Muted | None
    owner: str


def block_groups(
    found: Mapping[str, Found], model: nn.Module, graph: Graph, blocks: Blocks, ignored: Sequence[str]
) -> dict[str, UnitGroup]:
    """The groups of the blocks, by name, not yet proved."""
    order = {key: number for number, (key, _) in enumerate(model.named_parameters(remove_duplicate=False))}
    trained = order.keys() & dict(model.named_parameters())
    groups = {name: _group(name, entry, order, trained, graph, blocks, ignored) for name, entry in found.items()}
    return {**groups, **_registered_twice(model, found, groups)}


def _group(
    name: str, found: Found, order: Mapping[str, int], trained: Set[str], graph: Graph, blocks: Blocks, ignored: Sequence[str]
) -> UnitGroup:
    """The block as a group of one unit, with what stands against its removal.

    order: all names of parameters, numbered; trained: one name of each.
    """
    operators = frozenset[Node]().union(*(branch.own for branch in found.branches))
    own = {graph.tensors[node.name] for node in graph.read_by(operators) if set(graph.users[node]) <= operators}
    parameters = tuple(sorted(own & order.keys(), key=order.__getitem__))
    paths, bare = {departure.module for departure in blocks.leaving([name])}, blocks.unneeded([name])
    left = sorted(key for key in own & trained if not (beneath_any(key, paths) or key in bare))
    ignoring = next((layer for layer in ignored for path in paths if is_within(path, layer) or is_within(layer, path)), None)
    reason = ""
    if found.producer is None or not within_any(found.producer.module, paths):
        reason = "what it adds is made by no module of its own, that it alone needs and that can be silenced"
    elif ignoring is not None:
        reason = f"{ignoring} is in ignored_layers"
    elif left:
        reason = f"{left[0]} cannot leave with it: no rule says what shape its module returns, or others use it"
    return UnitGroup(name, 1, not reason, not reason, reason, parameters, "block")


def _registered_twice(model: nn.Module, named: Mapping[str, Found], groups: Mapping[str, UnitGroup]) -> dict[str, UnitGroup]:
    """Blocks that no module makes because the network calls theirs by another than its first name, with a reason that says so."""
    first = dict(model.named_modules())
    later = {path for path, _ in model.named_modules(remove_duplicate=False)} - first.keys()
    found = {}
    for name, entry in named.items():
        path = next((path for branch in entry.branches for path in modules_of(branch.value) if path in later), None)
        if path is not None and entry.producer is None:
            other = next(name for name, module in first.items() if module is model.get_submodule(path))
            found[name] = replace(groups[name], reason=f"{path} is registered as {other} before; call it by that name")
    return found
