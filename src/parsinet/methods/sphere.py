"""LpSGD with topology evolution: weights on unit Lp spheres, masks that move until exactly the wanted share of weights is zero."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from math import prod
from typing import Any, Unpack

import torch
from torch import Tensor, nn

from parsinet import sphere, topology
from parsinet.errors import UsageError
from parsinet.methods.base import Alive, Budget
from parsinet.methods.growing import GrowingTraining
from parsinet.methods.masking import MaskOptions
from parsinet.methods.options import check_number
from parsinet.methods.sphere_options import Exchange, Exponents
from parsinet.methods.units import evolved
from parsinet.structure import Structure
from parsinet.topology import Masks

RAMP = 0.9
"""Share of the window in which the sparsity rises; in the rest the topology still moves at the final number of weights."""


class Sphere(GrowingTraining):
    """Trains on unit Lp spheres with `parsinet.sphere.LpSGD` and evolves the topology to a sparsity.

    p: exponent of the spheres, one number, {pattern of layer names: p}, or "auto": per layer the p at which that share of its weights is
    small by itself, `sphere.p_for_sparsity`. Smaller is sparser by itself, 1.2 to 1.5 served best under masks; 4/3 and 6/5 need no
    logarithms and cost least. p_start: where p begins, falling geometrically to p until the masks are final (one p
    only). last: layers left off the spheres, None for the layer defined last; their weights are masked all the same unless `exclude` names
    them.
    free_lr, free_rule, free_decay: learning rate, "sgd" or "adam", and weight decay of everything off the spheres.

    sparsity: default 0.9; 0 trains without masks. target: as in `MaskedTraining`. start: share of zeros at first, at random; with regrow
    "soft" there are none, and it only says how many weights fade at the first update. Every `interval` steps between `begin` and `end`
    (shares of the run) active weights below rate·(1 + cos πu)/2 times the mean of their unit are dropped and others grow back: controller
    "cubic" to exactly the number that s_t = s* + (start − s*)(1 − min(u/0.9, 1))³ leaves, "authors" by their bang-bang rule, which ends
    near the target. growth: by |g| over its unit's norm, "gradient", "momentum" or "random", see `GrowingTraining`.
    regrow: what becomes of a dropped weight. "semi", "hard", "dense": hidden, and kept by the optimizer as `LpSGD.set_masks` says; "half":
    as "semi", but only the smaller half of what lies below the threshold is dropped; "soft": nothing is hidden until the window ends,
    what would be is multiplied by `fade` at every update instead (default ½). norm_over: see `LpSGD.set_masks`. least: active weights
    every unit keeps. distribution: "global" lets all layers compete, "uniform" and "erk" give each its number.
    exclude, remove_units, seed: as in `MaskedTraining`.

    Raises UsageError for values out of range, another optimizer than LpSGD, no number of steps.
    Source: W. Li et al. 2021, arXiv 2103.16013 (abstract) and its authors' code; exact counts, growth by |g| in one pass, p_start and the
    removal of units are ours.
    """

    usual_interval = 40
    name = "sphere"
    usual_optimizer = "lpsgd"
    """What a recipe takes where it names none."""

    def __init__(
        self,
        sparsity: float | None = None,
        *,
        p: float | str | Mapping[str, float] = 4 / 3,
        p_start: float | None = None,
        last: str | Sequence[str] | None = None,
        free_lr: float = 0.05,
        free_rule: str = "sgd",
        free_decay: float = 0.0,
        start: float = 0.2,
        rate: float = 0.2,
        controller: str = "cubic",
        growth: str = "gradient",
        regrow: str = "semi",
        fade: float | None = None,
        norm_over: str = "all",
        least: int = 1,
        distribution: str = "global",
        begin: float = 0.1,
        end: float = 0.75,
        interval: int | None = usual_interval,
        **options: Unpack[MaskOptions],
    ) -> None:
        if controller == "authors" and distribution != "global":
            raise UsageError(f'sphere: controller="authors" gives no tensor a number of its own; leave out distribution={distribution!r}.')
        super().__init__(growth=growth, sparsity=sparsity, distribution=distribution, begin=begin, end=end, interval=interval, **options)
        self.exchange = Exchange(controller, regrow, fade, rate, least)
        self.exponents = Exponents(p, p_start)
        self.exponents.check(self.sparsity)
        check_number("sphere", "start", start, least=0, below=1)
        self.last, self.start, self.norm_over = last, start, norm_over
        self.free: dict[str, Any] = {"lr": free_lr, "rule": free_rule, "weight_decay": free_decay}
        self.straight_through = regrow == "dense"
        self._optimizer: sphere.LpSGD | None = None
        self._units: dict[str, int] = {}

    def param_groups(self, model: nn.Module) -> list[dict[str, Any]]:
        """One group per p for the weights on spheres, one for everything else."""
        self._meet(model)
        p, kept = self.exponents.first(self.sparsity), self.exchange.kept
        return sphere.param_groups(model, p, last=self.last, free=self.free, regrow=kept, norm_over=self.norm_over)

    def attach(self, model: nn.Module, structure: Structure, budget: Budget, optimizers: Sequence[torch.optim.Optimizer] = ()) -> None:
        """Check the optimizer and place the first masks."""
        own = [optimizer for optimizer in optimizers if isinstance(optimizer, sphere.LpSGD)]
        if len(own) != 1:
            kinds = ", ".join(type(optimizer).__name__ for optimizer in optimizers) or "none"
            raise UsageError(
                f"sphere: the weights stay on their spheres only under parsinet.sphere.LpSGD, got {kinds}. "
                "Use LpSGD(method.param_groups(model), lr=0.01, nesterov=True), or optimizer.name=lpsgd in a recipe."
            )
        self._optimizer = own[0]
        self._units = topology.unit_dims(model, list(topology.maskable(model)))
        super().attach(model, structure, budget, optimizers)
        if not self.sparsity:
            self.settled = self.exponents.start is None

    def step(self) -> Alive | None:
        """Lower p where it falls; then as every masked method."""
        alive = super().step()
        p = self.exponents.at(min(1.0, self._steps / self._window.end))
        if p is not None:
            for group in self._lp_groups():
                group["p"] = p
        return alive

    def describe(self) -> dict[str, Any]:
        """The masks', and per constrained weight p and the mean Hoyer sparsity of its units."""
        exponents = {id(weight): group["p"] for group in self._lp_groups() for weight in group["params"]}
        rows = {
            name: weight.detach().transpose(0, self._units[name]) for name, weight in self.masks.weights.items() if id(weight) in exponents
        }
        hoyer = {name: round(sphere.hoyer(row.flatten(1)).mean().item(), 4) for name, row in rows.items()}
        return {**super().describe(), "p": {name: exponents[id(self.masks.weights[name])] for name in rows}, "hoyer": hoyer}

    def _meet(self, model: nn.Module) -> None:
        """p may follow from the target's sparsity."""
        super()._meet(model)
        self.exponents.check(self.sparsity)

    def _lp_groups(self) -> list[dict[str, Any]]:
        """The optimizer's groups of weights on spheres."""
        assert self._optimizer is not None
        return [group for group in self._optimizer.param_groups if group["constrained"]]

    @property
    def _initial(self) -> float:
        """The share of zeros at first, no more than there are at the end."""
        return min(self.start, self.sparsity)

    def _start(self, masks: Masks) -> dict[str, Tensor] | None:
        if not self._initial or self.exchange.regrow == "soft":
            return None
        floors = self._floors(masks)
        uniform = topology.wanted(masks.shapes, self._initial, "uniform")
        assert not isinstance(uniform, int)
        first = {name: max(number, floors[name]) for name, number in uniform.items()}
        return topology.scatter(masks.masks, first, masks.lots(), least=self.exchange.least, unit_dims=self._units)

    def _floors(self, masks: Masks) -> dict[str, int]:
        """Active weights that `least` keeps in every tensor, in a row no more than it has."""
        return {name: min(self.exchange.least * shape[self._units[name]], prod(shape)) for name, shape in masks.shapes.items()}

    def _check(self, masks: Masks) -> None:
        """Refuse now what the floor would forbid in the middle of the run."""
        super()._check(masks)
        floors = self._floors(masks)
        wanted = self._wanted(self.sparsity)
        tight = sum(floors.values()) > wanted if isinstance(wanted, int) else any(floors[name] > wanted[name] for name in floors)
        if tight:
            left = wanted if isinstance(wanted, int) else dict(wanted)
            raise UsageError(
                f"sphere: sparsity {self.sparsity} leaves {left} weights, but least={self.exchange.least} keeps {floors}. "
                "Lower the sparsity, or least (0 lets units lose all)."
            )

    def _score(self, step: int) -> topology.Score | None:
        return super()._score(step) if self.sparsity else None

    @torch.no_grad()
    def _update(self, masks: Masks, step: int) -> dict[str, Tensor] | None:
        if not self.sparsity:
            return None
        growth = self._growth(masks)
        if not growth:
            return None
        progress = self._window.progress(step)
        rate = topology.cosine_rate(progress, self.exchange.rate)
        if self.exchange.controller == "authors":
            share = topology.BangBang(self.sparsity).replaced_share(1 - masks.active / masks.total, rate)
            rule = partial(topology.regrow, unit_dims=self._units, least=self.exchange.least)
            return rule(masks.weights, masks.masks, growth, rate, share)
        chosen = self._evolved(masks, growth, rate, topology.cubic_sparsity(progress, self.sparsity, self._initial, RAMP))
        if self.exchange.regrow == "soft" and step < self._window.end:
            self._soften(masks, chosen)
            return None
        return chosen

    def _soften(self, masks: Masks, chosen: Mapping[str, Tensor]) -> None:
        """Multiply what is not chosen by `fade`; the optimizer rebuilds v from what the weights are then."""
        assert self._optimizer is not None
        for name, weight in masks.weights.items():
            weight.mul_(torch.where(chosen[name], 1.0, self.exchange.factor))
        self._optimizer.adopt(masks.weights.values())

    def _finish(self, masks: Masks) -> dict[str, Tensor] | None:
        """Without a gradient at hand: the largest of every unit's mean stay."""
        if not self.sparsity or self.exchange.controller == "authors":
            return None
        with torch.no_grad():
            return self._evolved(masks, {name: torch.ones_like(weight) for name, weight in masks.weights.items()}, 0.0, self.sparsity)

    def _evolved(self, masks: Masks, growth: Mapping[str, Tensor], rate: float, sparsity: float) -> dict[str, Tensor]:
        exchange = self.exchange
        rule = partial(topology.evolve, masks.weights, unit_dims=self._units, least=exchange.least, dropped=exchange.dropped)
        structure = self._structure if self.remove_units else None
        chosen = evolved(partial(rule, wanted=self._wanted(sparsity)), masks.masks, growth, rate, structure)
        if not self.settled:
            return chosen
        scores = {name: topology.relative_gradient(gradient, self._units[name]) for name, gradient in growth.items()}
        return self._filled(chosen, scores, None, sparsity)
