"""Labels: who must stay or leave together. A union-find over index labels, with products for axes that views split.

Every index of every dimension of every tensor carries a set of labels; it leaves when one of them leaves. Labels that
operators unite form a class (a *unit*). A label may be bound to a product of other labels: the 64 outputs of a query projection
become 4 heads × 16 dimensions, and index h·16+d then carries {head h, dimension d}.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from parsinet.structure.axes import NONE, Axis, Rows, fixed, labelled
from parsinet.structure.store import Store

Pattern = NDArray[np.intp]
"""Which indices share a label: labels numbered by first appearance."""


class Labels(Store):
    """The labels of one traced network as its axes carry them: axes that meet, that views split and merge."""

    def numbered(self, size: int) -> Axis:
        """An axis with labels of its own; one whose length depends on values has none, and nothing that leaves."""
        return Axis(size, self.fresh(size)[None]) if type(size) is int and size > 0 else fixed(size)

    def freeze(self, axis: Axis, reason: str) -> None:
        """Freeze every label of an axis."""
        if axis.tracked:
            for label in np.unique(self.find(axis.rows[axis.rows != NONE])):
                self.freeze_label(int(label), reason)

    def resolve(self, axis: Axis) -> Rows:
        """The axis' rows as classes, products replaced by their factors."""
        found = self.find(axis.rows)
        if not self._arity[found].any():
            return found
        done: list[Rows] = []
        rows = list(found)
        while rows:
            row = rows.pop(0)
            arity = self._arity[row]
            if arity.any():
                rows[:0] = self.find(self._expand(row, arity))
            else:
                done.append(row)
        return np.stack(done)

    def _expand(self, row: Rows, arity: Rows) -> Rows:
        """One row per factor: products replaced by their factors, the other labels in the first row."""
        number = np.arange(arity.max())[:, None]
        expanded: Rows = np.where(number < arity, self._factors[row, : len(number)].T, NONE)
        expanded[0] = np.where(arity, expanded[0], row)
        return expanded

    def unify(self, left: Axis, right: Axis, where: str) -> Axis:
        """Two axes that meet index by index in one operator; returns the axis of the result."""
        if left is right or right.free:
            return left
        if left.free:
            return right
        if not left.tracked or not right.tracked:
            known = left if left.tracked else right
            other = right if left.tracked else left
            why = other.why or f"meets an axis of fixed size at {where}"
            self.freeze(known, why)
            return replace(other, why=why) if known.tracked else other
        a, b = self.resolve(left), self.resolve(right)
        if len(a) == 1 and len(b) == 1:
            self._unify_rows(a[0], b[0], where)
        elif len(a) == len(b):
            self._unify_factored(a, b, where)
        elif 1 in (len(a), len(b)):
            single, product = (a[0], b) if len(a) == 1 else (b[0], a)
            self._bind_rows(single, product, where)
        else:
            for axis in (left, right):
                self.freeze(axis, f"views split its indices in two different ways before {where}")
        return left

    def _unify_rows(self, left: Rows, right: Rows, where: str) -> None:
        different = left != right
        left, right = left[different], right[different]
        if self._unite_all(left, right):
            return
        keys = np.unique((left + 1) * (self._count + 1) + right + 1)
        left, right = keys // (self._count + 1) - 1, keys % (self._count + 1) - 1
        if self._unite_all(left, right):
            return
        for one, other in zip(left.tolist(), right.tolist(), strict=True):
            self._unite_or_freeze(one, other, f"meets an index of fixed size at {where}")

    def _bind_rows(self, single: Rows, product: Rows, where: str) -> None:
        if self._bind_all(single, product):
            return
        for column in np.unique(np.concatenate([single[None], product]), axis=1).T:
            if column[0] == NONE:
                for label in column[1:][column[1:] != NONE]:
                    self.freeze_label(int(label), f"meets an index of fixed size at {where}")
            else:
                self.bind(int(column[0]), tuple(int(label) for label in column[1:]))

    def _unify_factored(self, left: Rows, right: Rows, where: str) -> None:
        """Unite two products factor by factor: those that vary alike, or else with the coarser of both, if only one way of pairing fits.

        Any pairing would let an index leave on both sides at once; of several a wrong one would join units that have nothing in common.
        """
        if np.array_equal(left, right):
            return
        ours, theirs = ([_pattern(row) for row in rows] for rows in (left, right))
        alike = _pairings(ours, theirs, np.array_equal)
        nested = [] if alike else _pairings(ours, theirs, _nested)
        if alike or len(nested) == 1:
            for row, k in zip(left, (alike or nested)[0], strict=True):
                self._unify_rows(self.find(row), self.find(right[k]), where)
            return
        for rows in (left, right):
            self.freeze(labelled(rows), f"views split its indices in two different ways before {where}")

    def split(self, axis: Axis, sizes: tuple[int, ...], where: str) -> list[Axis]:
        """Unflatten one axis into several; labels that vary along more than one of them become products."""
        if axis.free:
            return [Axis(size, free=True) for size in sizes]
        rows: list[list[Rows]] = [[] for _ in sizes]
        for row in self.resolve(axis):
            grid = row.reshape(sizes)
            varying = [d for d in range(len(sizes)) if (grid != grid.take([0], axis=d)).any()]
            if len(varying) > 1:
                self._split_product(grid, varying, rows, where)
                continue
            d = varying[0] if varying else next((d for d, size in enumerate(sizes) if size > 1), 0)
            others = tuple(0 if other != d else slice(None) for other in range(len(sizes)))
            rows[d].append(grid[others])
        return [labelled(np.stack(parts)) if parts else fixed(size) for parts, size in zip(rows, sizes, strict=True)]

    def _split_product(self, grid: Rows, varying: list[int], rows: list[list[Rows]], where: str) -> None:
        if (grid == NONE).any():
            self.freeze(labelled(grid.reshape(1, -1)), f"a view at {where} splits an axis in which some indices are fixed")
            return
        factors = {d: self.fresh(grid.shape[d]) for d in varying}
        for d in varying:
            rows[d].append(factors[d])
        places = np.indices(grid.shape).reshape(grid.ndim, -1)
        product = np.stack([factors[d][places[d]] for d in varying])
        if not self._bind_all(grid.reshape(-1), product):
            for label, column in zip(grid.reshape(-1).tolist(), product.T.tolist(), strict=True):
                self.bind(label, tuple(column))

    def merge(self, axes: list[Axis]) -> Axis:
        """Flatten several axes into one, last one fastest; an index carries the labels of all of them."""
        if len(axes) == 1:
            return axes[0]
        sizes = tuple(axis.size for axis in axes)
        if any(axis.free for axis in axes) and not any(axis.tracked for axis in axes):
            return Axis(int(np.prod(sizes)), free=True)
        parts: list[Rows] = []
        for d, axis in enumerate(axes):
            shape = [1] * len(axes)
            shape[d] = axis.size
            parts.extend(np.broadcast_to(row.reshape(shape), sizes).reshape(-1) for row in axis.rows)
        return labelled(np.stack(parts)) if parts else fixed(int(np.prod(sizes)))


def _pattern(row: Rows) -> Pattern:
    """Which indices share a label, independent of the labels' values: numbered by first appearance."""
    _, first, inverse = np.unique(row, return_index=True, return_inverse=True)
    rank = np.empty(len(first), np.intp)
    rank[np.argsort(first)] = np.arange(len(first))
    return rank[inverse]


def _pairings(left: list[Pattern], right: list[Pattern], fits: Callable[[Pattern, Pattern], bool]) -> list[tuple[int, ...]]:
    """The ways to give every pattern on the left another one on the right that fits it."""
    fitting = [{k for k, other in enumerate(right) if fits(pattern, other)} for pattern in left]
    orders = itertools.permutations(range(len(right)))
    return [order for order in orders if all(k in found for k, found in zip(order, fitting, strict=True))]


def _nested(one: Pattern, other: Pattern) -> bool:
    """Whether indices that share a label in one of the patterns always share one in the other."""
    pairs = len(np.unique(one * (other.max() + 1) + other))
    return bool(pairs == max(one.max(), other.max()) + 1)
