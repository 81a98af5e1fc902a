"""Spectral training: eigenvalues instead of weights, alone at first or throughout; nodes of small relevance leave."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from parsinet import spectral
from parsinet.distributed import ALONE
from parsinet.errors import UsageError
from parsinet.methods.amount import Amount
from parsinet.methods.base import Alive, Budget
from parsinet.methods.given import Remembering
from parsinet.methods.node_removal import NodeRemoval, RemovalOptions, check_interval, check_rank
from parsinet.methods.options import check_known, check_seed, check_whole
from parsinet.methods.phases import phases_of
from parsinet.methods.spectral_options import Form, Rates, eigenvalues_of
from parsinet.structure import Plan, Structure


class Spectral(Remembering):
    """Trains w_ij = (λ_in,j − λ_out,i)·φ_ij and removes the nodes of least relevance, physically.

    share: of the units that may leave, how many do (default 0.5; 0 removes none), or target: "macs=20%", "params=45k", "bytes=30%" of the
    plain network, for which the share is found whenever units leave. variant, initialiser, layers: of `spectral.spectralize`, except that
    layers=None leaves frozen layers alone; every other layer trains as it is. schedule: "post", "pre", "distilled" or "continuous";
    eigenvalues, begin, end (shares of the run) override its phases: before `eigenvalues` φ stands still. With continuous removal
    share·(1 − (1 − u)³) of the units are gone at part u of the way from begin to end.
    score: "relevance" (norm of the composed incoming weights, independent of the gauge), "outgoing", "both" (their product) or
    "eigenvalue" (|λ|, as published; variants with one set). scope: "layer" or "global", one threshold for all groups. min_units: stay in
    every group. interval: steps between removals (default a hundredth of the run).
    eigenvalue_decay, basis_decay: weight decay of λ and of φ, instead of the optimizer's own; both together are a group lasso on nodes:
    min over the split of a·λ² + b·‖φ_i‖² is 2√(ab)·‖w_i‖. eigenvalue_lasso: adds its value times Σ|λ| to the loss. eigenvalue_lr: learning
    rate of λ. metric: larger is better; with it, and max_fall, `share` is the largest to try, and at the last removal the share is raised
    by 0.05 until the metric of the network without them falls by more than max_fall of itself. groups: names of the groups to shrink.
    seed: of a drawn basis.

    Raises UsageError for values out of range, StructureError for groups that cannot shrink.
    Sources: arXiv 2108.00940 (pruning before and after training), 2106.09021 (two sets); continuous removal, the scores "outgoing" and
    "both" and convolutions are ours. See docs/spectral.md.
    """

    name = "spectral"
    silences = False
    rescales = True

    def __init__(
        self,
        share: float | None = None,
        *,
        target: str | None = None,
        variant: str = "full-one-set",
        initialiser: str | None = None,
        layers: Sequence[str] | None = None,
        schedule: str = "continuous",
        eigenvalues: float | None = None,
        begin: float | None = None,
        end: float | None = None,
        score: str = "relevance",
        scope: str = "layer",
        min_units: int = 1,
        interval: int | None = None,
        eigenvalue_decay: float = 0.0,
        basis_decay: float | None = None,
        eigenvalue_lasso: float = 0.0,
        eigenvalue_lr: float | None = None,
        metric: Callable[[], float] | None = None,
        max_fall: float | None = None,
        groups: Sequence[str] | None = None,
        seed: int = 0,
    ) -> None:
        check_known("Spectral", "variant", variant, spectral.VARIANTS)
        check_whole("Spectral", "interval", interval)
        check_seed("Spectral", seed)
        self.phases = phases_of(schedule, eigenvalues, begin, end)
        self.form = Form(variant, initialiser, layers, seed)
        self.rates = Rates(eigenvalue_decay, basis_decay, eigenvalue_lasso, eigenvalue_lr)
        amount = Amount("Spectral", share, target, max_fall)
        chosen = RemovalOptions(amount, score, scope, min_units, groups)
        chosen.check(self.phases)
        check_rank(chosen.score, variant)
        check_interval(interval, self.phases)
        amount.check_metric(metric)
        self.removal = NodeRemoval(chosen)
        self.metric, self.interval = metric, interval
        self.settled = self.removal.share == 0
        self._steps = 0
        self._total: int | None = None
        self._eigenvalues: list[nn.Parameter] = []
        self._model: nn.Module | None = None
        self._ranks = ALONE

    def prepare(self, model: nn.Module) -> None:
        """Turn the layers into spectral ones."""
        self.form.apply(model)
        self.rates.check(model, self.form.variant)
        if self.phases.eigenvalues and not spectral.basis_parameters(model):
            raise UsageError(
                f"Spectral: variant {self.form.variant!r} trains eigenvalues only, so there is nothing left to train after the first "
                "phase. Use variant='full-one-set', or eigenvalues=0."
            )

    def param_groups(self, model: nn.Module) -> list[dict[str, Any]]:
        """Eigenvalues and eigenvectors with their own decay; other matrices with the optimizer's; biases and norms without."""
        return self.rates.groups(model)

    def attach(self, model: nn.Module, structure: Structure, budget: Budget, optimizers: Sequence[torch.optim.Optimizer] = ()) -> None:
        """Choose the groups and fix the schedule."""
        if not spectral.spectral_layers(model):
            raise UsageError("Spectral: the model has no spectral layer; call method.prepare(model) before the optimizer is built.")
        if budget.steps is None and (self.phases.eigenvalues or (self.removal.share and self.phases.begin < 1)):
            raise UsageError("Spectral: the phases are shares of the run; give Pruner(..., steps=N), or schedule='post'.")
        self.removal.amount.need_metric(self.metric)
        self._model, self._total, self._ranks = model, budget.steps, budget.ranks
        self.interval = self.interval or max(1, (budget.steps or 100) // 100)
        self._eigenvalues = eigenvalues_of(model)
        self.removal.attach(model, structure, budget)
        self._enter_phase()

    def penalty(self) -> Tensor | float:
        """eigenvalue_lasso · Σ|λ|."""
        return self.rates.penalty(self._eigenvalues)

    def step(self) -> Alive | None:
        """Begin to train φ when its time has come; name the units that stay when some are due to leave."""
        self._steps += 1
        if self.phases.alone(self._steps - 1, self._total) != self.phases.alone(self._steps, self._total):
            self._enter_phase()
        if self.settled:
            return None
        steps = self._total
        if steps is None or self._steps < round(self.phases.begin * steps) or self.phases.begin == 1:
            return None
        if self._steps >= round(self.phases.end * steps):
            return self.settle()
        assert self.interval is not None
        return None if self._steps % self.interval else self.removal.masks(self._progress())

    def scores(self) -> Mapping[str, Tensor]:
        """The chosen score of every unit."""
        return self.removal.scores()

    def removed(self, structure: Structure, plan: Plan) -> None:
        """Follow the structure; eigenvalues and eigenvectors are the model's and were cut with it."""
        self.removal.removed(structure, plan)

    def settle(self) -> Alive | None:
        """The last removal: `share`, or as much of it as the metric allows, or what the target leaves."""
        if self.settled:
            return None
        masks = self.removal.last(self.metric, self._ranks)
        self.settled = True
        return masks

    def detach(self) -> None:
        """Fold every spectral layer back into the plain one."""
        if self._model is not None:
            spectral.train_basis(self._model)
            spectral.fold(self._model)

    def describe(self) -> dict[str, Any]:
        """Per group the score of every unit; which phase runs; the share that should be gone."""
        scores = {} if self.settled else self.removal.scores()
        groups = {name: {"score": [round(value, 4) for value in row.tolist()]} for name, row in scores.items()}
        phase = "eigenvalues" if self.phases.alone(self._steps, self._total) else "all"
        share = self.removal.describe(1.0 if self.settled else self._progress())
        return {"settled": self.settled, "phase": phase, **share, "groups": groups}

    def state_dict(self) -> dict[str, Any]:
        """The position in the schedule; everything else is the model's."""
        return {"steps": self._steps, "settled": self.settled, **self.removal.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue bitwise where the state was taken."""
        self._steps, self.settled = int(state["steps"]), bool(state["settled"])
        self.removal.load_state_dict(state)
        self._enter_phase()

    def _progress(self) -> float:
        """Which part of the share should be gone by now."""
        return self.phases.gone(self._steps, self._total)

    def _enter_phase(self) -> None:
        if self._model is not None and self.phases.eigenvalues:
            alone = self.phases.alone(self._steps, self._total)
            (spectral.freeze_basis if alone else spectral.train_basis)(self._model)
