"""From the exported graph to the residual branches that can leave whole: their names, where each is silenced, what leaves with it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from torch import nn
from torch.fx import Node

from parsinet.structure.blocks import Bare, Blocks, Clauses, Departure, Muted, Place, is_beneath, is_within
from parsinet.structure.blocks_absent import Answer
from parsinet.structure.blocks_calls import Called, answer_of, sized_by
from parsinet.structure.blocks_graph import ALWAYS, CONTRACTIONS, NEVER, ZERO_KEEPING, Branch, Graph, both, modules_of, operator, shape_of
from parsinet.structure.blocks_identity import identities
from parsinet.structure.export import Exported
from parsinet.structure.groups import Layout, UnitGroup

SUFFIX = "block"


@dataclass(frozen=True)
class _Found:
    """A branch with the module that makes it; of a shared module all branches together."""

    branches: tuple[Branch, ...]
    producer: Muted | None
    owner: str


def with_blocks(layout: Layout, model: nn.Module, exported: Exported, calls: Mapping[str, list[Called]], ignored: Sequence[str]) -> Layout:
    """The layout with the network's residual branches, not yet proved."""
    graph = Graph(exported)
    answers = {path: answer_of(model.get_submodule(path), noted) for path, noted in calls.items()}
    within = _within(graph)
    branches = graph.branches()
    found = _gathered([_located(graph, branch, branches, answers, calls, within) for branch in branches])
    named = _named(found, layout.groups)
    edges = {(branch.value, branch.addition): name for name, entry in named.items() for branch in entry.branches}
    dead = graph.dead(edges)
    modules = _dead_modules(model, graph, dead, within)
    departures = [_departure(path, model, answer, modules[path], layout) for path in modules if (answer := answers.get(path)) is not None]
    same = identities(graph, edges, dead, within, calls)
    blocks = Blocks(
        {name: entry.producer for name, entry in named.items() if entry.producer is not None},
        (
            *departures,
            *(Departure(path, answer, clauses) for path, (answer, clauses) in same.items() if _empties(path, model, graph, dead, clauses)),
        ),
        _bare(model, graph, dead),
    )
    groups = {name: _group(name, entry, model, graph, blocks, ignored) for name, entry in named.items()}
    return replace(layout, blocks=blocks, block_groups=groups)


def _within(graph: Graph) -> dict[str, list[Node]]:
    """Per module the operators its forward runs, those of its parts included."""
    found: dict[str, list[Node]] = {}
    for node in graph.nodes:
        for path in dict.fromkeys(modules_of(node)):
            if path and node.op == "call_function" and graph.needed(node):
                found.setdefault(path, []).append(node)
    return found


def _located(
    graph: Graph,
    branch: Branch,
    branches: Sequence[Branch],
    answers: Mapping[str, Answer | None],
    calls: Mapping[str, list[Called]],
    within: Mapping[str, list[Node]],
) -> _Found:
    """The branch with its producer: the outermost module with parameters that only branches need and whose zero makes this one zero."""
    own = frozenset[Node]().union(*(other.own for other in branches if branch.addition not in other.own))
    owner = next(iter(reversed(modules_of(branch.addition))), "")
    node, waiting = branch.value, [branch.value]
    while waiting:
        node = waiting.pop(0)
        for path in modules_of(node):
            if answers.get(path) is not None and all(part in own for part in within[path]):
                return _Found((branch,), Muted(path, _element(calls[path][0], shape_of(node))), owner)
        if ZERO_KEEPING.fullmatch(operator(node)):
            sources = [source for source in node.all_input_nodes if source in branch.own and source.op == "call_function"]
            waiting.extend(sources if operator(node).startswith("mul") else sources[:1])
    return _Found((branch,), None, owner)


def _element(call: Called, shape: tuple[int, ...]) -> int | None:
    """Which element of a returned tuple the branch goes on with: the first of that many entries."""
    if call.single or call.returned is None:
        return None
    shapes = [None if kind is None else kind[0] for kind in call.returned]
    return shapes.index(shape) if shape in shapes else next(k for k, known in enumerate(shapes) if known is not None)


def _gathered(found: Iterable[_Found]) -> list[_Found]:
    """Branches made by one module, called several times, are one."""
    by_producer: dict[object, _Found] = {}
    for number, entry in enumerate(found):
        key = number if entry.producer is None else entry.producer.module
        known = by_producer.get(key)
        by_producer[key] = entry if known is None else replace(known, branches=(*known.branches, *entry.branches))
    return list(by_producer.values())


def _named(found: Sequence[_Found], taken: Mapping[str, object]) -> dict[str, _Found]:
    """`owner.block` for the only branch that is added in its owner, else `producer.block`; a number behind what is taken."""
    owners = [entry.owner for entry in found]
    named: dict[str, _Found] = {}
    for entry in found:
        alone = entry.owner and owners.count(entry.owner) == 1
        stem = entry.owner if alone or entry.producer is None else entry.producer.module
        name = f"{stem}.{SUFFIX}" if stem else SUFFIX
        number = 1
        while name in named or name in taken:
            number += 1
            name = f"{name.partition('#')[0]}#{number}"
        named[name] = entry
    return named


def _dead_modules(model: nn.Module, graph: Graph, dead: Mapping[Node, Clauses], within: Mapping[str, list[Node]]) -> dict[str, Clauses]:
    """Per module that ran and holds parameters, with which blocks gone nobody needs it or any of its tensors."""
    tensors = _tensors(model, graph, dead)
    found: dict[str, Clauses] = {}
    for path, nodes in within.items():
        needs = ALWAYS
        for node in nodes:
            needs = both(needs, dead[node])
            if not needs:
                break
        for name, clauses in tensors.items():
            if needs and is_beneath(name, path):
                needs = both(needs, clauses)
        if needs not in (NEVER, ALWAYS):
            found[path] = needs
    return found


def _empties(path: str, model: nn.Module, graph: Graph, dead: Mapping[Node, Clauses], clauses: Clauses) -> bool:
    """Whether nobody else reads a tensor of the module once the blocks have left."""
    (blocks,) = clauses
    return all(any(c <= blocks for c in needs) for name, needs in _tensors(model, graph, dead).items() if is_beneath(name, path))


def _tensors(model: nn.Module, graph: Graph, dead: Mapping[Node, Clauses]) -> dict[str, Clauses]:
    """Per name of a tensor that some operator reads, with which blocks gone nobody reads it under any of its names."""
    named = {**dict(model.named_parameters(remove_duplicate=False)), **dict(model.named_buffers(remove_duplicate=False))}
    by_tensor: dict[int, Clauses] = {}
    for node in graph.nodes:
        target = graph.tensors.get(node.name) if node.op == "placeholder" else None
        if target in named:
            key = id(named[target])
            by_tensor[key] = both(by_tensor.get(key, ALWAYS), dead[node])
    return {name: by_tensor[id(tensor)] for name, tensor in named.items() if id(tensor) in by_tensor}


def _departure(path: str, model: nn.Module, answer: Answer, clauses: Clauses, layout: Layout) -> Departure:
    places: list[Place] = [(f"{path}.weight", dim) for dim in sized_by(model.get_submodule(path))]
    places += [(f"{path}.bias", 0)] if places else []
    return Departure(path, answer, clauses, next((place for place in places if place in layout.tensors), None))


def _bare(model: nn.Module, graph: Graph, dead: Mapping[Node, Clauses]) -> tuple[Bare, ...]:
    """Parameters that only dead operators read, and never as one side of a matrix product; in every module that has them."""
    named, clauses = dict(model.named_parameters(remove_duplicate=False)), _tensors(model, graph, dead)
    read: dict[int, bool] = {}
    for node in graph.nodes:
        name = graph.tensors.get(node.name, "") if node.op == "placeholder" else ""
        if name in named and clauses[name] not in (NEVER, ALWAYS):
            multiplied = any(CONTRACTIONS.fullmatch(operator(user)) for user in graph.users[node])
            read[id(named[name])] = multiplied or read.get(id(named[name]), False)
    places = [f"{path}.{key}".lstrip(".") for path, module in model.named_modules() for key in module._parameters]
    return tuple(Bare(name, clauses[name]) for name in places if name in named and read.get(id(named[name])) is False)


def _group(name: str, found: _Found, model: nn.Module, graph: Graph, blocks: Blocks, ignored: Sequence[str]) -> UnitGroup:
    """The block as a group of one unit, with what stands against its removal."""
    operators = frozenset[Node]().union(*(branch.own for branch in found.branches))
    own = {graph.tensors[node.name] for node in graph.read_by(operators) if set(graph.users[node]) <= operators}
    trained = {key for key, _ in model.named_parameters()}
    parameters = tuple(key for key, _ in model.named_parameters(remove_duplicate=False) if key in own)
    paths = [departure.module for departure in blocks.leaving([name])]
    gone = [key for key in own if any(is_beneath(key, path) for path in paths) or key in blocks.unneeded([name])]
    left = sorted((own & trained) - set(gone))
    ignoring = next((layer for layer in ignored for path in paths if is_within(path, layer) or is_within(layer, path)), None)
    reason = ""
    if found.producer is None or not any(is_within(found.producer.module, path) for path in paths):
        reason = "what it adds is made by no module of its own, that it alone needs and that can be silenced"
    elif ignoring is not None:
        reason = f"{ignoring} is in ignored_layers"
    elif left:
        reason = f"{left[0]} cannot leave with it: no rule says what shape its module returns, or others use it"
    return UnitGroup(name, 1, not reason, not reason, reason, parameters, "block")
