"""Running a copy of the network: on copies of the inputs, with its results as a flat list of tensors, compared up to rounding."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves, tree_map

from parsinet.structure.export import ExampleInputs, as_call, results


@dataclass(frozen=True)
class Call:
    """Positional and keyword arguments of one forward pass."""

    args: tuple[Any, ...]
    kwargs: dict[str, Any]

    @staticmethod
    def of(example_inputs: ExampleInputs) -> Call:
        """The call that example inputs stand for."""
        return Call(*as_call(example_inputs))

    def double(self) -> Call:
        """The same with every floating-point tensor in float64."""
        return Call(*tree_map(lambda leaf: leaf.double() if _is_float(leaf) else leaf, (self.args, self.kwargs)))

    def on(self, model: nn.Module) -> list[Tensor]:
        """The tensors the model returns; it may write into its inputs, which are copies."""
        args, kwargs = tree_map(lambda leaf: leaf.clone() if isinstance(leaf, Tensor) else leaf, (self.args, self.kwargs))
        with torch.no_grad():
            return [leaf for leaf in tree_leaves(results(model(*args, **kwargs))) if isinstance(leaf, Tensor)]


def close(actual: list[Tensor], expected: list[Tensor], tolerance: float) -> bool:
    """Same shapes, and no entry differs by more than `tolerance` times the output's size (at least 1)."""
    if [tensor.shape for tensor in actual] != [tensor.shape for tensor in expected]:
        return False
    for a, b in zip(actual, expected, strict=True):
        scale = float(b.abs().max()) if b.numel() and b.is_floating_point() else 0.0
        if not torch.allclose(a, b, rtol=0, atol=tolerance * max(1.0, scale), equal_nan=True):
            return False
    return True


def _is_float(leaf: Any) -> bool:
    return isinstance(leaf, Tensor) and leaf.is_floating_point()
