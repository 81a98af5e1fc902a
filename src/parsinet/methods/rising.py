"""Prices that begin low and rise, so that what is not needed leaves before what is."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from parsinet.methods.base import Alive, Budget
from parsinet.methods.pricing import Pricing, Rows
from parsinet.structure import Plan, Structure


class Rising(Pricing):
    """Other prices times rise^(u − 1), u the part of the way that is gone: they begin at 1/rise of themselves and grow by equal factors.

    In a wide layer no unit is worth much beside so many others, so at the full price all of them would fall together, and past the point
    where those that are left are worth it. A low price takes the least useful ones, the others take over what they did, and so on.

    prices: at their full height. until: share of the gated phase after which they are there. While the run's length is not known they
    are at full height. Source: ours.
    """

    def __init__(self, prices: Pricing, rise: float, until: float) -> None:
        self._prices, self._rise, self._until = prices, rise, until
        self._end, self._factor = 0.0, 1.0

    def attach(self, model: nn.Module, structure: Structure, budget: Budget, rows: Rows, last: int, fall_steps: int) -> None:
        """Begin at the foot."""
        self._end = self._until * last
        self.advance(0)
        self._prices.attach(model, structure, budget, rows, last, fall_steps)

    def of(self, group: str) -> float | Tensor:
        """The present price of one group."""
        return self._prices.of(group) * self._factor

    def row(self) -> float | Tensor:
        """The present prices of all units."""
        return self._prices.row() * self._factor

    def advance(self, step: int) -> None:
        """Climb."""
        gone = min(1.0, step / self._end) if self._end > 0 else 1.0
        self._factor = self._rise ** (gone - 1)

    def refresh(self, step: int, rows: Rows) -> None:
        """Follow the gates."""
        self._prices.refresh(step, rows)

    def moved(self, model: nn.Module) -> None:
        """The network is another object from now on."""
        self._prices.moved(model)

    def leaving(self, alive: dict[str, Tensor], rows: Rows) -> Alive:
        """Of the units that could leave, those that may."""
        return self._prices.leaving(alive, rows)

    def settled(self, alive: dict[str, Tensor], rows: Rows) -> Alive:
        """The last decision."""
        return self._prices.settled(alive, rows)

    def removed(self, structure: Structure, plan: Plan) -> None:
        """Follow a removal."""
        self._prices.removed(structure, plan)

    def describe(self) -> dict[str, Any]:
        """What the prices tell, as they are now, and which part of their height that is."""
        told = self._prices.describe()
        if "block_prices" in told:
            told["block_prices"] = {name: paid * self._factor for name, paid in told["block_prices"].items()}
        return {**told, "price": told["price"] * self._factor, "risen": self._factor}

    def state_dict(self) -> dict[str, Any]:
        """What the prices keep, and how far they have risen."""
        return {**self._prices.state_dict(), "risen": self._factor}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue where the state was taken."""
        self._factor = float(state["risen"])
        self._prices.load_state_dict(state)
