"""From the exported graph to the residual branches that can leave whole: their names, where each is silenced, what leaves with it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from torch import nn
from torch.fx import Node

from parsinet.structure.blocks import SUFFIX, Bare, Blocks, Clauses, Departure, Muted, Place, owners
from parsinet.structure.blocks_absent import Answer
from parsinet.structure.blocks_calls import Called, answer_of, sized_by
from parsinet.structure.blocks_graph import ALWAYS, CONTRACTIONS, NEVER, ZERO_KEEPING, Branch, Graph, both, modules_of, operator, shape_of
from parsinet.structure.blocks_groups import Found, block_groups
from parsinet.structure.blocks_identity import identities
from parsinet.structure.blocks_sizes import Carried
from parsinet.structure.export import Exported
from parsinet.structure.groups import Layout


@dataclass(frozen=True)
class Tensors:
    """needs: per name of a tensor, with which blocks gone nobody reads it under any of its names."""

    needs: Mapping[str, Clauses]

    @cached_property
    def _inside(self) -> dict[str, list[Clauses]]:
        found: dict[str, list[Clauses]] = {}
        for name, clauses in self.needs.items():
            for path in owners(name):
                found.setdefault(path, []).append(clauses)
        return found

    def beneath(self, path: str) -> list[Clauses]:
        """Those of the tensors in a module."""
        return self._inside.get(path, [])


def with_blocks(
    layout: Layout, model: nn.Module, exported: Exported, calls: Mapping[str, list[Called]], ignored: Sequence[str], carried: Carried
) -> Layout:
    """The layout with the network's residual branches, not yet proved."""
    graph = Graph(exported)
    answers = {path: answer_of(model.get_submodule(path), noted) for path, noted in calls.items()}
    within = _within(graph)
    branches = graph.branches()
    needing = _needing(branches)
    found = _gathered([_located(graph, branch, needing, answers, calls, within) for branch in branches])
    named = _named(found, layout.groups)
    edges = {(branch.value, branch.addition): name for name, entry in named.items() for branch in entry.branches}
    dead = graph.dead(edges)
    tensors = _tensors(model, graph, dead)
    modules = _dead_modules(dead, tensors, within)
    departures = [
        _departure(path, model, carried.sized(path, answer, within[path], graph), modules[path], layout)
        for path in modules
        if (answer := answers.get(path)) is not None
    ]
    same = identities(graph, edges, dead, within, calls)
    blocks = Blocks(
        {name: entry.producer for name, entry in named.items() if entry.producer is not None},
        (
            *departures,
            *(Departure(path, answer, clauses) for path, (answer, clauses) in same.items() if _empties(path, tensors, clauses)),
        ),
        _bare(model, graph, tensors),
    )
    groups = block_groups(named, model, graph, blocks, ignored)
    return replace(layout, blocks=blocks, block_groups=groups)


def _within(graph: Graph) -> dict[str, list[Node]]:
    """Per module the operators its forward runs, those of its parts included."""
    found: dict[str, list[Node]] = {}
    for node in graph.nodes:
        for path in dict.fromkeys(modules_of(node)):
            if path and node.op == "call_function" and graph.needed(node):
                found.setdefault(path, []).append(node)
    return found


def _needing(branches: Sequence[Branch]) -> dict[Node, list[Branch]]:
    """Per node the branches that alone need it."""
    found: dict[Node, list[Branch]] = {}
    for branch in branches:
        for node in branch.own:
            found.setdefault(node, []).append(branch)
    return found


def _located(
    graph: Graph,
    branch: Branch,
    needing: Mapping[Node, Sequence[Branch]],
    answers: Mapping[str, Answer | None],
    calls: Mapping[str, list[Called]],
    within: Mapping[str, list[Node]],
) -> Found:
    """The branch with its producer: the outermost module with parameters that only branches need and whose zero makes this one zero."""

    def spare(part: Node) -> bool:
        return any(branch.addition not in other.own for other in needing.get(part, ()))

    owner = next(iter(reversed(modules_of(branch.addition))), "")
    node, waiting = branch.value, [branch.value]
    while waiting:
        node = waiting.pop(0)
        for path in modules_of(node):
            if answers.get(path) is not None and all(map(spare, within[path])):
                return Found((branch,), Muted(path, _element(calls[path][0], shape_of(node))), owner)
        if ZERO_KEEPING.fullmatch(operator(node)):
            sources = [source for source in node.all_input_nodes if source in branch.own and source.op == "call_function"]
            waiting.extend(sources if operator(node).startswith("mul") else sources[:1])
    return Found((branch,), None, owner)


def _element(call: Called, shape: tuple[int, ...]) -> int | None:
    """Which element of a returned tuple the branch goes on with: the first of that many entries."""
    if call.single or call.returned is None:
        return None
    shapes = [None if kind is None else kind[0] for kind in call.returned]
    return shapes.index(shape) if shape in shapes else next(k for k, known in enumerate(shapes) if known is not None)


def _gathered(found: Iterable[Found]) -> list[Found]:
    """Branches made by one module, called several times, are one."""
    by_producer: dict[object, Found] = {}
    for number, entry in enumerate(found):
        key = number if entry.producer is None else entry.producer.module
        known = by_producer.get(key)
        by_producer[key] = entry if known is None else replace(known, branches=(*known.branches, *entry.branches))
    return list(by_producer.values())


def _named(found: Sequence[Found], taken: Mapping[str, object]) -> dict[str, Found]:
    """`owner.block` for the only branch that is added in its owner, else `producer.block`; a number behind what is taken."""
    adding = Counter(entry.owner for entry in found)
    named: dict[str, Found] = {}
    for entry in found:
        alone = entry.owner and adding[entry.owner] == 1
        stem = entry.owner if alone or entry.producer is None else entry.producer.module
        name = f"{stem}.{SUFFIX}" if stem else SUFFIX
        number = 1
        while name in named or name in taken:
            number += 1
            name = f"{name.partition('#')[0]}#{number}"
        named[name] = entry
    return named


def _dead_modules(dead: Mapping[Node, Clauses], tensors: Tensors, within: Mapping[str, list[Node]]) -> dict[str, Clauses]:
    """Per module that ran and holds parameters, with which blocks gone nobody needs it or any of its tensors."""
    found: dict[str, Clauses] = {}
    for path, nodes in within.items():
        needs = ALWAYS
        for node in nodes:
            needs = both(needs, dead[node])
            if not needs:
                break
        for clauses in tensors.beneath(path):
            needs = both(needs, clauses)
        if needs not in (NEVER, ALWAYS):
            found[path] = needs
    return found


def _empties(path: str, tensors: Tensors, clauses: Clauses) -> bool:
    """Whether nobody else reads a tensor of the module once the blocks have left."""
    (blocks,) = clauses
    return all(any(clause <= blocks for clause in needs) for needs in tensors.beneath(path))


def _tensors(model: nn.Module, graph: Graph, dead: Mapping[Node, Clauses]) -> Tensors:
    """The tensors that some operator reads."""
    named = {**dict(model.named_parameters(remove_duplicate=False)), **dict(model.named_buffers(remove_duplicate=False))}
    by_tensor: dict[int, Clauses] = {}
    for node in graph.nodes:
        target = graph.tensors.get(node.name) if node.op == "placeholder" else None
        if target in named:
            key = id(named[target])
            by_tensor[key] = both(by_tensor.get(key, ALWAYS), dead[node])
    return Tensors({name: by_tensor[id(tensor)] for name, tensor in named.items() if id(tensor) in by_tensor})


def _departure(path: str, model: nn.Module, found: tuple[Answer, Sequence[Place]], clauses: Clauses, layout: Layout) -> Departure:
    answer, own = found
    places = [*((f"{path}.{name}", dim) for name, dim in sized_by(model.get_submodule(path))), *own]
    return Departure(path, answer, clauses, next((place for place in places if place in layout.tensors), None))


def _bare(model: nn.Module, graph: Graph, tensors: Tensors) -> tuple[Bare, ...]:
    """Parameters that only dead operators read, and never as one side of a matrix product; in every module that has them."""
    named, clauses = dict(model.named_parameters(remove_duplicate=False)), tensors.needs
    read: dict[int, bool] = {}
    for node in graph.nodes:
        name = graph.tensors.get(node.name, "") if node.op == "placeholder" else ""
        if name in named and clauses[name] not in (NEVER, ALWAYS):
            multiplied = any(CONTRACTIONS.fullmatch(operator(user)) for user in graph.users[node])
            read[id(named[name])] = multiplied or read.get(id(named[name]), False)
    places = [f"{path}.{key}".lstrip(".") for path, module in model.named_modules() for key in module._parameters]
    return tuple(Bare(name, clauses[name]) for name in places if name in named and read.get(id(named[name])) is False)
