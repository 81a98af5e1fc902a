"""Sections of a plain network: a layer, maybe its norm, and the activation behind it, each read by the next alone."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn
from torch.fx import Node

from parsinet.errors import UsageError
from parsinet.structure.blocks_calls import ACTIVATIONS, NORMS
from parsinet.structure.blocks_graph import Graph
from parsinet.structure.origins import location, module_path


@dataclass(frozen=True)
class Section:
    """Paths of the modules: a linear layer or convolution, its norm (None: it has none), the activation."""

    layer: str
    norm: str | None
    activation: str

    def parts(self) -> dict[str, str]:
        """Role → path, in the order of computation."""
        roles = {"layer": self.layer, "norm": self.norm, "activation": self.activation}
        return {role: path for role, path in roles.items() if path is not None}


def section_of(model: nn.Module, graph: Graph, layer: str) -> Section:
    """The section that begins with this layer; UsageError, with the reason alone, where the network has none there."""
    path, norm = _reader(model, graph, layer), None
    if isinstance(model.get_submodule(path), NORMS):
        norm, path = path, _reader(model, graph, path)
    if not isinstance(model.get_submodule(path), ACTIVATIONS):
        raise UsageError(f"{path} reads it, and a {type(model.get_submodule(path)).__name__} is no activation")
    readers_of(model, graph, path)
    return Section(layer, norm, path)


def _reader(model: nn.Module, graph: Graph, path: str) -> str:
    """The one module that reads what this one returns."""
    readers = readers_of(model, graph, path)
    if len(readers) != 1 or readers[0].op == "output":
        told = " and ".join("the model's output" if node.op == "output" else location(node) for node in readers)
        raise UsageError(f"{path} is read by {told or 'nobody'}, not by one module alone")
    reader = module_path(readers[0])
    if next(model.get_submodule(reader).children(), None) is not None:
        raise UsageError(f"{location(readers[0])} reads {path}, where a module such as self.act1 = nn.ReLU() must")
    return reader


def readers_of(model: nn.Module, graph: Graph, path: str) -> list[Node]:
    """The operators that read what the module returns; UsageError for a module with several names, or not called exactly once."""
    module = model.get_submodule(path)
    names = [name for name, other in model.named_modules(remove_duplicate=False) if other is module]
    if len(names) > 1:
        raise UsageError(f"{' and '.join(names)} are one module")
    calls = calls_of(graph, path)
    if len(calls) != 1:
        raise UsageError(f"{path} is called {len(calls)} times; every layer needs one of its own")
    (nodes,) = calls.values()
    return list(dict.fromkeys(user for node in nodes for user in graph.users[node] if user not in nodes))


def calls_of(graph: Graph, path: str) -> dict[str, list[Node]]:
    """The operators of each call of the module; torch.export gives the second one a key of its own, `relu@1`."""
    found: dict[str, list[Node]] = {}
    for node in graph.nodes:
        if node.op == "call_function" and module_path(node) == path:
            name = list(node.meta["nn_module_stack"])[-1]
            found.setdefault(name, []).append(node)
    return found
