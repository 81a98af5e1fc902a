"""Modules that hand their input on unchanged once their residual branches have left: they leave whole."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch.fx import Node

from parsinet.structure.blocks import Clauses
from parsinet.structure.blocks_absent import Answer
from parsinet.structure.blocks_calls import Called
from parsinet.structure.blocks_graph import Graph, is_addition, modules_of, operator, shape_of

Edges = Mapping[tuple[Node, Node], str]
"""(value, addition) of every branch → its block."""

RECTIFIERS = ("relu", "relu_")
ABOVE_ZERO = (*RECTIFIERS, "max_pool2d", "max_pool1d", "contiguous", "clone", "alias", "dropout")
"""Operators whose result is nowhere below zero where their operand is not; the first two in any case."""
MAY_HAND_ON = ("dropout", "feature_dropout", "alpha_dropout", "feature_alpha_dropout")
"""Operators that may return their operand itself without a word of it in their schema."""


def identities(
    graph: Graph, edges: Edges, dead: Mapping[Node, Clauses], within: Mapping[str, Sequence[Node]], calls: Mapping[str, Sequence[Called]]
) -> dict[str, tuple[Answer, Clauses]]:
    """Per module that adds branches: what it answers without all of them, its own input, and that they must all have left.

    So it is where nothing is left of it but additions of what is gone, and ReLUs of a stream that a ReLU has made already, and nobody
    writes into its input or result, which would then be one tensor.
    """
    found, written = {}, _written(graph)
    added: dict[Node, list[str]] = {}
    for (_, addition), block in edges.items():
        added.setdefault(addition, []).append(block)
    for path in dict.fromkeys(modules_of(addition)[-1] for _, addition in edges if modules_of(addition)):
        inside = set(within.get(path, ()))
        blocks = _needed(added, dead, inside)
        alive = [node for node in within.get(path, ()) if not _gone(dead[node], blocks)]
        entry = None if _leaks(graph, alive, inside) else _handed_on(edges, blocks, alive)
        entry = None if entry in written or (alive and alive[-1] in written) else entry
        argument = None if entry is None or len(calls.get(path, ())) != 1 else _argument(calls[path][0], shape_of(entry))
        if path and argument is not None:
            found[path] = (Answer((argument,), same=True), frozenset([blocks]))
    return found


def _needed(added: Mapping[Node, Sequence[str]], dead: Mapping[Node, Clauses], inside: set[Node]) -> frozenset[str]:
    """The blocks added among these operators, without those that another of them takes along."""
    here = {addition: added[addition] for addition in inside & added.keys()}
    blocks = frozenset[str]().union(*here.values())
    return frozenset(block for addition, names in here.items() for block in names if not _gone(dead[addition], blocks - {block}))


def _gone(clauses: Clauses, blocks: frozenset[str]) -> bool:
    return any(clause <= blocks for clause in clauses)


def _leaks(graph: Graph, alive: Sequence[Node], inside: set[Node]) -> bool:
    """Whether others than the module read more than its last result."""
    return any(user not in inside for node in alive[:-1] for user in graph.users[node])


def _written(graph: Graph) -> set[Node]:
    """Values that some operator writes into, itself or through a view of them."""
    found: set[Node] = set()
    for node in graph.nodes:
        shares = _shares(node, written=True)
        while shares and isinstance(node.args[0], Node):
            node = node.args[0]
            found.add(node)
            shares = _shares(node, written=False)
    return found


def _shares(node: Node, *, written: bool) -> bool:
    """Whether the operator's result may be its first argument's memory; written: whether it writes there."""
    if node.op != "call_function" or not node.args:
        return False
    if not isinstance(node.target, torch._ops.OpOverload):
        return not written
    known = node.target._schema.arguments[0].alias_info if node.target._schema.arguments else None
    if written:
        return known is not None and known.is_write
    return known is not None or operator(node) in MAY_HAND_ON


def _handed_on(edges: Edges, blocks: frozenset[str], alive: Sequence[Node]) -> Node | None:
    """What the remaining operators of a module read and return as it is; None if they do anything to it."""
    entry = current = None
    for node in alive:
        sources = [source for source in node.all_input_nodes if edges.get((source, node)) not in blocks]
        if len(sources) != 1 or (current is not None and sources[0] is not current):
            return None
        entry = entry or sources[0]
        if not (is_addition(node) or (operator(node) in RECTIFIERS and _above_zero(entry))):
            return None
        current = node
    return entry


def _above_zero(node: Node) -> bool:
    while operator(node) in ABOVE_ZERO:
        if operator(node) in RECTIFIERS:
            return True
        node = node.all_input_nodes[0]
    return False


def _argument(call: Called, shape: tuple[int, ...]) -> int | str | None:
    """The first argument of that shape, of a module that returns one tensor of it."""
    if not call.single or call.returned is None or call.returned[0] is None or call.returned[0][0] != shape:
        return None
    return next((name for name, kind in call.arguments.items() if kind == call.returned[0]), None)
