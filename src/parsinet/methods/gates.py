"""Parsimonious training: a Bernoulli gate on every unit, a price on its being open, closed units leave while the network learns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from parsinet import gates
from parsinet.errors import StructureError, UsageError, suggest
from parsinet.methods.base import Alive, Budget, decayed_groups, generator
from parsinet.methods.gating import GateBank
from parsinet.structure import Plan, Structure

DEFAULT_PRICE = 1e-3
DEFAULT_FALL_STEPS = 1000
GUARD_SHARE = 0.01
"""Share of the fall time between two looks at whether a whole group is closing, at most 10 steps: θ moves a hundredth under its price."""


class Gates:
    """Variational Bernoulli gates with the flattening hyper-prior.

    Every unit is multiplied by ξ ~ Bernoulli(θ). The hyper-prior with parameter γ leaves a price ρ = log γ/N on each θ, so training
    minimises E_ξ[loss] + Σ ρ θ over weights and θ ∈ [0, 1] together. A unit that lowers the loss by less than its price falls to θ = 0
    and is removed; what is still open at the end of the gated phase is decided by θ ≥ ½, and the structure stays fixed from there on.

    price: ρ in nats per example (default 1e-3), or log_gamma: log γ, which needs the number of training examples.
    theta: initial θ. gated: share of the run in which gates act. fall_steps: steps in which θ falls from 1 to 0 under the price alone
    (default a tenth of the run, 1000 if its length is unknown). warmup: share of the run before the first removal. interval: steps between
    removals (default a two-hundredth of the run, at least 10; 100 if unknown). threshold: a unit at or below it may leave.
    clamp: bound of a step's force in units of the price, None for none. estimator: "curvature" or "straight-through".
    groups: names of the groups to gate (default all whose removal is exact and whose readers can be gated). seed: of the draws.

    The loss must be a mean over the batch; of several backward passes before one step the sum of their losses must be (gradients are
    accumulated with losses divided by the number of passes).

    Raises UsageError for values out of range and, when attached, for a network in which no group can be gated.
    Source: V. F. I. Guenter and A. Sideris, Robust Learning of Parsimonious Deep Neural Networks, arXiv 2205.04650; the equations are
    derived in docs/gates.md.
    """

    name = "gates"
    silences = True

    def __init__(
        self,
        *,
        price: float | None = None,
        log_gamma: float | None = None,
        theta: float = 0.9,
        gated: float = 0.6,
        fall_steps: int | None = None,
        warmup: float = 0.0,
        interval: int | None = None,
        threshold: float = 0.02,
        clamp: float | None = 10.0,
        estimator: str = "curvature",
        groups: Sequence[str] | None = None,
        seed: int = 0,
    ) -> None:
        if price is not None and log_gamma is not None:
            raise UsageError("Gates: give price or log_gamma, not both (price = log_gamma / number of training examples).")
        _within("price", price, 0, float("inf"))
        _within("log_gamma", log_gamma, 0, float("inf"))
        _within("theta", theta, 0.5, 1.0)
        _within("gated", gated, 0, 1.0)
        _within("warmup", warmup, 0, 1.0, include_low=True)
        _within("threshold", threshold, 0, 0.5, include_low=True)
        _whole("fall_steps", fall_steps)
        _whole("interval", interval)
        _within("clamp", clamp, 0, float("inf"))
        if estimator not in gates.ESTIMATORS:
            raise UsageError(f"Gates: there is no estimator {estimator!r}.{suggest(estimator, gates.ESTIMATORS)}")
        if isinstance(groups, str):
            raise UsageError(f"Gates: groups must be a list of group names, got the single word {groups!r}. Write [{groups!r}].")
        self.price = DEFAULT_PRICE if price is None and log_gamma is None else price
        self.log_gamma = log_gamma
        self.theta, self.gated, self.warmup, self.threshold, self.clamp = theta, gated, warmup, threshold, clamp
        self.fall_steps, self.interval = fall_steps, interval
        self.settled = False
        self._estimator = gates.ESTIMATORS[estimator]
        self._wanted = groups
        self._generator = generator(seed)
        self._bank = GateBank({}, theta, torch.device("cpu"), gates.ESTIMATORS[estimator], self._generator)
        self._steps = 0
        self._first, self._last, self._guard_interval = 0, 0, 1
        self._model: nn.Module | None = None

    def prepare(self, model: nn.Module) -> None:
        """Gates need no change of the layers."""

    def param_groups(self, model: nn.Module) -> list[dict[str, Any]]:
        """Weights with the optimizer's decay (the method wants some: it draws closed units to zero); biases and norms without."""
        return decayed_groups(model)

    def attach(self, model: nn.Module, structure: Structure, budget: Budget, optimizers: Sequence[torch.optim.Optimizer] = ()) -> None:
        """Place a gate on every chosen group and fix the schedule."""
        self._schedule(budget)
        sizes = {name: structure.group(name).size for name in self._chosen(structure)}
        self._bank = GateBank(sizes, self.theta, next(model.parameters()).device, self._estimator, self._generator)
        self._bank.place(model, structure)
        self._model = model

    def penalty(self) -> float:
        """Nothing: the price acts on θ directly, not through the weights' loss."""
        return 0.0

    def step(self) -> Alive | None:
        """Move every θ; every `interval` steps name the units that stay, at the end of the gated phase settle."""
        if self.settled:
            return None
        self._steps += 1
        self._learn()
        if self._last and self._steps >= self._last:
            return self.settle()
        assert self.interval is not None
        if self._steps % self.interval or self._steps <= self._first:
            return None
        self._guard()
        rows = self._bank.rows()
        return {name: ~gates.dead_units(theta, usefulness, self._rho(), self.threshold) for name, theta, usefulness in rows}

    def scores(self) -> Mapping[str, Tensor]:
        """θ, and among equal θ the usefulness."""
        return {name: theta + 1e-3 * torch.sigmoid(usefulness / self._rho()) for name, theta, usefulness in self._bank.rows()}

    def removed(self, structure: Structure, plan: Plan) -> None:
        """Cut θ and its averages; gates move to the new indices."""
        self._bank.keep(plan.masks())
        if not self.settled and self._model is not None:
            self._bank.place(self._model, structure)

    def settle(self) -> Alive | None:
        """Round every θ: open at ½ and above; a group keeps at least its best unit. The gates leave the network."""
        if self.settled:
            return None
        self.settled = True
        self.detach()
        return {name: gates.open_units(theta, usefulness) for name, theta, usefulness in self._bank.rows()}

    def detach(self) -> None:
        """Take all gates out of the network."""
        self._bank.leave()

    def describe(self) -> dict[str, Any]:
        """Per group: θ of every unit, its sum, the share neither open nor closed, and the mean usefulness over the price."""
        told = {} if self.settled else {name: self._told(theta, usefulness) for name, theta, usefulness in self._bank.rows()}
        return {"price": self._rho(), "settled": self.settled, "groups": told}

    def state_dict(self) -> dict[str, Any]:
        """θ, averages, the draws' generator and the position in the schedule."""
        return {
            "steps": self._steps,
            "settled": self.settled,
            "generator": self._generator.get_state(),
            "theta": {name: theta.clone() for name, theta, _ in self._bank.rows()},
            "usefulness": {name: usefulness.clone() for name, _, usefulness in self._bank.rows()},
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue bitwise where the state was taken. Raises StructureError, with nothing changed, if it is of other gates."""
        for key in ("theta", "usefulness"):
            found = {name: len(row) for name, row in state[key].items()}
            if found != self._bank.sizes:
                raise StructureError(f"The saved gates ({key}) are of groups {found}; here are {self._bank.sizes}.")
        for name, theta, usefulness in self._bank.rows():
            theta.copy_(state["theta"][name])
            usefulness.copy_(state["usefulness"][name])
        self._steps = int(state["steps"])
        self._generator.set_state(state["generator"].cpu())
        self.settled = bool(state["settled"])
        if self.settled:
            self.detach()

    def _schedule(self, budget: Budget) -> None:
        if self.log_gamma is not None:
            if budget.examples is None:
                raise UsageError("Gates: log_gamma needs the number of training examples; give Pruner(..., examples=N) or use price.")
            self.price = gates.price(self.log_gamma, budget.examples)
        steps = budget.steps
        self.fall_steps = self.fall_steps or (max(1, steps // 10) if steps else DEFAULT_FALL_STEPS)
        self._guard_interval = max(1, min(10, int(GUARD_SHARE * self.fall_steps)))
        self.interval = self.interval or (min(100, max(10, steps // 200)) if steps else 100)
        self._first = int(self.warmup * steps) if steps else 0
        self._last = max(1, round(self.gated * steps)) if steps else 0

    def _chosen(self, structure: Structure) -> list[str]:
        if self._wanted is None:
            reasons = {group.name: _reason_against(structure, group.name) for group in structure.groups}
            chosen = [name for name, reason in reasons.items() if not reason]
            if not chosen:
                told = "; ".join(f"{name}: {reason}" for name, reason in reasons.items()) or "it has no groups at all"
                raise UsageError(f"Gates: this network has no group of units that can be gated ({told}).")
            return chosen
        if not self._wanted:
            raise UsageError("Gates: groups is empty; name the groups to gate, or leave it out to gate all that can be.")
        for name in self._wanted:
            if reason := _reason_against(structure, name, exact_only=False):
                raise UsageError(f"Gates: group {name!r} cannot be gated: {reason}.")
        return list(self._wanted)

    def _learn(self) -> None:
        """One step of every θ that the last backward passes speak of: all in one row if they speak of all."""
        estimates = self._bank.estimates()
        if not estimates:
            return
        if len(estimates) == len(self._bank.sizes):
            rows = [(self._bank.theta, self._bank.usefulness, torch.cat([estimates[name] for name in self._bank.sizes]))]
        else:
            rows = [(theta, usefulness, estimates[name]) for name, theta, usefulness in self._bank.rows() if name in estimates]
        assert self.fall_steps is not None
        for theta, usefulness, gradient in rows:
            gates.ema_(usefulness, -gradient)
            gates.theta_step_(theta, gradient, self._rho(), self.fall_steps, self.clamp)
        if self._steps % self._guard_interval == 0:
            self._guard()

    def _guard(self) -> None:
        for _, theta, usefulness in self._bank.rows():
            gates.pin_best_(theta, usefulness)

    def _told(self, theta: Tensor, usefulness: Tensor) -> dict[str, Any]:
        interior = (theta > self.threshold) & (theta < 1 - self.threshold)
        return {
            "theta": [round(value, 4) for value in theta.tolist()],
            "sum": float(theta.sum()),
            "interior": float(interior.float().mean()),
            "usefulness": float(usefulness.mean()) / self._rho(),
        }

    def _rho(self) -> float:
        assert self.price is not None, "the price is known once the method is attached"
        return self.price


def _reason_against(structure: Structure, name: str, *, exact_only: bool = True) -> str:
    """Why a group is not gated; "" if it can be."""
    group = structure.group(name)
    if not group.removable or (exact_only and not group.exact):
        return group.reason
    return "" if structure.gateable(name) else "it is read where no module's input can be multiplied"


def _whole(name: str, value: int | None) -> None:
    if value is not None and (not isinstance(value, int) or value < 1):
        raise UsageError(f"Gates: {name} must be a whole number ≥ 1, got {value!r}.")


def _within(name: str, value: float | None, low: float, high: float, *, include_low: bool = False) -> None:
    if value is not None and not ((low <= value if include_low or low > 0 else low < value) and value <= high):
        opening = "≥" if include_low or low > 0 else ">"
        limit = f" and ≤ {high}" if high != float("inf") else ""
        raise UsageError(f"Gates: {name} must be {opening} {low}{limit}, got {value}.")
