"""Weights computed from tensors of the model: whose units they make and read, and where they are not zero although those tensors are."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.fx import Node
from torch.fx.node import map_arg

from parsinet.structure.axes import NONE, Axis, labelled, marked
from parsinet.structure.export import Exported
from parsinet.structure.groups import UnitGroup
from parsinet.structure.origins import location
from parsinet.structure.plan import Plan
from parsinet.structure.proof import DIFFERS
from parsinet.structure.propagate import mutable
from parsinet.structure.removal import tensors_of
from parsinet.structure.traced import Structure
from parsinet.structure.tracing import Tracing, Value


def note_terms(tracing: Tracing) -> None:
    """Where a sum of tensors makes or reads units, its first term was noted: note the others too.

    In reverse order, since a term may be a sum computed before.
    """
    count = tracing.labels.count
    read, made = marked(count, tracing.read), marked(count, [rows for rows, _ in tracing.produced])
    for one, other in reversed(tracing.added):
        there = (one != NONE) & (other != NONE)
        one, other = one[there], other[there]
        reading, making = (other[found[one] & ~found[other]] for found in (read, made))
        read[reading] = made[making] = True
        tracing.read.append(reading)
        tracing.produced.append((making, ""))
        if (reading >= tracing.seeded).any():
            tracing.met.append(labelled(reading))


@dataclass(frozen=True)
class Computed:
    """The weights that operators read and that the network computes. values: what propagation made of nodes, by name; axes: of tensors."""

    tracing: Tracing
    exported: Exported
    values: Mapping[str, Any]
    axes: Mapping[str, tuple[Axis, ...]]

    def explain(self, structure: Structure) -> Structure:
        """The structure; where a removal was seen to differ from silence, and such a weight is not zero in it, the reason says so."""
        groups = {
            name: self._explained(structure, group) if group.reason == DIFFERS else group for name, group in structure.layout.groups.items()
        }
        return Structure(replace(structure.layout, groups=groups))

    def _explained(self, structure: Structure, group: UnitGroup) -> UnitGroup:
        plan = structure.plan({group.name: np.arange(group.size) % 3 != 1})
        silent = [self.axes[name][d].rows[:, list(gone)] for (name, d), gone in plan.silent.items() if name in self.axes]
        leaving = marked(self.tracing.labels.count, silent)
        for reader, axis in self.tracing.computed if not plan.norms else ():
            gone: NDArray[np.bool_] = np.any(leaving[axis.rows], axis=0)
            if gone.any() and any(self._lasts(weight, axis, gone, plan) for weight in reader.all_input_nodes):
                return replace(group, reason=f"{location(reader)} reads a weight of it that is not zero where its parameters are zero")
        return group

    def _lasts(self, weight: Node, axis: Axis, gone: NDArray[np.bool_], plan: Plan) -> bool:
        """Whether a weight that is read along `axis` is not zero at the indices `gone` while the plan's units are silent."""
        value = self.values.get(weight.name)
        dims = [d for d, other in enumerate(value.axes) if other is axis] if isinstance(value, Value) else []
        found = self._evaluated(weight, plan) if dims else None
        return found is not None and any(bool(found.movedim(d, 0)[torch.from_numpy(gone)].any()) for d in dims)

    def _evaluated(self, weight: Node, plan: Plan) -> Tensor | None:
        """Its value; None where it depends on more than the model's tensors, or is written into."""
        needed = _ancestors(weight)
        if any(mutable(user) for node in needed for user in node.users):
            return None
        found: dict[Node, Any] = {}
        for node in (node for node in self.exported.graph.nodes if node in needed):
            if node.op == "call_function":
                args, kwargs = map_arg((node.args, node.kwargs), found.__getitem__)
                found[node] = node.target(*args, **kwargs)
            elif node.name in self.exported.tensors:
                found[node] = self._silenced(node, plan)
            else:
                return None
        return found[weight]  # type: ignore[no-any-return]

    def _silenced(self, node: Node, plan: Plan) -> Tensor:
        """The tensor that a placeholder stands for, a copy, with the plan's silence in it."""
        name = self.exported.tensors[node.name]
        tensor: Tensor = {**self.exported.constants, **tensors_of(self.tracing.model)}[name].detach().clone()
        for (silent, dim), indices in plan.silent.items():
            if silent == self.values[node.name].name:
                tensor.index_fill_(dim, torch.tensor(indices, device=tensor.device), 0)
        return tensor


def _ancestors(node: Node) -> set[Node]:
    """The node and all that it is computed from."""
    found, waiting = {node}, [node]
    while waiting:
        more = set(waiting.pop().all_input_nodes) - found
        found |= more
        waiting.extend(more)
    return found
