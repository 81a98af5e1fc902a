"""Prices that begin low and rise, so that what is not needed leaves before what is."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Rise:
    """Prices begin at 1/height of themselves and grow by equal factors until step `end`; at end 0 they are at full height at once.

    In a wide layer no unit is worth much beside so many others, so at the full price all of them would fall together, and past the point
    where those that are left are worth it. A low price takes the least useful ones, the others take over what they did, and so on.
    Source: ours.
    """

    height: float = 1.0
    end: float = 0.0

    def part(self, step: int) -> float:
        """The part of their height at which prices are in a step, counted from 1: height^(step/end − 1), 1 from `end` on."""
        return self.height ** (step / self.end - 1) if step < self.end else 1.0
