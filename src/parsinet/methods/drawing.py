"""For how many examples gates are drawn: once for a whole batch, or for each of its examples."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor
from torch.utils._pytree import tree_leaves

from parsinet.errors import RunError, UsageError
from parsinet.structure import Structure

BATCH, EXAMPLE = "batch", "example"
ROWS = 'gates per example (draws="example", estimator="drawn-labels")'
INSTEAD = 'Use draws="batch" and another estimator'


def examples_in(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> int:
    """B of a forward pass: the length of the first tensor the model is given. RunError without one that has a first axis."""
    for leaf in tree_leaves((args, kwargs)):
        if isinstance(leaf, Tensor) and leaf.dim():
            return len(leaf)
    raise RunError(f"Gates: {ROWS} want a tensor with the examples first among the model's inputs. {INSTEAD}.")


def check_sites(structure: Structure, groups: list[str]) -> None:
    """UsageError for groups gated in the weights that read them, which are the same for all examples."""
    within = [name for name in groups if not structure.gateable(name)]
    if within:
        raise UsageError(
            f'Gates: draws="example" cannot be had for {", ".join(within)}: read where no module\'s input can be multiplied, as in '
            'recurrence, so gated in weights, which have no batch axis. Use draws="batch", or name other groups.'
        )


def check_examples(xi: Tensor, h: Tensor, group: str) -> None:
    """RunError if there is a row of gates per example and the gated tensor has not the examples first."""
    if xi.dim() == 2 and len(xi) != len(h):
        raise RunError(
            f"Gates: {ROWS} want the examples first wherever {group} is read; the batch has {len(xi)}, the tensor read there is "
            f"{list(h.shape)}. {INSTEAD}, or leave {group} out of groups."
        )
