"""Modules that return other units than they are given, as many by chance: their stand-in answers with a size of its own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from torch.fx import Node

from parsinet.structure.axes import Axis
from parsinet.structure.blocks import Place
from parsinet.structure.blocks_absent import Answer
from parsinet.structure.blocks_graph import Graph, shape_of
from parsinet.structure.tracing import Tracing, Value


@dataclass(frozen=True)
class Carried:
    """The units that axes carry. values: what propagation made of nodes, by name; axes: those of the model's tensors."""

    tracing: Tracing
    values: Mapping[str, Any]
    axes: Mapping[str, tuple[Axis, ...]]

    def sized(self, path: str, answer: Answer, nodes: Sequence[Node], graph: Graph) -> tuple[Answer, Sequence[Place]]:
        """What a module's stand-in answers, and dimensions of its tensors that are as long as the one axis of its result that carries
        other units than its argument's. The answer as it is, and none, where there is no such axis. nodes: what the module runs."""
        inside = set(nodes)
        made = [node for node in nodes if not inside.issuperset(graph.users[node])]
        given = [node for node in graph.entries(nodes) if shape_of(node) == shape_of(made[0])] if len(made) == 1 else []
        values = [value for node in (*given, *made) if isinstance(value := self.values.get(node.name), Value)]
        if answer.axis is not None or not answer.single or (len(given), len(values)) != (1, 2):
            return answer, ()
        before, after = (value.axes for value in values)
        others = [d for d, (one, other) in enumerate(zip(before, after, strict=True)) if not self._same(one, other)]
        own = [(name, d) for name in self.axes if name.startswith(f"{path}.") for d in range(len(self.axes[name]))]
        places = [(name, d) for name, d in own if len(others) == 1 and self._same(self.axes[name][d], after[others[0]])]
        return (replace(answer, axis=others[0] - len(after), size=after[others[0]].size), places) if places else (answer, ())

    def _same(self, one: Axis, other: Axis) -> bool:
        return np.array_equal(self.tracing.labels.resolve(one), self.tracing.labels.resolve(other))
