"""One dimension of a tensor and the labels its indices carry."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

Rows = NDArray[np.int64]
NONE = -1

TRIED = ("real_tensor_prop_unbacked_vals", "unbacked_var_to_val")
"""Where torch, newer and older, keeps what symbols of sizes are on the example inputs."""


@dataclass(frozen=True)
class Axis:
    """One dimension of a tensor: `rows[k, i]` is the k-th label of index i, -1 for none. Without rows its size is fixed.

    A *free* axis belongs to a constant that fits any size (the zeros an LSTM starts from): it constrains nothing. `why` says, of
    an axis that lost its labels in an operator no rule understands, which one that was.
    """

    size: int
    rows: Rows = field(default_factory=lambda: np.empty((0, 0), np.int64))
    free: bool = False
    why: str = ""

    @property
    def tracked(self) -> bool:
        return len(self.rows) > 0


def marked(count: int, rows: Iterable[Rows]) -> NDArray[np.bool_]:
    """Per label whether it occurs in any of the rows; a last entry, for no label, is False."""
    found = np.zeros(count + 1, dtype=bool)
    for labels in rows:
        found[labels] = True
    found[NONE] = False
    return found


def fixed(size: int) -> Axis:
    """An axis nothing may be removed from and nothing is known of: batch, positions, model inputs."""
    return Axis(size)


def labelled(rows: Rows) -> Axis:
    """An axis with these label rows; rows without a single label are dropped."""
    rows = np.atleast_2d(rows)
    return Axis(rows.shape[1], rows[(rows != NONE).any(axis=1)])


def same_size(one: Any, other: Any) -> bool:
    """Whether two sizes are seen to be one. Those that depend on values (the tokens that chose an expert) are compared as formulas: asked
    for their truth, which no graph knows, torch raises, and prints where."""
    return bool(formula(one) == formula(other))


def formula(size: Any) -> Any:
    """The size as a number, or what it is computed by where it depends on values and torch was not told to try them."""
    if isinstance(size, int):
        return size
    names = vars(size.node.shape_env)
    found = size.node.expr.xreplace(next((names[name] for name in TRIED if name in names), {}))
    return int(found) if found.is_number else found


def part(axis: Axis, cut: slice) -> Axis:
    """The indices of a slice."""
    rows: Rows = axis.rows[:, cut]
    return labelled(rows) if axis.tracked else replace(axis, size=len(range(axis.size)[cut]))


def concatenate(axes: list[Axis]) -> Axis:
    """Axes one after the other; labels keep their order."""
    depth = max(len(axis.rows) for axis in axes)
    if depth == 0:
        why = next((axis.why for axis in axes if axis.why), "")
        return Axis(sum(axis.size for axis in axes), why=why)
    parts = []
    for axis in axes:
        rows = np.full((depth, axis.size), NONE)
        rows[: len(axis.rows)] = axis.rows if axis.tracked else NONE
        parts.append(rows)
    return labelled(np.concatenate(parts, axis=1))
