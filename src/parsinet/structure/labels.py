"""Labels: who must stay or leave together. A union-find over index labels, with products for axes that views split.

Every index of every dimension of every tensor carries a set of labels; it leaves when one of them leaves. Labels that
operators unite form a class (a *unit*). A label may be bound to a product of other labels: the 64 outputs of a query projection
become 4 heads × 16 dimensions, and index h·16+d then carries {head h, dimension d}.
"""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from parsinet.structure.axes import NONE, Axis, Rows, fixed, labelled, marked


class Labels:
    """The label store of one traced network.

    Arrays have an entry per label and a last one for "no label" (index -1), which is its own class and is never anything else.
    """

    def __init__(self) -> None:
        self._parent: Rows = np.array([NONE])
        self._special = np.zeros(1, dtype=bool)
        """Whether a class is a product or frozen."""
        self._factors: Rows = np.full((1, 2), NONE)
        self._arity: Rows = np.zeros(1, np.int64)
        """How many of a class' factors count; 0: it is no product."""
        self._scratch: Rows = np.zeros(1, np.int64)
        self._count = 0
        self._reason: dict[int, str] = {}

    def fresh(self, count: int) -> Rows:
        """`count` new labels, each its own class."""
        start, self._count = self._count, self._count + count
        if self._count >= len(self._parent):
            self._grow(2 * self._count + 1024 - len(self._parent))
        return np.arange(start, self._count)

    def _grow(self, more: int) -> None:
        """Room for more labels, before the last entry."""
        size = len(self._parent) - 1
        self._parent = np.concatenate([self._parent[:-1], np.arange(size, size + more), [NONE]])
        self._special = np.append(self._special, np.zeros(more, dtype=bool))
        self._arity = np.append(self._arity, np.zeros(more, np.int64))
        self._scratch = np.zeros(size + more + 1, np.int64)
        self._factors = np.concatenate([self._factors, np.full((more, self._factors.shape[1]), NONE)])

    @property
    def count(self) -> int:
        return self._count

    def find(self, labels: Rows) -> Rows:
        """The class of each label (its root); -1 stays -1."""
        root, parent = labels, self._parent[labels]
        while not np.array_equal(parent, root):
            root, parent = parent, self._parent[parent]
        self._parent[labels] = root
        return root

    def _root(self, label: int) -> int:
        parent = self._parent
        while parent[label] != label:
            parent[label] = parent[parent[label]]
            label = int(parent[label])
        return label

    def unite(self, left: int, right: int) -> None:
        """Make two labels one class; where both are products, unite factor by factor."""
        a, b = self._root(left), self._root(right)
        if a == b:
            return
        a, b = min(a, b), max(a, b)
        first, second = self._product(a), self._product(b)
        self._parent[b] = a
        self._special[a] |= self._special[b]
        reason = self._reason.pop(a, None) or self._reason.pop(b, None)
        if second and not first:
            self._declare(np.array([a]), np.array([second]).T)
        if reason is not None:
            self.freeze_label(a, reason)
        if first and second:
            self._unite_products(first, second)
        if self._contains(self._product(a), a):
            factors, self._arity[a] = self._product(a), 0
            for label in (a, *factors):
                if label != NONE:
                    self.freeze_label(label, "an index would be a factor of itself")

    def _product(self, root: int) -> tuple[int, ...]:
        """The factors of a class, none if it is no product."""
        return tuple(self._factors[root, : self._arity[root]].tolist())

    def _declare(self, roots: Rows, factors: Rows) -> None:
        """Make each class the product of its column of `factors`."""
        number = len(factors)
        if number > self._factors.shape[1]:
            wider = np.full((len(self._factors), number - self._factors.shape[1]), NONE)
            self._factors = np.concatenate([self._factors, wider], axis=1)
        self._factors[roots, :number] = factors.T
        self._arity[roots] = number
        self._special[roots] = True

    def _unite_products(self, first: tuple[int, ...], second: tuple[int, ...]) -> None:
        if len(first) == len(second):
            for one, other in zip(first, second, strict=True):
                self._unite_or_freeze(one, other, "views split its indices in two different ways")
        else:
            for label in (*first, *second):
                if label != NONE:
                    self.freeze_label(label, "views split its indices in two different ways")

    def _unite_or_freeze(self, left: int, right: int, reason: str) -> None:
        if left != NONE and right != NONE:
            self.unite(left, right)
        elif max(left, right) != NONE:
            self.freeze_label(max(left, right), reason)

    def _contains(self, factors: tuple[int, ...], root: int) -> bool:
        roots = [self._root(factor) for factor in factors if factor != NONE]
        return root in roots or any(self._contains(self._product(other), root) for other in roots)

    def bind(self, label: int, factors: tuple[int, ...]) -> None:
        """Declare `label` the product of `factors`: it lives while all of them live."""
        if len(factors) == 1:
            self._unite_or_freeze(label, factors[0], "belongs to an index of fixed size")
            return
        root = self._root(label)
        if known := self._product(root):
            self._unite_products(known, factors)
            return
        roots = [self._root(factor) for factor in factors if factor != NONE]
        if not roots or self._contains(factors, root):
            for frozen in (root, *roots):
                self.freeze_label(frozen, "views split its indices in two different ways")
            return
        self._declare(np.array([root]), np.array([factors]).T)
        reason = self._reason.get(root)
        if reason is not None:
            self.freeze_label(root, reason)

    def _bind_all(self, labels: Rows, factors: Rows) -> bool:
        """Bind every label to its column of `factors` in one go, if nothing is known of them yet that would stand against it."""
        roots, parts = self.find(labels), self.find(factors)
        known = self._special[roots].any() or self._special[parts].any() or min(roots.min(), parts.min()) == NONE
        if known or len(factors) < 2 or not self._distinct(roots) or marked(self._count, [roots])[parts].any():
            return False
        self._declare(roots, factors)
        return True

    def _distinct(self, labels: Rows) -> bool:
        """Whether no label occurs twice."""
        places = np.arange(len(labels))
        self._scratch[labels] = places
        return np.array_equal(self._scratch[labels], places)

    def freeze_label(self, label: int, reason: str) -> None:
        """The class of `label` can never be removed; the first reason given is kept."""
        root = self._root(label)
        self._reason.setdefault(root, reason)
        self._special[root] = True
        for factor in self._product(root):
            if factor != NONE and self._root(factor) != root and self._root(factor) not in self._reason:
                self.freeze_label(factor, reason)

    def freeze(self, axis: Axis, reason: str) -> None:
        """Freeze every label of an axis."""
        if axis.tracked:
            for label in np.unique(self.find(axis.rows[axis.rows != NONE])):
                self.freeze_label(int(label), reason)

    def reason(self, root: int) -> str | None:
        """Why a class is frozen; None if it is not."""
        return self._reason.get(root)

    def first_reason(self, roots: Rows) -> str:
        """Why the first frozen one among these classes is; '' if none is."""
        frozen = roots[self._special[roots]].tolist()
        return next((self._reason[root] for root in frozen if root in self._reason), "")

    def frozen(self) -> NDArray[np.bool_]:
        """Per class whether it is frozen."""
        found = np.zeros(self._count, dtype=bool)
        found[list(self._reason)] = True
        return found

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

    def _unite_all(self, left: Rows, right: Rows) -> bool:
        """Unite classes pair by pair in one go, if each occurs once and nothing more is known of any."""
        pairs = np.concatenate([left, right])
        if (pairs == NONE).any() or self._special[pairs].any() or not self._distinct(pairs):
            return False
        self._parent[np.maximum(left, right)] = np.minimum(left, right)
        return True

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
        if np.array_equal(left, right):
            return
        wanted = [_pattern(row) for row in left]
        for order in itertools.permutations(range(len(right))):
            if all(np.array_equal(pattern, _pattern(right[k])) for pattern, k in zip(wanted, order, strict=True)):
                for row, k in zip(left, order, strict=True):
                    self._unify_rows(row, right[k], where)
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


def _pattern(row: Rows) -> NDArray[np.intp]:
    """Which indices share a label, independent of the labels' values: numbered by first appearance."""
    _, first, inverse = np.unique(row, return_index=True, return_inverse=True)
    rank = np.empty(len(first), np.intp)
    rank[np.argsort(first)] = np.arange(len(first))
    return rank[inverse]
