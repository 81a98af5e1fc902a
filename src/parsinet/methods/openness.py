"""How far open gates are at the start: all alike, or spread so that they do not all fall together."""

from __future__ import annotations

import math
import numbers
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from parsinet.errors import UsageError
from parsinet.methods.options import check_number


@dataclass(frozen=True)
class Openness:
    """θ at the start lies between two ends, uniformly at random per unit; blocks begin at the upper. None for what is usual."""

    ends: tuple[float, float] | None

    @classmethod
    def given(cls, theta: float | Sequence[float] | None) -> Openness:
        """From the option: one number of at least ½, or the two ends; None for what is usual. Raises UsageError for others."""
        if theta is None:
            return cls(None)
        if isinstance(theta, numbers.Real | float):
            check_number("Gates", "theta", theta, least=0.5, most=1.0)
            return cls((float(theta), float(theta)))
        try:
            low, high = map(float, theta)
        except (TypeError, ValueError):
            low, high = math.nan, math.nan
        if not 0 <= low <= high <= 1 or high < 0.5:
            raise UsageError(f"Gates: theta is one number or two with 0 ≤ low ≤ high ≤ 1 and high ≥ 0.5, got {theta!r}.")
        return cls((low, high))

    def row(self, sizes: Mapping[str, int], blocks: Collection[str], random: torch.Generator, *, doubts: bool) -> Tensor:
        """[all units]; draws only if there is something to draw.

        doubts: whether gates doubt their estimates. They close nothing by noise, so that none of it need be drawn before they learn.
        """
        usual = 1.0 if doubts else 0.9
        low, high = self.ends or (usual, usual)
        rows = [torch.full((size,), high) for size in sizes.values()]
        if low < high:
            units = [row for name, row in zip(sizes, rows, strict=True) if name not in blocks]
            for row in units:
                row.uniform_(low, high, generator=random)
        return torch.cat([*rows, torch.empty(0)])
