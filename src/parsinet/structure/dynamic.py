"""Sizes that depend on values (the tokens that choose an expert): symbols in the graph, numbers on the example inputs."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from parsinet.structure.export import Exported
from parsinet.structure.removal import tensors_of
from parsinet.structure.running import Call

Size = int | torch.SymInt


@dataclass
class Sizes:
    """What symbolic sizes of a graph are on a call; the graph is run when the first is asked for."""

    exported: Exported
    model: nn.Module
    call: Call
    _known: dict[Any, int] = field(default_factory=dict)

    def of(self, size: Size) -> int:
        """A size, or a product of sizes, as a number."""
        if isinstance(size, int):
            return size
        if not self._known:
            self._run()
        return int(size.node.expr.subs(self._known))

    def _run(self) -> None:
        """Run the graph on copies: it may write into inputs and buffers."""
        graph, names = self.exported.graph, self.exported.tensors
        tensors = {**self.exported.constants, **tensors_of(self.model)}
        given = iter(tree_leaves((self.call.args, self.call.kwargs)))
        placeholders = [node.name for node in graph.nodes if node.op == "placeholder"]
        values = [tensors[names[name]] if name in names else next(given) for name in placeholders]
        copies = [value.detach().clone() if isinstance(value, Tensor) else value for value in values]
        with torch.no_grad():
            _Reader(torch.fx.GraphModule({}, graph), self._known).run(*copies)


class _Reader(torch.fx.Interpreter):
    """Notes of every tensor how long the axes are whose length is a symbol of its own."""

    def __init__(self, module: torch.fx.GraphModule, known: dict[Any, int]) -> None:
        super().__init__(module)
        self._known = known

    def run_node(self, n: torch.fx.Node) -> Any:
        result, expected = super().run_node(n), n.meta.get("val")
        if isinstance(result, Tensor) and isinstance(expected, Tensor):
            sizes: Iterable[Size] = expected.shape
            for size, found in zip(sizes, result.shape, strict=True):
                if not isinstance(size, int) and size.node.expr.is_Symbol:
                    self._known[size.node.expr] = found
        return result
