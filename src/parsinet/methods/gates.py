"""Parsimonious training: a Bernoulli gate on every unit, a price on its being open, closed units leave while the network learns."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from parsinet.errors import ParsinetWarning, UsageError
from parsinet.methods.base import Alive, Budget, decayed_groups, generator
from parsinet.methods.blocking import BlockOptions
from parsinet.methods.choice import against_gates, check_inputs, gateable_groups, left_out
from parsinet.methods.deciding import SHARE, TARGETED, Deciding
from parsinet.methods.drawing import BATCH, EXAMPLE, check_sites
from parsinet.methods.estimating import Estimating
from parsinet.methods.gating import GateBank
from parsinet.methods.given import Remembering
from parsinet.methods.noise import noisy
from parsinet.methods.openness import Openness
from parsinet.methods.options import check_either, check_flags, check_list, check_number, check_seed
from parsinet.methods.pace import PaceOptions
from parsinet.methods.price_options import PriceOptions
from parsinet.methods.pricing import Pricing
from parsinet.methods.rising import Rise
from parsinet.methods.target import Target
from parsinet.methods.walking import guard, staying, told, walk
from parsinet.structure import Plan, Structure


class Gates(Remembering):
    """Variational Bernoulli gates with the flattening hyper-prior.

    Every unit is multiplied by ξ ~ Bernoulli(θ). The hyper-prior with parameter γ leaves a price ρ = log γ/N on each θ, so training
    minimises E_ξ[loss] + Σ ρ θ over weights and θ ∈ [0, 1] together. A unit that lowers the loss by less than its price falls to θ = 0
    and is removed. Late in the gated phase every gate comes to stand at 0 or 1; the structure stays fixed from its end on.

    price: ρ in nats per example (default 1e-3), or log_gamma: log γ, which needs the number of training examples. cost_price: ν, the price
    of the whole dense network; a unit then pays for the share of the cost that leaves with it. computation: share of multiply-adds in that
    cost (default ½), the rest is parameters. target: "macs=20%", "params=45k", "bytes=30%", "latency=2ms": ν is found during the run, and
    what remains fits; needs the length of the run, and computation is 1 or 0 by the target's kind unless given. pursuit: with a target, the
    power of (what is open ÷ what should be by now) by which ν is raised where the network is behind (default 1; 0 for none). evenness: with
    cost_price or a target, the power of (open part of a group ÷ mean of all groups) by which its units pay more (default 0: their worth
    alone decides). rise: without a target, how many times lower prices begin (default 10; with doubt, with clamp=None and in a run of
    unknown length 1: they stay); they grow by equal factors until half of the way to where `deciding` begins, so that units leave one
    after another and what is left hardly depends on the width at the start.
    theta: initial θ (default 0.9, with doubt 1); two numbers, such as (0, 1), spread the units between them at random. gated: share of the
    run in which gates act (default 0.6, with a target 0.4, or 0.7 where doubt is usual). fall_steps: steps in which θ falls from 1 to 0
    under the price alone (default a tenth of the run, 1000 if its length is unknown; half of that with doubt).
    warmup: share of the run before the first removal. interval: steps between removals (default a two-hundredth of the run, 10 … 100; 100
    if unknown). threshold: a unit at or below it may leave.
    clamp: bound of a step's force in units of the price, None for none. doubt: z; gates follow averages of some 50 estimates, and move the
    more slowly the further z standard errors exceed the price; 0: every estimate counts as it comes (default 2 with a target of
    at least an eighth of the dense network where convolution layers do most of the multiply-adds and gates act for 350 steps or more, else
    0). estimator: "curvature" or
    "straight-through", from the backward pass; "drawn-labels", curvature from labels drawn from the model, for the mean cross-entropy of
    outputs that are logits, from one more evaluation of the loss per step and two backward passes to the gates; "arm" or "disarm", unbiased
    and noisy, from two more evaluations. These three need the closure of `Pruner.step`.
    draws: a gate sample for the whole "batch", or one for each "example", which needs the examples first in every tensor that is gated.
    decide: how gates come to 0 or 1 in the last part of the gated phase, whose share of it is `deciding` (default 0.4, 0.25 with a
    target). "flips": gates that stand at 0 or 1 stay there, and the exact gains of single units are compared with their prices (if
    `Pruner.step` is given a closure, else as "absorb"); "absorb": gates that stand at 0 or 1 stay there; "round": no such part. What is
    undecided to the end is rounded.
    groups: names of the groups to gate (default all whose removal is exact and whose readers can be gated, of attention heads as a whole).
    inputs: gate the features of the network's inputs too, which layers then select. blocks: gate residual branches too, which leave whole:
    True for all that can, or their names; θ of a block falls half as fast. block_price: what a block pays; else block_factor (default 1)
    times what its units pay together, or with cost_price and target what it costs. groups=[] gates blocks alone. seed: of the draws.

    The loss must be a mean over the batch; of several backward passes before one step the sum of their losses must be (gradients are
    accumulated with each loss times its batch's share of the examples: divided by the number of passes, where batches are equal).

    Raises UsageError for values out of range and, when attached, for a network in which no group can be gated and for doubt in a run that
    is too short for it.
    Source: V. F. I. Guenter and A. Sideris, Robust Learning of Parsimonious Deep Neural Networks, arXiv 2205.04650; the equations are
    derived in docs/gates.md.
    """

    name = "gates"
    silences = True
    _pricing: Pricing

    def __init__(
        self,
        *,
        price: float | None = None,
        log_gamma: float | None = None,
        cost_price: float | None = None,
        computation: float | None = None,
        target: str | None = None,
        pursuit: float | None = None,
        evenness: float | None = None,
        rise: float | None = None,
        theta: float | Sequence[float] | None = None,
        gated: float | None = None,
        fall_steps: int | None = None,
        warmup: float = 0.0,
        interval: int | None = None,
        threshold: float = 0.02,
        clamp: float | None = 10.0,
        doubt: float | None = None,
        estimator: str = "curvature",
        draws: str = BATCH,
        decide: str = "flips",
        deciding: float | None = None,
        groups: Sequence[str] | None = None,
        inputs: bool = False,
        blocks: bool | Sequence[str] = False,
        block_price: float | None = None,
        block_factor: float | None = None,
        seed: int = 0,
    ) -> None:
        self._block_options = BlockOptions(blocks, block_price, block_factor)
        self.prices = PriceOptions(price, log_gamma, cost_price, computation, Target.given("Gates", target), pursuit, evenness, rise)
        self.prices.check(self._block_options)
        self.pacing = PaceOptions(gated, warmup, fall_steps, interval, clamp, doubt, targeted=target is not None)
        self._estimating, self._deciding = Estimating(estimator), Deciding(decide, deciding, usual=SHARE if target is None else TARGETED)
        check_number("Gates", "threshold", threshold, least=0, most=0.5)
        check_either("Gates", "draws", draws, BATCH, EXAMPLE)
        check_list("Gates", "groups", groups, "a list of group names")
        check_seed("Gates", seed)
        check_flags("Gates", inputs=inputs)
        self.openness, self.threshold = Openness.given(theta), threshold
        self.inputs, self.blocks, self.settled = inputs, bool(blocks), False
        self._wanted, self.draws, self._generator = groups, draws, generator(seed)
        self._bank = GateBank({}, torch.empty(0), torch.device("cpu"), None, self._generator)
        self._pace, self._rise, self._steps = self.pacing.of(None), Rise(), 0
        self._model: nn.Module | None = None

    def prepare(self, model: nn.Module) -> None:
        """Gates need no change of the layers."""

    def param_groups(self, model: nn.Module) -> list[dict[str, Any]]:
        """Weights with the optimizer's decay (the method wants some: it draws closed units to zero); biases and norms without."""
        return decayed_groups(model)

    def attach(self, model: nn.Module, structure: Structure, budget: Budget, optimizers: Sequence[torch.optim.Optimizer] = ()) -> None:
        """Place a gate on every chosen group and fix the schedule."""
        self._check_length(budget.steps)
        moves = self._deciding.moves
        self._pace = self.pacing.of(budget.steps, noisy=noisy(self.prices.target, model, structure, budget), walks=moves)
        check_inputs("Gates", structure, self._wanted, self.inputs)
        blocks = self._block_options.chosen(structure)
        units = gateable_groups("Gates", structure, self._wanted, weights=not budget.sharded, may_lack=bool(blocks))
        others = left_out(structure, units, against_gates(structure, weights=not budget.sharded))
        if self.draws == EXAMPLE:
            check_sites(structure, units)
        sizes = {name: structure.group(name).size for name in (*units, *blocks)}
        device = next(model.parameters()).device
        theta = self.openness.row(sizes, blocks, self._generator, doubts=self._pace.doubt > 0)
        self._bank = GateBank(
            sizes, theta, device, self._estimating.heard, self._generator, blocks, budget.ranks, self.draws, doubt=self._pace.doubt
        )
        self._pricing = self.prices.pricing(budget, self._block_options.terms(structure, blocks), others)
        self._pricing.attach(model, structure, budget, self._bank.rows(), self._pace.last, self._pace.fall_steps)
        steady = self.pacing.clamp is not None and not self._pace.doubt
        self._rise = self.prices.rising(self._pace.last, self._deciding.walks, steady=steady)
        self._pricing.part = self._rise.part(0)
        self._bank.hearing.scaler = budget.scaler
        if not budget.sharded:  # there gradients are in the weights only once the ranks have put them together
            self._bank.hearing.clearing.watch(model, optimizers, self._bank.hearing.pending)
        self._bank.place(model, structure)
        self._deciding.attach(len(self._bank.theta), self._pace.last)
        self._model = model

    def _check_length(self, steps: int | None) -> None:
        """UsageError for shares of a run of unknown length, and for gates that could not move in it."""
        shares = {"warmup": self.pacing.warmup or None, "gated": self.pacing.gated, "deciding": self._deciding.asked}
        given = [name for name, value in shares.items() if value is not None]
        if steps is None and given:
            raise UsageError(
                f"Gates: {' and '.join(given)} {'is a share' if len(given) == 1 else 'are shares'} of the run, whose length is unknown; "
                f"give Pruner(..., steps=N), or leave {'it' if len(given) == 1 else 'them'} out."
            )
        if self._deciding.kind == "absorb" and not self._deciding.walks and self.openness.ends == (1, 1):
            raise UsageError("Gates: with theta=1, deciding=1 every gate is open from the first step on and stays so; begin with less.")

    def penalty(self) -> float:
        """Nothing: the price acts on θ directly, not through the weights' loss."""
        return 0.0

    @property
    def evaluates(self) -> str:
        """The option by which gates learn from evaluations of the loss alone, as long as they learn; else nothing."""
        return f'estimator="{self._estimating.name}"' if self._estimating.asks and not self.settled else ""

    def probe(self, loss: Callable[[], Tensor]) -> None:
        """Evaluate the loss for the estimators that ask; towards the end of the gated phase, compare it with and without single units."""
        if not self.settled and self._model is not None:
            self._estimating.probe(loss, self._model, self._bank)
            self._deciding.probe(loss, self._model, self._bank, self._pricing.row(), self._steps + 1)

    def forget(self) -> None:
        """The step was left out: no θ moves by what its backward passes told."""
        self._bank.hearing.forget()

    def step(self) -> Alive | None:
        """Move every θ; every `interval` steps name the units that stay, at the end of the gated phase settle."""
        if self.settled:
            return None
        self._steps += 1
        self._pricing.part = max(self._pricing.part, self._rise.part(self._steps))
        found, absorbing = self._estimating.estimates(self._bank), self._deciding.begun(self._steps)
        walk(self._bank, found, self._pricing, self._pace.fall_steps, self.pacing.clamp, absorbing=absorbing)
        if self._pace.guards(self._steps):
            guard(self._bank)
        if self._pace.over(self._steps):
            return self.settle()
        if not self._pace.looks(self._steps):
            return None
        guard(self._bank)
        rows = self._bank.rows()
        self._pricing.refresh(self._steps, rows)
        if not self._pace.removes(self._steps):
            return None
        return self._pricing.leaving(staying(self._bank, self._pricing, self.threshold), rows)

    def scores(self) -> Mapping[str, Tensor]:
        """θ, and among equal θ the usefulness."""
        return {name: theta + 1e-3 * torch.sigmoid(usefulness / self._pricing.of(name)) for name, theta, usefulness in self._bank.rows()}

    def moved(self, model: nn.Module) -> None:
        """Gates are placed in the new network when `removed` comes."""
        self._bank.leave()
        self._model = model
        self._pricing.moved(model)

    def removed(self, structure: Structure, plan: Plan) -> None:
        """Cut θ and its averages; gates move to the new indices. Where all gated branches have left, nothing is left to decide."""
        self._deciding.keep(plan.masks(), self._bank.sizes)
        self._bank.keep(plan.masks())
        self._pricing.removed(structure, plan)
        if not self._bank.sizes:
            self.settled = True
            self.detach()
        elif not self.settled and self._model is not None:
            self._bank.place(self._model, structure)

    def settle(self) -> Alive | None:
        """Round every θ: open at ½ and above; a group keeps at least its best unit. The gates leave the network."""
        if self.settled:
            return None
        self.detach()
        if self._steps and self._pricing.part < 1:
            warnings.warn(
                f"Gates: the run ends after step {self._steps}, while prices rise and are at {self._pricing.part:.0%} of their height; "
                "units worth no more than that stay. Let it go on for longer, tell Pruner the steps it has, or give rise=1.",
                ParsinetWarning,
                stacklevel=3,
            )
        if self._steps and not bool(self._bank.usefulness.any()):
            warnings.warn(
                f"Gates: in {self._steps} steps no backward pass went through a gate, so none has learned. Train in training mode "
                "(model.train()), call the model itself, and call pruner.step() after its backward pass.",
                ParsinetWarning,
                stacklevel=3,
            )
        rows = self._bank.rows()
        alive = self._pricing.settled({name: self._bank.rounded(name, theta, use) for name, theta, use in rows}, rows)
        self.settled = True
        return alive

    def detach(self) -> None:
        """Take all gates out of the network."""
        self._bank.leave()
        self._bank.hearing.clearing.leave()

    def describe(self) -> dict[str, Any]:
        """How the gates act; per group: θ of every unit, its sum, the share neither open nor closed, the mean price, the mean usefulness
        over the price."""
        groups = {} if self.settled else told(self._bank, self._pricing, self.threshold, self._steps)
        risen = {"risen": self._pricing.part} if self._rise.height > 1 else {}
        acting = {**risen, "gated": self._pace.gated, "doubt": self._pace.doubt}
        return {**self._pricing.describe(), **acting, "settled": self.settled, "groups": groups}

    def state_dict(self) -> dict[str, Any]:
        """θ, averages, the draws' generator and the position in the schedule."""
        pricing = self._pricing.state_dict()
        return {
            **({"pricing": pricing} if pricing else {}),
            **({"differentiated": True} if self._bank.hearing.differentiated else {}),
            **({"risen": self._pricing.part} if self._rise.height > 1 else {}),
            "steps": self._steps,
            "settled": self.settled,
            "generator": self._generator.get_state(),
            "trials": self._deciding.trials.rows.clone(),
            **self._bank.state_dict(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue bitwise where the state was taken. Raises StructureError, with nothing changed, if it is of other gates."""
        self._bank.load_state_dict(state)
        self._bank.hearing.differentiated = bool(state.get("differentiated", False))
        self._pricing.load_state_dict(state.get("pricing", {}))
        self._pricing.part = float(state.get("risen", 1.0))
        self._deciding.trials.rows = state["trials"].to("cpu", copy=True)
        self._steps = int(state["steps"])
        self._generator.set_state(state["generator"].cpu())
        self.settled = bool(state["settled"])
        if self.settled:
            self.detach()
