"""Units of the model's own inputs: features of a raw input tensor that only linear layers and convolutions read.

The input itself keeps its shape, so whoever calls the model notices nothing; what leaves are columns of the readers, which select their
features first (`selecting`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from parsinet.errors import UsageError
from parsinet.structure.axes import NONE, Axis, Rows, labelled
from parsinet.structure.export import Exported
from parsinet.structure.groups import Layout, Slot
from parsinet.structure.numbering import Numbering, number_inputs
from parsinet.structure.selecting import KEPT, is_selected, spread
from parsinet.structure.traced import Structure
from parsinet.structure.tracing import Tracing

NAME = "input"


class Inputs:
    """The units of a model's inputs, met before the labels travel and placed in the layout afterwards.

    A unit is what a column of a reader reads: one pixel of a flattened image, a column of a table, a channel of a signal at all
    positions. Columns of different readers that share entries of an input are one unit.
    """

    def __init__(self, tracing: Tracing, exported: Exported, axes: Mapping[str, tuple[Axis, ...]]) -> None:
        self._tracing = tracing
        self._found = number_inputs(tracing.model, exported)
        unit = _units(self._found)
        reasons = _reasons(self._found, unit)
        read = np.unique(np.concatenate([unit[reader.numbers].max(1) for reader in self._found.readers] or [np.empty(0, np.int64)]))
        read = read[read != NONE]
        label = np.full(len(unit) + 1, NONE)
        label[read] = tracing.labels.fresh(len(read))
        self.names = self._name(label, read)
        for number in read.tolist():
            if number in reasons:
                tracing.labels.freeze_label(int(label[number]), reasons[number])
        for reader in self._found.readers:
            self._meet(reader.node, reader.module, reader.axis, label[unit[reader.numbers].max(1)], axes)

    def placed(self, layout: Layout) -> Layout:
        """The layout with the readers' selections: index buffers that are cut with the columns, inputs that keep their size."""
        tensors, reads = dict(layout.tensors), dict(layout.reads)
        first = {id(tensor): name for name, tensor in reversed(list(self._tracing.model.named_parameters(remove_duplicate=False)))}
        places = {(reader.module, reader.axis): reader for reader in self._found.readers}
        for (path, axis), reader in places.items():
            layer = self._tracing.model.get_submodule(path)
            columns = tensors.get((first[id(layer.get_parameter("weight"))], 1))
            if columns is None:
                continue
            tensors[_join(path, KEPT), 0] = columns
            if is_selected(layer):
                spread_out = {name: spread(layer, owner, reader.width) for name, owner in columns.owners.items()}
                reads[path, axis] = Slot(reader.width, spread_out)
        return replace(layout, tensors=tensors, reads=reads, selecting=frozenset(path for path, _ in places))

    def check(self, structure: Structure) -> None:
        """UsageError, with the reasons, if no input can leave."""
        groups = [group for group in structure.groups if group.name.partition("#")[0] in self.names]
        if any(group.removable for group in groups):
            return
        told = [f"{group.name}: {group.reason}" for group in groups]
        told += [reason for _, reason in self._found.refused if not groups]
        why = "; ".join(dict.fromkeys(told)) or "no linear layer or convolution reads one"
        raise UsageError(f"inputs=True: no input of this network can be removed ({why}).")

    def _name(self, label: Rows, read: Rows) -> set[str]:
        """Say where the units are made: a group per input, named `input`, or `input.<argument>` where there are several."""
        names = set()
        for argument, (first, last) in self._found.inputs.items():
            mine = read[(read >= first) & (read <= last)]
            name = NAME if len(self._found.inputs) == 1 else f"{NAME}.{argument}"
            if len(mine):
                names.add(name)
                self._tracing.produced.append((label[mine], name))
        return names

    def _meet(self, node: str, module: str, axis: int, row: Rows, axes: Mapping[str, tuple[Axis, ...]]) -> None:
        """Let the reader, and nobody else, see the units in its input."""
        columns = labelled(row)
        self._tracing.chosen[node] = (axis, columns)
        if is_selected(self._tracing.model.get_submodule(module)):
            self._tracing.labels.unify(columns, axes[_join(module, KEPT)][0], f"the selection of {module}")


def _units(found: Numbering) -> Rows:
    """For each entry's number the smallest number of its unit, -1 for padding: entries that one column reads are one unit."""
    none = found.count + 1
    unit = np.arange(found.count + 1)
    unit[0] = none
    changed = True
    while changed:
        before = unit.copy()
        for reader in found.readers:
            column = unit[reader.numbers].min(1)
            np.minimum.at(unit, reader.numbers, column[:, None])
            unit[0] = none
        changed = not np.array_equal(before, unit)
    unit[0] = NONE
    return unit


def _reasons(found: Numbering, unit: Rows) -> dict[int, str]:
    """Unit → the first reason why one of its entries is needed elsewhere."""
    reasons: dict[int, str] = {}
    for numbers, reason in found.refused:
        for number in np.unique(unit[numbers]).tolist():
            reasons.setdefault(number, reason)
    return reasons


def _join(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name
