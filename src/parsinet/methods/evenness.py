"""Prices by shape: groups that kept more of their units than others pay more, so that a network narrows evenly."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from torch import Tensor


class Evenness:
    """f_g = (s_g/s̄)^κ, where s_g is the part of the group's first units that is open and s̄ the mean of all groups.

    With κ = 0 only the worth of a unit decides where the network narrows; the larger κ, the nearer all groups stay to one share of their
    units, and worth decides within them. A residual branch (blocks) has one gate and no share: its factor is 1.
    Source: ours. What a unit is worth to the network as it stands overrates those that all residual blocks read: the widths left, trained
    from scratch, are half a point behind even ones (benchmarks/gates/evenness.py).
    """

    def __init__(self, power: float, blocks: Collection[str] = ()) -> None:
        self.power, self._blocks = power, frozenset(blocks)
        self._first: dict[str, int] = {}

    def begin(self, theta: Mapping[str, Tensor]) -> None:
        """These are the units of the dense network."""
        self._first = {name: len(row) for name, row in theta.items() if name not in self._blocks}

    def factors(self, theta: Mapping[str, Tensor]) -> dict[str, float]:
        """Per group that is no block. theta: per group [units]; a group counts as one open unit at least."""
        if not self.power:
            return {}
        shares = {name: max(1.0, float(row.sum())) / self._first[name] for name, row in theta.items() if name in self._first}
        mean = sum(shares.values()) / max(1, len(shares))
        return {name: (share / mean) ** self.power for name, share in shares.items()}
