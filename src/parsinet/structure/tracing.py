"""What the rules read and write while labels travel through the graph."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import nn

from parsinet.structure.axes import NONE, Axis, Rows, fixed, same_size
from parsinet.structure.labels import Labels
from parsinet.structure.origins import location, module_path


@dataclass(frozen=True)
class Value:
    """A tensor in the graph: its axes, and whether it was computed from the model's own tensors alone."""

    axes: tuple[Axis, ...]
    constant: bool = False
    name: str = ""
    """Name of the model's tensor that this is, '' for everything computed."""

    def with_axes(self, axes: list[Axis] | tuple[Axis, ...]) -> Value:
        return Value(tuple(axes), self.constant)

    def replace_axis(self, dim: int, axis: Axis) -> Value:
        """The same with another axis in one place."""
        axes = list(self.axes)
        axes[dim] = axis
        return self.with_axes(axes)


@dataclass(frozen=True)
class Norm:
    """A weight g · v/‖v‖ of the model (weight norm): the norm of tensor `v` runs over all dimensions but `dim`, `g` scales it."""

    g: str
    v: str
    dim: int
    order: float = 2.0


@dataclass(frozen=True)
class Read:
    """A module that reads labelled units: its input's `axis` carries `labels`, and all of `along` if that is more; its first has `rows`."""

    module: str
    axis: int
    labels: Axis
    along: Axis | None
    rows: int


@dataclass(frozen=True)
class Count:
    """A module attribute that counts the indices of an axis: `groups`, `num_heads`, `normalized_shape[0]`."""

    module: str
    attribute: str
    labels: Axis


@dataclass
class Tracing:
    """Labels and everything noted of them on the way."""

    model: nn.Module
    labels: Labels = field(default_factory=Labels)
    produced: list[tuple[Rows, str]] = field(default_factory=list)
    """Raw labels of tensors' indices where units are made, and the name their group should get (the producing module's, or '')."""
    read: list[Rows] = field(default_factory=list)
    """Raw labels of tensor indices over which an operator contracts: zero there means the unit is not read."""
    added: list[tuple[Rows, Rows]] = field(default_factory=list)
    """Raw labels of tensors that an operator adds up index by index: what makes or reads the first makes or reads the second too."""
    computed: list[tuple[torch.fx.Node, Axis]] = field(default_factory=list)
    """Operators that contract over an axis of a tensor that is computed from the model's own, and the axis."""
    met: list[Axis] = field(default_factory=list)
    """Axes over which two activations are contracted: silence must zero the producers."""
    folded: list[Axis] = field(default_factory=list)
    """Axes over which two tensors of the model are contracted (low rank, spectral norm)."""
    used: list[Axis] = field(default_factory=list)
    """Axes over which an activation is contracted with a tensor of the model."""
    norms: list[Norm] = field(default_factory=list)
    blind: list[Axis] = field(default_factory=list)
    """Axes on which something else depends than a product with a tensor of the model."""
    outside: list[Axis] = field(default_factory=list)
    """Axes read by a tensor of the model where no module's input can be gated."""
    reads: list[Read] = field(default_factory=list)
    counts: dict[tuple[str, str], Axis] = field(default_factory=dict)
    """(module, attribute) → the axis whose indices it counts."""
    hints: list[Count] = field(default_factory=list)
    """Axes whose size a view takes from an attribute by the looks of it."""
    inexact: list[tuple[Axis, str]] = field(default_factory=list)
    """Axes whose removal changes more than silence does, and why."""
    cuts: list[tuple[Axis, str]] = field(default_factory=list)
    """Axes that a slice cuts at positions nothing is seen to keep, and where."""
    roles: list[tuple[Axis, str]] = field(default_factory=list)
    """Axes with a name of their own within the producing module's parent: heads, qk_dim, groups."""
    seen: dict[int, Value] = field(default_factory=dict)
    """Tensors whose shapes the network reads, by the number of the reading."""
    work: list[tuple[str, tuple[Axis, ...]]] = field(default_factory=list)
    """Per operator that multiplies matrices the running module and the axes it runs over."""
    chosen: dict[str, tuple[int, Axis]] = field(default_factory=dict)
    """Per operator that reads a raw input: the axis of its first argument whose indices are units of the input, for it alone."""
    returned: dict[tuple[int, int], Axis] = field(default_factory=dict)
    """(number of a tensor the network returns, dimension) → its axis, where entries of it may leave."""
    node: torch.fx.Node | None = None
    seeded: int = 0
    """Labels below this number belong to indices of tensors; those above were made where a view splits an axis."""

    @property
    def where(self) -> str:
        return location(self.node) if self.node is not None else "the model"

    @property
    def module(self) -> str:
        return module_path(self.node) if self.node is not None else ""

    @property
    def owner(self) -> nn.Module | None:
        """The module whose forward is running; None where the path names no module (a module called through a hook)."""
        try:
            return self.model.get_submodule(self.module)
        except AttributeError:
            return None

    @property
    def users(self) -> list[torch.fx.Node]:
        """The operators that read the running one's result."""
        return list(self.node.users) if self.node is not None else []

    def shape(self, index: int | None = None) -> tuple[int, ...]:
        """Shape of the running operator's result."""
        assert self.node is not None
        value = self.node.meta["val"]
        return tuple(value.shape if index is None else value[index].shape)

    def produce(self, axis: Axis, name: str) -> None:
        """The units of `axis` are made here; the first module's name stays."""
        self.produced.append((axis.rows[axis.rows != NONE], name))

    def contract(self, left: Value, i: int, right: Value, j: int, *, gate: bool = False, reader: str = "") -> None:
        """Axis i of `left` meets axis j of `right` in a sum over products.

        gate: `left` is the input of a module, the running one or `reader`.
        """
        a, b = left.axes[i], right.axes[j]
        gate = gate and right.constant and i > 0  # what has no batch in front is no input a gate could draw for
        self.meet(Value(left.axes) if gate else left, a, right, b)
        rows = left.axes[0].size if gate else None
        self.note_read(i - len(left.axes), a if a.tracked else b, rows, tensor=left.constant or right.constant, reader=reader)

    def meet(self, left: Value, a: Axis, right: Value, b: Axis) -> None:
        """Unite the axes of a contraction; note which tensor of the model does the reading, if one does."""
        self.labels.unify(a, b, self.where)
        constants = [axis for value, axis in ((left, a), (right, b)) if value.constant]
        self.read.extend(axis.rows[axis.rows != NONE] for axis in constants)
        if self.node is not None:
            self.computed.extend((self.node, axis) for value, axis in ((left, a), (right, b)) if value.constant and not value.name)
        (self.met, self.used, self.folded)[len(constants)].append(a)
        if len(constants) == 1 and (constants[0].rows >= self.seeded).any():
            self.met.append(a)

    def note_read(
        self, axis: int, labels: Axis, rows: int | None, *, tensor: bool = True, reader: str = "", along: Axis | None = None
    ) -> None:
        """Units are read here: by the running module, or `reader`, through its input of so many rows, or where no input can be gated.

        rows: None where there is no such input; where their number depends on values (the tokens that chose an expert) they are not the
        batch, whose examples gates are drawn and judged for. tensor: whether it is a tensor of the model that reads the units.
        along: all that the input's axis carries, if more than these units.
        """
        if not labels.tracked:
            return
        if type(rows) is int:
            self.reads.append(Read(reader or self.module, axis, labels, along, rows))
        else:
            (self.outside if tensor else self.blind).append(labels)

    def count(self, attribute: str, axis: Axis) -> None:
        """The running module's `attribute` is the number of indices of `axis`."""
        self.count_of(self.module, attribute, axis)

    def count_of(self, module: str, attribute: str, axis: Axis) -> None:
        """The named module's `attribute` is the number of indices of `axis`; two axes counted by one attribute are united."""
        if (module, attribute) in self.counts:
            self.labels.unify(self.counts[module, attribute], axis, f"`{attribute}` of {module or 'the model'}")
        elif axis.tracked:
            self.counts[module, attribute] = axis

    def hint(self, attributes: Iterable[str], axis: Axis) -> bool:
        """Attributes of the running module that have the axis' size may be where it comes from; True if there is one."""
        owner = self.owner
        found = [name for name in attributes if owner is not None and axis.tracked and owner.__dict__.get(name) == axis.size]
        self.hints.extend(Count(self.module, name, axis) for name in found)
        return bool(found)

    def take_hints(self) -> None:
        """Count the hinted axes; where an attention says which axes are its heads, equal sizes elsewhere are coincidence."""
        attending = {int(root) for axis, _ in self.roles for root in self.labels.resolve(axis).reshape(-1)} - {NONE}
        by_attribute: dict[tuple[str, str], list[Count]] = {}
        for hint in self.hints:
            by_attribute.setdefault((hint.module, hint.attribute), []).append(hint)
        known = set(self.counts)
        for hints in (hints for place, hints in by_attribute.items() if place not in known):
            meant = [hint for hint in hints if attending & set(self.labels.resolve(hint.labels).reshape(-1).tolist())]
            for hint in meant or hints:
                self.count_of(hint.module, hint.attribute, hint.labels)

    def unify_shapes(self, values: list[Value], shape: tuple[int, ...]) -> Value:
        """Broadcast values against each other (right-aligned), uniting the axes that meet index by index."""
        axes: list[Axis] = []
        for d in range(-len(shape), 0):
            size = shape[d]
            meeting = [value.axes[d] for value in values if len(value.axes) >= -d and same_size(value.axes[d].size, size)]
            axis = meeting[0] if meeting else fixed(size)
            for other in meeting[1:]:
                axis = self.labels.unify(axis, other, self.where)
            axes.append(axis)
        return Value(tuple(axes), all(value.constant for value in values))

    def add_up(self, terms: list[Value], shape: tuple[int, ...], beside: Iterable[Value] = ()) -> Value:
        """`unify_shapes` of terms, with what is no term `beside` them: zero is what all of them are together where each is zero."""
        result = self.unify_shapes([*terms, *beside], shape)
        meeting = [pair for term in terms for pair in zip(result.axes[::-1], term.axes[::-1], strict=False)] if result.constant else []
        for axis, other in meeting:
            if other is not axis and same_size(other.size, axis.size):
                self.added.extend(itertools.product(axis.rows, other.rows))
        return result

    def freeze(self, value: Value, reason: str) -> None:
        for axis in value.axes:
            self.labels.freeze(axis, reason)

    def made(self) -> tuple[Rows, Rows, list[str]]:
        """Raw labels in the order in which their units are first made, the number of the first name each got, and the names ('' last)."""
        names = [*dict.fromkeys(name for _, name in self.produced if name), ""]
        number = {name: index for index, name in enumerate(names)}
        labels = np.concatenate([np.empty(0, np.int64), *(rows for rows, _ in self.produced)])
        given = np.repeat([number[name] for _, name in self.produced], [len(rows) for rows, _ in self.produced]).astype(np.int64)
        first = earliest(labels, self.labels.count)
        named = given < len(names) - 1
        name = np.append(given[named], len(names) - 1)[earliest(labels[named], self.labels.count)]
        order = np.flatnonzero(first[labels] == np.arange(len(labels)))
        return labels[order], name[labels[order]], names

    def unknown(self, shape: tuple[int, ...], constant: bool = False, why: str = "") -> Value:
        return Value(tuple(Axis(size, why=why) for size in shape), constant)

    def run_over(self, axis: Axis) -> None:
        """The running operator's result depends on how many units there are: they may leave, but not exactly."""
        if axis.tracked:
            self.inexact.append((axis, f"{self.where} runs over it"))
            self.blind.append(axis)


def earliest(labels: Rows, count: int) -> Rows:
    """For each of `count` labels the place of its first occurrence in `labels`; where there is none, len(labels)."""
    place = np.full(count, len(labels))
    place[labels[::-1].copy()] = np.arange(len(labels) - 1, -1, -1)
    return place
