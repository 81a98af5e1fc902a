"""What a gate pays to be open: one price for all, or per unit what the network would save without it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from parsinet.errors import UsageError
from parsinet.gates.prices import Complexity
from parsinet.methods.base import Alive, Budget
from parsinet.methods.complexity import Blocks, dense_costs, relative
from parsinet.methods.evenness import Evenness
from parsinet.structure import Plan, Structure

Rows = list[tuple[str, Tensor, Tensor]]
"""Per group its name, θ and usefulness."""


class Pricing(ABC):
    """ρ in nats per example, as a float where all units of a group pay the same, else one entry per unit.

    part: of their height, at which prices are now. Where they rise (`Rise`) the gates set it at every step.
    """

    part = 1.0

    @abstractmethod
    def attach(self, model: nn.Module, structure: Structure, budget: Budget, rows: Rows, last: int, fall_steps: int) -> None:
        """Meet the traced network, before gates sit in it; `last` is the last gated step, 0 if it is not known."""

    @abstractmethod
    def of(self, group: str) -> float | Tensor:
        """The price of one group: a float or [units]."""

    @abstractmethod
    def row(self) -> float | Tensor:
        """The prices of all units in one row, in the order of the bank: a float or [all units]."""

    @abstractmethod
    def refresh(self, step: int, rows: Rows) -> None:
        """Follow the gates; called before units are named that leave."""

    def moved(self, model: nn.Module) -> None:  # noqa: B027 - most prices know of no network
        """The network is another object from now on."""

    def leaving(self, alive: dict[str, Tensor], rows: Rows) -> Alive:
        """Of the units that could leave, those that may: masks of what stays."""
        return alive

    def settled(self, alive: dict[str, Tensor], rows: Rows) -> Alive:
        """The last decision, given which gates are open."""
        return alive

    @abstractmethod
    def removed(self, structure: Structure, plan: Plan) -> None:
        """Follow a removal."""

    @abstractmethod
    def describe(self) -> dict[str, Any]:
        """For the record: the mean price and what belongs to it."""

    @abstractmethod
    def state_dict(self) -> dict[str, Any]:
        """What changes in a run; empty if nothing does."""

    @abstractmethod
    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue where `state_dict` was taken."""


class Uniform(Pricing):
    """Every unit pays the same."""

    def __init__(self, price: float) -> None:
        self._price = price

    def attach(self, model: nn.Module, structure: Structure, budget: Budget, rows: Rows, last: int, fall_steps: int) -> None:
        """Nothing to learn of the network."""

    def of(self, group: str) -> float:
        """The price."""
        return self._price * self.part

    def row(self) -> float:
        """The price."""
        return self._price * self.part

    def refresh(self, step: int, rows: Rows) -> None:
        """The price stays."""

    def removed(self, structure: Structure, plan: Plan) -> None:
        """Nothing changes."""

    def describe(self) -> dict[str, Any]:
        """The price."""
        return {"price": self.row()}

    def state_dict(self) -> dict[str, Any]:
        """Nothing changes in a run."""
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Nothing to restore."""


class UnitPrices(Pricing, ABC):
    """A price of its own for every unit, renewed at every refresh and cut with the units. prices: at their full height."""

    def __init__(self) -> None:
        self.prices: dict[str, Tensor] = {}
        self._row = torch.empty(0)

    def of(self, group: str) -> Tensor:
        """[units]."""
        return self.prices[group] * self.part

    def row(self) -> Tensor:
        """[all units]."""
        return self._row * self.part

    def removed(self, structure: Structure, plan: Plan) -> None:
        """Cut the prices."""
        masks = plan.masks()
        kept = {name: row[masks[name].to(row.device)] if name in masks else row for name, row in self.prices.items()}
        self._set({name: row for name, row in kept.items() if len(row)})

    def state_dict(self) -> dict[str, Any]:
        """The prices of the last refresh."""
        return {"prices": {name: row.clone() for name, row in self.prices.items()}}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue where the state was taken."""
        self._set({name: state["prices"][name].to(row) for name, row in self.prices.items()})

    def _set(self, prices: dict[str, Tensor]) -> None:
        self.prices = prices
        self._row = torch.cat(list(prices.values())) if prices else torch.empty(0)


class Costed(UnitPrices):
    """ρ_i = ν f_g ∂R/∂θ_i: a unit pays for the share of the network that leaves with it, at the widths its neighbours have now.

    R = Σ_c a_c K_c(Θ)/K_c(dense), so that R = 1 for the dense network and ν is the price of all of it in nats per example; a part that
    holds a hundredth of R costs ν/100. shares: a_c per cost of `complexity`, with sum 1. factors: f_g per group where it is not 1,
    evenness: κ of a further factor, see `Evenness` (with another f than 1 the prices are no longer the gradient of one function).
    blocks: groups that stand for whole modules.
    Source: our reading of Guenter & Sideris, arXiv 2411.09127 (abstract): expected cost in the parameters of the gates, matched with
    their prices.
    """

    def __init__(
        self,
        nats: float,
        shares: Mapping[str, float],
        *,
        factors: Mapping[str, float] | None = None,
        blocks: Blocks | None = None,
        evenness: float = 0.0,
    ) -> None:
        super().__init__()
        self.nats = nats
        self.shares = {kind: share for kind, share in shares.items() if share}
        self.dense: dict[str, float] = {}
        self._factors, self._blocks = factors or {}, blocks
        self._evenness = Evenness(evenness, blocks or ())
        self._model: nn.Module | None = None
        self._cost = Complexity(())

    def attach(self, model: nn.Module, structure: Structure, budget: Budget, rows: Rows, last: int, fall_steps: int) -> None:
        """Count the dense network."""
        self._model = model
        self.dense = dense_costs(self.shares, model, structure)
        self._evenness.begin({name: theta for name, theta, _ in rows})
        self._rebuild(structure, [name for name, _, _ in rows])
        self.refresh(0, rows)
        if not float(self._row.sum()) > 0:
            raise UsageError(f"Gates: no gate saves anything of {' and '.join(self.shares)}; take another cost or another network.")

    def moved(self, model: nn.Module) -> None:
        """Count in the new network."""
        self._model = model

    def savings(self, theta: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """f ∂R/∂θ per unit, float64: what ν is multiplied by."""
        even = self._evenness.factors(theta)
        return {name: row * self._factors.get(name, 1.0) * even.get(name, 1.0) for name, row in self._cost.gradient(theta).items()}

    def refresh(self, step: int, rows: Rows) -> None:
        """The prices for θ as it is now."""
        for_theta = self.savings({name: theta for name, theta, _ in rows})
        self._set({name: (self.nats * for_theta[name]).to(theta) for name, theta, _ in rows})

    def removed(self, structure: Structure, plan: Plan) -> None:
        """Cut the prices; the cost is that of the smaller network."""
        super().removed(structure, plan)
        self._rebuild(structure, list(self.prices))

    def describe(self) -> dict[str, Any]:
        """The mean price, ν, and R of the network as it stands with all its gates open."""
        row = self.row()
        return {"price": float(row.mean()) if len(row) else 0.0, "cost_price": self.nats, "cost": self._cost.dense}

    def state_dict(self) -> dict[str, Any]:
        """ν, which moves where it follows a target, and the prices of the last refresh."""
        return {"nats": self.nats, **super().state_dict()}

    def _rebuild(self, structure: Structure, groups: list[str]) -> None:
        assert self._model is not None
        self._cost = relative(self.shares, self.dense, self._model, structure, groups=groups, blocks=self._blocks)
