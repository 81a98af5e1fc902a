"""Which entry of a raw input stands where: the entries are numbered, and the numbers sent through every operator that only moves them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.fx import Node
from torch.fx.node import map_arg

from parsinet.structure.axes import Rows
from parsinet.structure.blocks_graph import NO_USE
from parsinet.structure.export import Exported
from parsinet.structure.origins import location, module_path
from parsinet.structure.selecting import KINDS, is_selected


def _names(text: str) -> frozenset[str]:
    return frozenset(text.split())


MOVING = _names(
    "view reshape _unsafe_view flatten unflatten view_as reshape_as ravel permute transpose t numpy_T movedim moveaxis swapaxes swapdims "
    "squeeze unsqueeze expand expand_as broadcast_to repeat tile slice select narrow split split_with_sizes chunk tensor_split unbind "
    "cat concat concatenate stack index index_select flip roll pad constant_pad_nd reflection_pad1d reflection_pad2d reflection_pad3d "
    "replication_pad1d replication_pad2d replication_pad3d pixel_shuffle pixel_unshuffle channel_shuffle"
)
"""Operators whose results hold entries of their arguments, or padding, and nothing computed."""
KEEPING = _names("contiguous clone to _to_copy type_as detach alias float half double positive dropout batch_norm")
"""Operators besides the pointwise ones that change every entry where it stands."""
PICKING = _names("index index_select")
"""Operators among the moving ones whose other tensors say which entries to take; anywhere else they are entries of their own."""
VIEWS = _names("view view_as _unsafe_view")
"""Operators among them that some layouts in memory do not allow; the numbers need not lie as the entries do."""
PADDING = _names("pad constant_pad_nd")
"""Operators that fill in a value."""
SHAPES = _names("_assert_tensor_metadata new_zeros new_ones new_full new_empty zeros_like ones_like full_like empty_like")
"""Operators that look at a tensor's shape only."""
LAYERS = _names("linear conv1d conv2d conv3d")
"""Operators of the layers that can select."""


@dataclass(frozen=True)
class Reader:
    """A layer that reads raw inputs along `axis` of its input, counted from the end, which has `width` features there.

    numbers: [columns of its weight, entries each of them reads], 0 for padding. node: the operator that reads.
    """

    node: str
    module: str
    axis: int
    width: int
    numbers: Rows


@dataclass
class Numbering:
    """What becomes of the raw inputs' entries.

    inputs: argument → numbers of its first and last entry. refused: entries with a reason why a layer cannot go without them.
    """

    inputs: dict[str, tuple[int, int]] = field(default_factory=dict)
    readers: list[Reader] = field(default_factory=list)
    refused: list[tuple[Rows, str]] = field(default_factory=list)

    @property
    def count(self) -> int:
        """Entries of all inputs; they are numbered from 1."""
        return max((last for _, last in self.inputs.values()), default=0)


def number_inputs(model: nn.Module, exported: Exported) -> Numbering:
    """Follow every entry of every tensor the model is called with, as far as it is moved and not mixed with anything."""
    walk = _Walk(model, exported)
    for node in exported.graph.nodes:
        walk.visit(node)
    return walk.finish()


class _Walk:
    """One walk over the graph."""

    def __init__(self, model: nn.Module, exported: Exported) -> None:
        self.found = Numbering()
        self._model, self._exported = model, exported
        self._named = {**dict(model.named_parameters(remove_duplicate=False)), **dict(model.named_buffers(remove_duplicate=False))}
        self._numbers: dict[Node, Any] = {}
        self._constant: dict[Node, Tensor | None] = {}
        self._reading: list[Node] = []

    def visit(self, node: Node) -> None:
        """Number a result, note a reader, or refuse what goes into an operator of another kind."""
        if node.op == "placeholder":
            self._enter(node)
        elif node.op == "call_function":
            raw = [entry for entry in node.all_input_nodes if entry in self._numbers]
            if raw:
                self._pass(node, raw)
            elif all(entry in self._constant for entry in node.all_input_nodes):
                self._constant[node] = None

    def finish(self) -> Numbering:
        """What was found, once every operator has been seen."""
        for node in self._reading:
            self._read(node)
        return self.found

    def _enter(self, node: Node) -> None:
        target, value = self._exported.tensors.get(node.name), node.meta.get("val")
        if target is not None:
            self._constant[node] = self._named.get(target)
        elif isinstance(value, Tensor):
            first = self.found.count + 1
            self._numbers[node] = torch.arange(first, first + value.numel(), dtype=torch.float64).view(value.shape)
            self.found.inputs[node.name] = (first, first + value.numel() - 1)
            self._leave(node)

    def _pass(self, node: Node, raw: list[Node]) -> None:
        name = _operator(node)
        if name == "getitem":
            self._numbers[node] = self._numbers[raw[0]][node.args[1]]
        elif name in SHAPES or not (node.users or _writes(node)):
            self._constant[node] = None
            return
        elif name in LAYERS and raw == [node.args[0]]:
            self._reading.append(node)
            return
        elif name in MOVING and self._movable(node):
            self._numbers[node] = self._moved(node)
        elif len(raw) == 1 and self._keeps(node, name, raw[0]):
            self._numbers[node] = self._numbers[raw[0]]
        else:
            for entry in raw:
                self._refuse(entry, f"{location(node)} reads it, and only linear layers and convolutions can select what they read")
            return
        self._leave(node)

    def _leave(self, node: Node) -> None:
        if node.name in self._exported.results:
            self._refuse(node, "it is part of the model's output")

    def _movable(self, node: Node) -> bool:
        """Whether the values of all arguments are known, and nothing is written to."""
        others = [entry for entry in node.all_input_nodes if entry not in self._numbers]
        return not _writes(node) and all(self._constant.get(entry) is not None for entry in others)

    def _moved(self, node: Node) -> Any:
        """The numbers where the operator puts the entries, 0 for every entry that is none of the inputs'."""
        name = _operator(node)

        def number(entry: Node) -> Any:
            if entry in self._numbers:
                return self._numbers[entry].contiguous() if name in VIEWS else self._numbers[entry]
            known = self._constant[entry]
            return known if known is None or name in PICKING else torch.zeros_like(known, dtype=torch.float64)

        args, kwargs = map_arg(node.args, number), map_arg(node.kwargs, number)
        if name in PADDING:
            place = 2 if name == "constant_pad_nd" else 3
            args, kwargs = args[:place], {key: value for key, value in kwargs.items() if key != "value"}
        return node.target(*args, **kwargs)  # type: ignore[operator]

    def _keeps(self, node: Node, name: str, raw: Node) -> bool:
        """Whether the operator changes every entry where it stands, by itself and constants of the model."""
        pointwise = isinstance(node.target, torch._ops.OpOverload) and torch.Tag.pointwise in node.target.tags
        value = node.meta.get("val")
        same = isinstance(value, Tensor) and value.shape == raw.meta["val"].shape
        alone = all(entry is raw or entry in self._constant for entry in node.all_input_nodes)
        return (pointwise or name in KEEPING) and same and alone and not _writes(node)

    def _read(self, node: Node) -> None:
        """A layer reads: note which entries each column of its weight meets, or why it cannot select."""
        source, path = node.args[0], module_path(node)
        assert isinstance(source, Node)
        if reason := self._against(node, path):
            self._refuse(source, reason)
            return
        numbers: Tensor = self._numbers[source]
        axis = min(-1, 1 - self._model.get_submodule(path).get_parameter("weight").dim())
        columns = numbers.movedim(axis, 0).reshape(numbers.shape[axis], -1)
        while source.op == "call_function" and module_path(source) == path and isinstance(source.args[0], Node):
            source = source.args[0]
        width = int(source.meta["val"].shape[axis])
        self.found.readers.append(Reader(node.name, path, axis, width, columns.numpy().astype(np.int64)))

    def _against(self, node: Node, path: str) -> str:
        """Why the layer that runs here cannot select; '' if it can."""
        layer = dict(self._model.named_modules()).get(path)
        weight = layer._parameters.get("weight") if layer is not None else None
        source = node.args[1]
        if layer is None or weight is None or not isinstance(source, Node) or self._constant.get(source) is not weight:
            return f"{location(node)} reads it with a weight that is not a layer's own"
        if type(layer) not in KINDS and not is_selected(layer):
            return f"{path} reads it, which is a {type(layer).__name__}, no plain layer of torch"
        if getattr(layer, "groups", 1) != 1:
            return f"{path} reads it, which is a grouped convolution"
        users = {user for e, tensor in self._constant.items() if tensor is weight for user in e.users if _operator(user) not in NO_USE}
        return "" if users <= set(self._reading) else f"{path}.weight is used elsewhere as well"

    def _refuse(self, node: Node, reason: str) -> None:
        held = self._numbers[node]
        for tensor in held if isinstance(held, list | tuple) else [held]:
            self.found.refused.append((tensor.reshape(-1).numpy().astype(np.int64), reason))


def _operator(node: Node) -> str:
    return str(getattr(getattr(node.target, "overloadpacket", node.target), "__name__", ""))


def _writes(node: Node) -> bool:
    return isinstance(node.target, torch._ops.OpOverload) and bool(node.target._schema.is_mutable)
