"""Linear maps that have come to stand next to each other, once what was between them has left, become one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import prod

from torch import nn
from torch.fx import Node

from parsinet.errors import UsageError
from parsinet.structure.blocks_calls import LAYERS
from parsinet.structure.blocks_graph import Graph, is_addition, is_empty, operator, shape_of
from parsinet.structure.calling import ExampleInputs
from parsinet.structure.copies import copy_for_tracing
from parsinet.structure.export import export
from parsinet.structure.origins import module_path
from parsinet.structure.parts import note_merge
from parsinet.structure.products import has_product, is_matrix, multiply_out
from parsinet.structure.running import close, in_double
from parsinet.structure.sections import calls_of, readers_of

UNCHANGED = ("view", "reshape", "_unsafe_view", "flatten", "contiguous", "clone", "alias")
"""Operators that hand their operand on where its shape stays."""


@dataclass(frozen=True)
class Merge:
    """The linear map `first` multiplied into all its readers. parameters, macs: of these layers before and after, macs per example."""

    first: str
    readers: tuple[str, ...]
    parameters: tuple[int, int]
    macs: tuple[int, int]

    @property
    def saves(self) -> bool:
        """Whether less of one is left and no more of the other."""
        before, after = zip(self.parameters, self.macs, strict=True)
        return before != after and all(now <= then for then, now in zip(before, after, strict=True))


def merge_linear(model: nn.Module, example_inputs: ExampleInputs) -> tuple[Merge, ...]:
    """Multiply linear maps that follow each other into one, in place, as long as it makes the network smaller; returns what was done.

    Linear → Linear, 1x1 convolution → convolution and convolution → 1x1 convolution, where nothing is between them and nobody else
    reads what the first returns; of several such readers each takes it in:

        W₂(W₁x + b₁) + b₂ = (W₂W₁)x + (W₂b₁ + b₂)

    The network computes the same up to rounding, which a float64 copy shows on the example inputs before anything changes. What stays as
    it is: pairs whose product has more parameters or multiply-adds; a bias in front of a convolution that pads with zeros, where
    it does not reach; grouped convolutions; a strided 1x1 convolution in front of another kernel; layers that are shared, hooked or
    parametrized; dropout in between.

    Do it after training, behind the last removal: nothing can be removed from the network any more (`shrink` refuses). Parameters
    that stay keep their identity, but an optimizer's state is that of other tensors: to train on, build a new one. `pn.save` and
    `pn.load` know merges. Raises StructureError if torch.export cannot capture the model.
    """
    done: list[Merge] = []
    refused: set[tuple[str, tuple[str, ...]]] = set()
    while True:
        graph = Graph(export(copy_for_tracing(model, share=True), example_inputs))
        found = [merge for merge in _candidates(model, graph) if merge.saves and (merge.first, merge.readers) not in refused]
        if not found:
            return tuple(done)
        best = min(found, key=lambda merge: merge.parameters[1] - merge.parameters[0])
        if _proved(model, best, example_inputs):
            multiply_out(model, best.first, best.readers)
            note_merge(model, best.first, best.readers)
            done.append(best)
        else:
            refused.add((best.first, best.readers))


def _candidates(model: nn.Module, graph: Graph) -> Iterator[Merge]:
    for path, module in model.named_modules():
        if path and _is_plain(model, graph, path):
            readers = _readers(model, graph, path)
            able = readers and (is_matrix(module) or len(readers) == 1)
            if able and all(has_product(module, model.get_submodule(reader)) for reader in readers):
                yield _merge(model, graph, path, readers)


def _is_plain(model: nn.Module, graph: Graph, path: str) -> bool:
    """Whether the module is a layer that is called once, as one of the network's modules alone, with tensors nobody else reads."""
    module = model.get_submodule(path)
    if type(module) not in LAYERS or module._forward_hooks or module._forward_pre_hooks:
        return False
    try:
        readers_of(model, graph, path)
    except UsageError:
        return False
    (nodes,) = calls_of(graph, path).values()
    names = [name for name, _ in model.named_parameters(remove_duplicate=False)]
    own = {id(parameter) for parameter in module.parameters()}
    shared = sum(id(model.get_parameter(name)) in own for name in names) > len(own)
    return not shared and all(set(graph.users[tensor]) <= set(nodes) for tensor in graph.read_by(nodes))


def _readers(model: nn.Module, graph: Graph, path: str) -> tuple[str, ...]:
    """The layers that read what the module returns; none if anything else does."""
    found: list[str] = []
    for value, reader in _reading(graph, _value(graph, path)):
        other = module_path(reader) if reader.op == "call_function" else ""
        if not other or not _is_plain(model, graph, other):
            return ()
        (nodes,) = calls_of(graph, other).values()
        if graph.entries(nodes) != {value} or reader.args[0] is not value:
            return ()
        found.append(other)
    return tuple(found)


def _value(graph: Graph, path: str) -> Node:
    (nodes,) = calls_of(graph, path).values()
    return nodes[-1]


def _reading(graph: Graph, value: Node) -> Iterator[tuple[Node, Node]]:
    """Who reads a value, or the same value handed on; each with the node it reads."""
    for user in graph.users[value]:
        same = shape_of(user) == shape_of(value)
        zeros = is_addition(user) and all(node is value or is_empty(node) for node in user.all_input_nodes)
        if same and (operator(user) in UNCHANGED or zeros):
            yield from _reading(graph, user)
        else:
            yield value, user


@dataclass(frozen=True)
class _Size:
    """What a layer costs. taps: of its kernel; positions: at how many places per example it is applied."""

    outputs: int
    inputs: int
    taps: int
    positions: int
    bias: bool

    @property
    def parameters(self) -> int:
        return self.outputs * (self.inputs * self.taps + self.bias)

    @property
    def macs(self) -> int:
        return self.positions * self.outputs * self.inputs * self.taps

    def before(self, second: _Size) -> _Size:
        """The product with the layer behind; a matrix keeps the positions, so they are the second's."""
        return _Size(second.outputs, self.inputs, self.taps * second.taps, second.positions, self.bias or second.bias)


def _size(model: nn.Module, graph: Graph, path: str) -> _Size:
    layer = model.get_submodule(path)
    outputs, inputs, *kernel = layer.get_parameter("weight").shape
    return _Size(outputs, inputs, prod(kernel), prod(shape_of(_value(graph, path))[1:]) // outputs, layer._parameters["bias"] is not None)


def _merge(model: nn.Module, graph: Graph, first: str, readers: Sequence[str]) -> Merge:
    own, others = _size(model, graph, first), [_size(model, graph, reader) for reader in readers]
    before, after = [own, *others], [own.before(other) for other in others]
    parameters = sum(size.parameters for size in before), sum(size.parameters for size in after)
    macs = sum(size.macs for size in before), sum(size.macs for size in after)
    return Merge(first, tuple(readers), parameters, macs)


def _proved(model: nn.Module, merge: Merge, example_inputs: ExampleInputs) -> bool:
    """Whether a copy computes the same with it."""
    twin, calls = in_double(copy_for_tracing(model), iter([example_inputs]))
    call = next(calls)
    expected = call.on(twin)
    multiply_out(twin, merge.first, merge.readers)
    try:
        return close(call.on(twin), expected)
    except Exception:
        return False
