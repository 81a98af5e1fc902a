"""Spectral training: eigenvalues instead of weights, alone at first or throughout; nodes of small relevance leave."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from parsinet import spectral
from parsinet.errors import UsageError
from parsinet.methods.aim import Aim
from parsinet.methods.base import Alive, Budget, generator
from parsinet.methods.guided import largest_share
from parsinet.methods.nodes import SCORES, node_scores
from parsinet.methods.phases import SCHEDULES, phases_of
from parsinet.methods.ranking import SCOPES, keep_best
from parsinet.methods.spectral_options import eigenvalues_of, groups_to_shrink, known, not_negative, parameter_groups, usual_initialiser
from parsinet.methods.target import Target
from parsinet.structure import Plan, Structure, trace
from parsinet.structure.copies import duplicate


class Spectral:
    """Trains w_ij = (λ_in,j − λ_out,i)·φ_ij and removes the nodes of least relevance, physically.

    share: of the units that may leave, how many do (default 0.5; 0 removes none), or target: "macs=20%", "params=45k", "bytes=30%" of the
    plain network, for which the share is found whenever units leave. variant, initialiser, layers: of `spectral.spectralize`; every other
    layer trains as it is. schedule: "post", "pre", "distilled" or "continuous"; eigenvalues, begin, end (shares of the run) override its
    phases: before `eigenvalues` φ stands still. With continuous removal share·(1 − (1 − u)³) of the units are gone at part u of the way
    from begin to end.
    score: "relevance" (norm of the composed incoming weights, independent of the gauge), "outgoing", "both" (their product) or
    "eigenvalue" (|λ|, as published; variants with one set). scope: "layer" or "global", one threshold for all groups. min_units: stay in
    every group. interval: steps between removals (default a hundredth of the run).
    eigenvalue_decay, basis_decay: weight decay of λ and of φ, instead of the optimizer's own; both together are a group lasso on nodes:
    min over the split of a·λ² + b·‖φ_i‖² is 2√(ab)·‖w_i‖. eigenvalue_lasso: adds its value times Σ|λ| to the loss. eigenvalue_lr: learning
    rate of λ. metric: larger is better; with it `share` is the largest to try, and at the last removal the share is raised by 0.05 until
    the metric of the network without them falls by more than max_fall of itself. groups: names of the groups to shrink. seed: of a
    drawn basis.

    Raises UsageError for values out of range, StructureError for groups that cannot shrink.
    Sources: arXiv 2108.00940 (pruning before and after training), 2106.09021 (two sets); continuous removal, the scores "outgoing" and
    "both" and convolutions are ours. See docs/spectral.md.
    """

    name = "spectral"
    silences = False

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
        known(
            ("schedule", schedule, SCHEDULES), ("score", score, SCORES), ("scope", scope, SCOPES), ("variant", variant, spectral.VARIANTS)
        )
        phases = phases_of(schedule, eigenvalues, begin, end)
        if target is not None and share is not None:
            raise UsageError("Spectral: give share or target, not both.")
        if target is not None and max_fall is not None:
            raise UsageError("Spectral: target says how small, max_fall how good; give one of them.")
        self.target = None if target is None else Target.parse("Spectral", target)
        share = 0.5 if share is None else share
        not_negative(
            share=share,
            eigenvalue_decay=eigenvalue_decay,
            basis_decay=basis_decay,
            eigenvalue_lasso=eigenvalue_lasso,
            eigenvalue_lr=eigenvalue_lr,
            max_fall=max_fall,
        )
        if share > 1:
            raise UsageError(f"Spectral: share is a part of the units, in [0, 1]; got {share}.")
        for name, count in (("min_units", min_units), ("interval", interval)):
            if count is not None and (not isinstance(count, int) or count < 1):
                raise UsageError(f"Spectral: {name} must be a whole number ≥ 1, got {count!r}.")
        if max_fall is not None and phases.begin < phases.end:
            raise UsageError(
                "Spectral: max_fall judges one removal, and a gradual one has taken nearly all of the share before its last; "
                "give schedule='post', 'pre' or 'distilled', or end equal to begin."
            )
        self.share, self.phases = share, phases
        self.variant, self.initialiser, self.layers = variant, initialiser or usual_initialiser(variant), layers
        self.score, self.scope, self.min_units, self.interval = score, scope, min_units, interval
        self.eigenvalue_decay, self.basis_decay, self.eigenvalue_lasso = eigenvalue_decay, basis_decay, eigenvalue_lasso
        self.eigenvalue_lr, self.seed = eigenvalue_lr, seed
        self.metric, self.max_fall = metric, max_fall
        self.settled = share == 0
        self._wanted = groups
        self._steps = 0
        self._budget = Budget()
        self._original: dict[str, int] = {}
        self._eigenvalues: list[nn.Parameter] = []
        self._model: nn.Module | None = None
        self._structure: Structure | None = None
        self._aim: Aim | None = None
        self._reached: float | None = None

    def prepare(self, model: nn.Module) -> None:
        """Turn the layers into spectral ones."""
        draws = self.initialiser not in ("keep", "gate")
        source = generator(self.seed) if draws else None
        spectral.spectralize(model, self.variant, initialiser=self.initialiser, layers=self.layers, generator=source)
        if self.phases.eigenvalues and not spectral.basis_parameters(model):
            raise UsageError(
                f"Spectral: variant {self.variant!r} trains eigenvalues only, so there is nothing left to train after the first phase. "
                "Use variant='full-one-set', or eigenvalues=0."
            )

    def param_groups(self, model: nn.Module) -> list[dict[str, Any]]:
        """Eigenvalues and eigenvectors with their own decay; other matrices with the optimizer's; biases and norms without."""
        return parameter_groups(model, self.eigenvalue_decay, self.basis_decay, self.eigenvalue_lr)

    def attach(self, model: nn.Module, structure: Structure, budget: Budget, optimizers: Sequence[torch.optim.Optimizer] = ()) -> None:
        """Choose the groups and fix the schedule."""
        if not spectral.spectral_layers(model):
            raise UsageError("Spectral: the model has no spectral layer; call method.prepare(model) before the optimizer is built.")
        if budget.steps is None and (self.phases.eigenvalues or (self.share and self.phases.begin < 1)):
            raise UsageError("Spectral: the phases are shares of the run; give Pruner(..., steps=N), or schedule='post'.")
        if self.max_fall is not None and self.metric is None:
            raise UsageError("Spectral: max_fall needs a metric; in a recipe give data.validation, its accuracy is the metric then.")
        self._model, self._structure, self._budget = model, structure, budget
        self.interval = self.interval or max(1, (budget.steps or 100) // 100)
        self._original = {
            name: structure.group(name).size for name in groups_to_shrink(model, structure, self.score, self._wanted, bool(self.share))
        }
        self._eigenvalues = eigenvalues_of(model)
        self._enter_phase()
        if self.target is not None:
            self._aim = self._aimed(model, budget)

    def penalty(self) -> Tensor | float:
        """eigenvalue_lasso · Σ|λ|."""
        if not self.eigenvalue_lasso:
            return 0.0
        return self.eigenvalue_lasso * torch.stack([values.abs().sum() for values in self._eigenvalues]).sum()

    def step(self) -> Alive | None:
        """Begin to train φ when its time has come; name the units that stay when some are due to leave."""
        self._steps += 1
        if self.phases.alone(self._steps - 1, self._budget.steps) != self.phases.alone(self._steps, self._budget.steps):
            self._enter_phase()
        if self.settled:
            return None
        steps = self._budget.steps
        if steps is None or self._steps < round(self.phases.begin * steps) or self.phases.begin == 1:
            return None
        if self._steps >= round(self.phases.end * steps):
            return self.settle()
        assert self.interval is not None
        if self._steps % self.interval:
            return None
        return self._best(self._due()) if self._aim is None else self._aimed_at(self._aim, self.phases.gone(self._steps, steps))

    def scores(self) -> Mapping[str, Tensor]:
        """The chosen score of every unit."""
        assert self._model is not None
        assert self._structure is not None
        found = node_scores(self._model, self._structure, self.score)
        return {name: row for name, row in found.items() if name in self._original}

    def removed(self, structure: Structure, plan: Plan) -> None:
        """Follow the structure; eigenvalues and eigenvectors are the model's and were cut with it."""
        self._structure = structure
        if self._aim is not None:
            self._aim.removed(plan)

    def settle(self) -> Alive | None:
        """The last removal: `share`, or as much of it as the metric allows, or what the target leaves."""
        if self.settled:
            return None
        self.settled = True
        if self._aim is not None:
            masks = self._aimed_at(self._aim, 1.0)
            self._reached = self._aim.reached(masks)
            return masks
        if self.metric is None or self.max_fall is None:
            return self._best(self.share)
        assert self._model is not None
        assert self._structure is not None
        return self._best(largest_share(self._model, self._structure, self._best, self.metric, self.max_fall, self.share))

    def detach(self) -> None:
        """Fold every spectral layer back into the plain one."""
        if self._model is not None:
            spectral.train_basis(self._model)
            spectral.fold(self._model)

    def describe(self) -> dict[str, Any]:
        """Per group the score of every unit; which phase runs; the share that should be gone."""
        scores = {} if self.settled or self._model is None else self.scores()
        groups = {name: {"score": [round(value, 4) for value in row.tolist()]} for name, row in scores.items()}
        phase = "eigenvalues" if self.phases.alone(self._steps, self._budget.steps) else "all"
        told = {"settled": self.settled, "phase": phase, "share": self.share if self.settled else self._due(), "groups": groups}
        return told if self._aim is None else {**told, "share": self.share, "target": self._aim.limit.told(self._reached)}

    def state_dict(self) -> dict[str, Any]:
        """The position in the schedule; everything else is the model's."""
        aimed = {} if self._aim is None else {"share": self.share, "reached": self._reached}
        return {"steps": self._steps, "settled": self.settled, **aimed}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue bitwise where the state was taken."""
        self._steps, self.settled = int(state["steps"]), bool(state["settled"])
        if self._aim is not None:
            self.share, self._reached = float(state["share"]), state["reached"]
        self._enter_phase()

    def _best(self, share: float) -> dict[str, Tensor]:
        return keep_best(self.scores(), self._original, share, scope=self.scope, min_units=self.min_units)

    def _aimed(self, model: nn.Module, budget: Budget) -> Aim:
        """The target on the plain network that will be left."""
        if budget.example_inputs is None:
            raise UsageError("Spectral: target needs the example inputs of the network; give the method to a Pruner.")
        assert self.target is not None
        plain = spectral.fold(duplicate(model))
        return Aim("Spectral", self.target, plain, trace(plain, budget.example_inputs), budget, self._original, self.min_units)

    def _aimed_at(self, aim: Aim, progress: float) -> dict[str, Tensor]:
        masks, self.share = aim.choose(self._best, self.scores(), progress)
        return masks

    def _due(self) -> float:
        """The share that should be gone by now."""
        return self.share * self.phases.gone(self._steps, self._budget.steps)

    def _enter_phase(self) -> None:
        if self._model is not None and self.phases.eigenvalues:
            alone = self.phases.alone(self._steps, self._budget.steps)
            (spectral.freeze_basis if alone else spectral.train_basis)(self._model)
