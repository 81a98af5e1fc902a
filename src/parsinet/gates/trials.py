"""Trials of single units: exact gains from several batches, until it is clear whether the unit is worth its price."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from parsinet.errors import UsageError

PANEL = 4
"""Units on trial at a time: they share the loss they are compared with, which is one evaluation in PANEL + 1."""
LEAST, MOST = 8, 32
"""Batches before the first and up to the last look at a trial."""
CERTAINTY = 1.0
"""Standard errors between the mean gain and the price at which a trial ends before MOST batches."""


@dataclass(frozen=True)
class Verdict:
    """What a look at the units on trial has settled. closed: the unit that is not worth its price, if any; kept: those that are."""

    closed: int | None
    kept: tuple[int, ...]


class Trials:
    """The evidence about every unit of a row, and who is tried next.

    A gain is Δ_i = C(ξ_i = 0) − C(ξ_i = 1) on one batch, in nats per example. One unit closes at a time; then all trials begin anew, since
    their evidence was gathered with it: so the theorem on rounding holds, that coordinates moved one after another to the better end of the
    exact objective never raise it. rows: float64 [5, n]: trials ended, last mean gain, and of the running trial the batches, the sum of
    gains and the sum of their squares.
    """

    def __init__(self, units: int) -> None:
        self.rows = torch.zeros(5, units, dtype=torch.float64)

    def panel(self, theta: Tensor, estimates: Tensor, price: Tensor, fixed: Tensor) -> list[int]:
        """Up to `PANEL` units to try on the next batch.

        Those on trial first; then undecided ones (0 < θ < 1); then open ones with the smallest Δ̂_i/ρ_i + number of trials ended, where
        Δ̂_i is the last mean gain of a unit that was tried and its estimate else: whoever has passed is asked again later.
        theta, estimates (Δ̂, nats per example), price: [n]. fixed: bool [n], units that must not close.
        """
        _same_length(self.rows, theta, estimates, price, fixed)
        ended, gains, batches = self.rows[0], self.rows[1], self.rows[2]
        undecided = (theta > 0) & (theta < 1)
        worth = torch.where(ended > 0, gains, estimates.double()) / price.double()
        key = torch.where(undecided, worth.clamp(-1e9, 1e9) - 1e12, worth + ended)
        key = torch.where(batches > 0, -torch.inf, key).masked_fill((theta == 0) | fixed, torch.inf)
        order = key.argsort(stable=True)[:PANEL].tolist()
        return [unit for unit in order if key[unit] < torch.inf]

    def add(self, units: Sequence[int], gains: Tensor) -> None:
        """One more batch. gains: [len(units)], nats per example."""
        chosen, gains = list(units), gains.double()
        self.rows[2, chosen] += 1
        self.rows[3, chosen] += gains
        self.rows[4, chosen] += gains.square()

    def look(self, units: Sequence[int], theta: Tensor, price: Tensor, most: int = MOST) -> Verdict:
        """End the trials that are clear, or as clear as `most` batches make them.

        After at least min(`LEAST`, most) batches a mean gain `CERTAINTY` standard errors from the price is clear. At `most` batches an
        undecided unit (0 < θ < 1) goes to the better end; an open one stays open, since what has left does not come back. Of several units
        below their price the one furthest below closes.
        """
        chosen = list(units)
        batches, total, squares = self.rows[2:, chosen]
        gap = total / batches - price[chosen].double()
        error = ((squares - total.square() / batches).clamp(min=0) / (batches * (batches - 1).clamp(min=1))).sqrt()
        clear = (batches >= min(LEAST, most)) & (gap.abs() > CERTAINTY * error)
        ended = clear | (batches >= most)
        undecided = (theta[chosen] > 0) & (theta[chosen] < 1)
        below = ended & (gap < 0) & (clear | undecided)
        kept = tuple(unit for unit, stays in zip(chosen, (ended & ~below).tolist(), strict=True) if stays)
        closed = chosen[int(gap.masked_fill(~below, torch.inf).argmin())] if bool(below.any()) else None
        self._end(kept, closed)
        return Verdict(closed, kept)

    def keep(self, mask: Tensor) -> None:
        """Follow a removal: only the units under the mask [n] remain."""
        self.rows = self.rows[:, mask.to(self.rows.device)]

    def _end(self, kept: Sequence[int], closed: int | None) -> None:
        over = list(kept) if closed is None else [*kept, closed]
        self.rows[0, over] += 1
        self.rows[1, over] = self.rows[3, over] / self.rows[2, over]
        self.rows[2:, slice(None) if closed is not None else over] = 0


def _same_length(rows: Tensor, *values: Tensor) -> None:
    if any(value.shape != rows.shape[1:] for value in values):
        raise UsageError(f"Trials: theta, estimates, price and fixed must have one entry per unit, {list(rows.shape[1:])}.")
