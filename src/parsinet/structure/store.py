"""The labels themselves: a union-find with products, and why a class of them can never leave."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from parsinet.structure.axes import NONE, Rows, marked


class Store:
    """Every label of one traced network, and its class.

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

    def _unite_all(self, left: Rows, right: Rows) -> bool:
        """Unite classes pair by pair in one go, if each occurs once and nothing more is known of any."""
        pairs = np.concatenate([left, right])
        if (pairs == NONE).any() or self._special[pairs].any() or not self._distinct(pairs):
            return False
        self._parent[np.maximum(left, right)] = np.minimum(left, right)
        return True
