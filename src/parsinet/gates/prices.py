"""Expected cost of a network as a function of its gates' probabilities, and the prices that are its derivative."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import reduce
from math import prod

import torch
from torch import Tensor

from parsinet.errors import UsageError

Axis = Mapping[str, Tensor]
"""Group → the unit of every index of an axis, int64 [n_axis], −1 where the index is of none. An index is there while all its units are."""

LARGEST_GRID = 2**24
"""Entries that may be looked at one by one, where two axes have several groups in common."""


@dataclass(frozen=True, eq=False)
class Term:
    """`factor` for every entry of a tensor, or step of an operator, that is there: the product over `axes` of the indices that are."""

    factor: float
    axes: tuple[Axis, ...]

    def expected(self, theta: Mapping[str, Tensor]) -> Tensor:
        """factor · E Π_axes Σ_i Π_{units of i} ξ, exactly. theta: [units] per group, float64; groups not named are open."""
        total = torch.tensor(float(self.factor), dtype=torch.float64)
        for part in _linked([{group: owner for group, owner in axis.items() if group in theta} for axis in self.axes]):
            total = total * _count(part, theta, [_size(self.axes[number]) for number in part])
        return total

    @property
    def dense(self) -> float:
        """The cost with every unit open."""
        return self.factor * prod(map(_size, self.axes))


@dataclass(frozen=True, eq=False)
class Complexity:
    """What a network costs, in whatever unit, as a polynomial in the probabilities of its gates.

    K(Θ) = fixed + Σ_terms factor · E[product of the axes' lengths]. Of a linear map between two gated groups this is c·n_in·n_out with
    n = Σθ; where one group sits at both ends, n² becomes n² − Σθ² + Σθ, because ξ² = ξ. K is linear in every single θ.
    Source: our reading of complexity-aware training, Guenter & Sideris, arXiv 2411.09127, of which only the abstract was available to us.
    """

    terms: tuple[Term, ...]
    fixed: float = 0.0

    @property
    def dense(self) -> float:
        """The cost with every unit open."""
        return self.fixed + sum(term.dense for term in self.terms)

    def expected(self, theta: Mapping[str, Tensor]) -> Tensor:
        """The expected cost, float64. theta: probabilities [units] per group, in [0, 1]; groups not named are open.

        With 0 and 1 for θ it is the cost of the network that has the units of θ = 1.
        """
        exact = {group: values.detach().double().cpu() if not values.requires_grad else values for group, values in theta.items()}
        return reduce(torch.add, (term.expected(exact) for term in self.terms), torch.tensor(self.fixed, dtype=torch.float64))

    def of(self, masks: Mapping[str, Tensor]) -> float:
        """The cost of the network with the units under bool masks; groups not named are whole."""
        with torch.no_grad():
            return float(self.expected(masks))

    def gradient(self, theta: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """∂K/∂θ per unit, float64 on the CPU: what the expected cost falls by, per probability, when a unit closes."""
        leaves = {group: values.detach().double().cpu().clone().requires_grad_() for group, values in theta.items()}
        total = self.expected(leaves)
        if not total.requires_grad:
            return {group: torch.zeros_like(leaf).detach() for group, leaf in leaves.items()}
        found = torch.autograd.grad(total, list(leaves.values()), allow_unused=True)
        return {group: torch.zeros(len(leaf), dtype=torch.float64) if grad is None else grad for (group, leaf), grad in _zip(leaves, found)}

    def scaled(self, factor: float) -> Complexity:
        """The same in another unit."""
        return Complexity(tuple(replace(term, factor=term.factor * factor) for term in self.terms), self.fixed * factor)

    def __add__(self, other: Complexity) -> Complexity:
        """Both costs together."""
        return Complexity((*self.terms, *other.terms), self.fixed + other.fixed)


def _zip(leaves: Mapping[str, Tensor], found: Sequence[Tensor | None]) -> Iterable[tuple[tuple[str, Tensor], Tensor | None]]:
    return zip(leaves.items(), found, strict=True)


def _size(axis: Axis) -> int:
    return len(next(iter(axis.values())))


def _linked(axes: Sequence[Axis]) -> list[dict[int, Axis]]:
    """The axes by number, in sets that have no group in common with each other."""
    parts: list[dict[int, Axis]] = []
    for number, axis in enumerate(axes):
        touching = [part for part in parts if any(not axis.keys().isdisjoint(other) for other in part.values())]
        parts = [part for part in parts if not any(part is other for other in touching)]
        parts.append({k: other for part in touching for k, other in part.items()} | {number: axis})
    return parts


def _count(part: Mapping[int, Axis], theta: Mapping[str, Tensor], sizes: Sequence[int]) -> Tensor:
    """E of the product of the lengths of linked axes."""
    axes = list(part.values())
    if len(axes) == 1:
        return _present(axes[0], theta, sizes[0]).sum()
    if len(axes) == 2 and len(shared := [group for group in axes[0] if group in axes[1]]) == 1:
        return _meeting(axes[0], axes[1], shared[0], theta)
    return _grid(axes, theta)


def _present(axis: Axis, theta: Mapping[str, Tensor], size: int) -> Tensor:
    """Probability of every index, [size]."""
    chances = [_chance(theta[group], owner) for group, owner in axis.items()]
    return reduce(torch.mul, chances, torch.ones(size, dtype=torch.float64))


def _chance(theta: Tensor, owner: Tensor) -> Tensor:
    return torch.cat([theta, theta.new_ones(1)])[owner]


def _meeting(left: Axis, right: Axis, group: str, theta: Mapping[str, Tensor]) -> Tensor:
    """Two axes that share one group: E|l||r| = Σ_uv A_u B_v E ξ_u ξ_v, with E ξ_u² = θ_u; A, B: indices of a unit, the unit apart."""
    units = len(theta[group])
    chance = torch.cat([theta[group], theta[group].new_ones(1)])
    gathered = []
    for axis in (left, right):
        others = _present({name: owner for name, owner in axis.items() if name != group}, theta, _size(axis))
        gathered.append(others.new_zeros(units + 1).index_add(0, axis[group] % (units + 1), others))
    a, b = gathered
    return (a @ chance) * (b @ chance) + (a * b * (chance - chance.square())).sum()


def _grid(axes: Sequence[Axis], theta: Mapping[str, Tensor]) -> Tensor:
    """Every combination of indices of axes that share several groups; a unit counts once in each."""
    shape = [_size(axis) for axis in axes]
    if prod(shape) > LARGEST_GRID:
        names = ", ".join(sorted({group for axis in axes for group in axis}))
        raise UsageError(f"Complexity: groups {names} meet on axes of {shape} indices, too many to be priced. Gate fewer of them.")
    total = torch.ones(shape, dtype=torch.float64)
    for group in {group for axis in axes for group in axis}:
        seen: list[Tensor] = []
        for number, axis in enumerate(axes):
            if group not in axis:
                continue
            owner = axis[group].reshape([-1 if k == number else 1 for k in range(len(axes))])
            chance = _chance(theta[group], owner)
            for earlier in seen:
                chance = torch.where(earlier == owner, 1.0, chance)
            seen.append(owner)
            total = total * chance
    return total.sum()
