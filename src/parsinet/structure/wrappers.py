"""Operators that run a graph of their own (`with torch.no_grad():` in the user's forward), put in line."""

from __future__ import annotations

from typing import Any

import torch
from torch.fx import GraphModule, Node

WRAPPERS = ("wrap_with_set_grad_enabled", "wrap_with_autocast")


def unwrap(program: torch.export.ExportedProgram) -> None:
    """Put the operators of inner graphs in the place of what runs them; what keeps anything but operators stays as it is.

    Decompositions do so too, and take several times as long, as they run and prove the whole network again.
    """
    renamed = _unwrap(program.graph_module)
    for old, new in renamed.items():
        program.graph_signature.replace_all_uses(old, new)


def _unwrap(module: GraphModule) -> dict[str, str]:
    """Names of nodes that are gone, and of those in their place."""
    renamed: dict[str, str] = {}
    for node in [node for node in module.graph.nodes if wraps(node)]:
        graph, given = _parts(module, node)
        inner = getattr(module, str(graph.target))
        _unwrap(inner)
        if any(entry.op not in ("placeholder", "call_function", "output") for entry in inner.graph.nodes):
            continue
        places = (entry for entry in inner.graph.nodes if entry.op == "placeholder")
        with module.graph.inserting_before(node):
            made: Any = module.graph.graph_copy(inner.graph, dict(zip(places, given, strict=True)))
        for reader in list(node.users):  # each takes one of the results
            new: Node = made[reader.args[1]]
            reader.replace_all_uses_with(new)
            renamed[reader.name] = new.name
            module.graph.erase_node(reader)
        module.graph.erase_node(node)
        if not graph.users:
            module.graph.erase_node(graph)
    return renamed


def wraps(node: Node) -> bool:
    """Whether the node runs a graph of its own."""
    return node.op == "call_function" and str(node.target) in WRAPPERS


def _parts(module: GraphModule, node: Node) -> tuple[Node, list[Any]]:
    """Which of the arguments is the graph, and what it is given, an argument for each of its placeholders."""
    for position, entry in enumerate(node.args):
        if isinstance(entry, Node) and entry.op == "get_attr" and isinstance(getattr(module, str(entry.target), None), GraphModule):
            return entry, list(node.args[position + 1 :])
    raise AssertionError(f"{node} runs no graph")
