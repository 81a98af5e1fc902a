"""How many weights each tensor may keep when the whole network keeps a given share: pooled, uniform or Erdős–Rényi kernel."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import floor, isinf, prod

from parsinet.errors import UsageError, suggest

DISTRIBUTIONS = ("global", "uniform", "erk")

Shapes = Mapping[str, Sequence[int]]
Wanted = int | Mapping[str, int]
"""Active weights over all tensors together, or of each tensor."""


def wanted(shapes: Shapes, sparsity: float, distribution: str = "global") -> Wanted:
    """Active weights for a sparsity: exactly round(N(1 − s)) of all N, as one number ("global") or dealt out to the tensors.

    "global": tensors compete. "uniform": every tensor has the same density. "erk": see `erk_densities`. Dealt-out counts are the
    largest-remainder rounding of density · size, so that their sum is exact.
    Raises UsageError for a sparsity outside [0, 1), an unknown distribution, or one that leaves no weight at all.
    """
    check(sparsity, distribution)
    sizes = {name: prod(shape) for name, shape in shapes.items()}
    active = round(sum(sizes.values()) * (1 - sparsity))
    if active < 1:
        raise UsageError(f"A sparsity of {sparsity} leaves none of {sum(sizes.values()):,} weights; choose a smaller one.")
    if distribution == "global":
        return active
    densities = dict.fromkeys(shapes, active / sum(sizes.values())) if distribution == "uniform" else erk_densities(shapes, active)
    return apportion({name: densities[name] * size for name, size in sizes.items()}, sizes, active)


def check(sparsity: float, distribution: str) -> None:
    """UsageError for a sparsity outside [0, 1) and for an unknown distribution."""
    if not 0 <= sparsity < 1:
        raise UsageError(f"sparsity is the share of weights that are zero and must be ≥ 0 and < 1, got {sparsity}.")
    if distribution not in DISTRIBUTIONS:
        raise UsageError(f"There is no distribution {distribution!r}.{suggest(distribution, DISTRIBUTIONS)}")


def erk_densities(shapes: Shapes, active: float) -> dict[str, float]:
    """Erdős–Rényi-kernel densities d_l = min(1, ε Σ shape_l / Π shape_l), with ε such that Σ d_l Π shape_l = active.

    ε is solved exactly: Σ d_l n_l is piecewise linear in ε, its corners where a tensor becomes dense.
    Source: U. Evci et al. 2020, arXiv 1911.11134, section 3; for fully connected layers D. C. Mocanu et al. 2018, arXiv 1707.04780.
    """
    sizes = {name: prod(shape) for name, shape in shapes.items()}
    raw = {name: sum(shape) / sizes[name] for name, shape in shapes.items()}
    dense: set[str] = set()
    while True:
        rest = [name for name in shapes if name not in dense]
        room = active - sum(sizes[name] for name in dense)
        epsilon = room / sum(sum(shapes[name]) for name in rest) if rest else float("inf")
        full = {name for name in rest if epsilon * raw[name] >= 1}
        if not full or isinf(epsilon):
            return {name: 1.0 if name in dense else epsilon * raw[name] for name in shapes}
        dense |= {name for name in full if raw[name] == max(raw[other] for other in full)}


def apportion(ideal: Mapping[str, float], sizes: Mapping[str, int], total: int) -> dict[str, int]:
    """Whole numbers near `ideal`, none above `sizes`, that sum to `total`: floors, then one more by largest remainder, first name first.

    Raises UsageError if total exceeds Σ sizes.
    """
    if total > sum(sizes.values()):
        raise UsageError(f"There are {sum(sizes.values()):,} weights, {total:,} cannot be active.")
    counts = {name: min(sizes[name], floor(value + 1e-9)) for name, value in ideal.items()}
    order = sorted(ideal, key=lambda name: counts[name] - ideal[name])
    while sum(counts.values()) < total:
        for name in order:
            if counts[name] < sizes[name] and sum(counts.values()) < total:
                counts[name] += 1
    return counts
