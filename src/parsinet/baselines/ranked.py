"""Units ranked by a score, the last of them leaving: by the norm of their weights, or at random."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, Unpack

import torch
from torch import Tensor, nn

from parsinet.baselines.slices import SIDES, slices
from parsinet.baselines.units import JudgedUnits, UnitOptions
from parsinet.distributed import ALONE
from parsinet.errors import StructureError, UsageError
from parsinet.methods import Budget
from parsinet.methods.aim import Aim
from parsinet.methods.amount import Amount, Metric, Share
from parsinet.methods.base import generator
from parsinet.methods.choice import left_out
from parsinet.methods.limits import Limit
from parsinet.methods.options import check_either, check_known, check_number, check_seed
from parsinet.methods.ranking import SCOPES, keep_best
from parsinet.methods.schedule import cubic
from parsinet.structure import Plan, Structure


class RankedOptions(UnitOptions, total=False):
    """What every method that ranks units takes beside its share, with the same meaning and default: see `RankedUnits`."""

    target: str | None
    metric: Metric | None
    max_fall: float | None


class RankedUnits(JudgedUnits):
    """A share of the units leaves, lowest scores first, on a cubic schedule from `begin` to `end`; all at once where they are equal.

    share: of the units of the chosen groups at the start that are gone at the end, > 0 and < 1 (default 0.5); one number or
    {group: share}. Or target: "macs=20%", "params=45k", "bytes=30%" of the dense network; then the share is found that leaves it, and what
    else fits under it stays. scope: "layer", every group loses its share, or "global", all compete. The best unit of every group stays.
    metric: larger is better; with it, and max_fall, `share` is the largest to try: at the one removal (begin = end) it is raised by 0.05
    until the metric of the network without those units falls by more than max_fall of itself. Other options: `JudgedUnits`.
    """

    silences = False

    def __init__(
        self,
        *,
        share: Share | None,
        scope: str,
        begin: float,
        end: float,
        target: str | None = None,
        metric: Metric | None = None,
        max_fall: float | None = None,
        **options: Unpack[UnitOptions],
    ) -> None:
        self.amount, self.scope, self.metric = Amount(self.name, share, target, max_fall), scope, metric
        for value in share.values() if isinstance(share, Mapping) else (share,):
            check_number(self.name, "share", value, above=0, below=1)
        check_known(self.name, "scope", scope, SCOPES)
        if isinstance(share, Mapping) and scope == "global":
            raise UsageError(f"{self.name}: a share per group goes with scope='layer'; with scope='global' give one number.")
        self.amount.check_removals(begin == end, "give end equal to begin")
        self.amount.check_metric(metric)
        self._ranks = ALONE
        if isinstance(share, Mapping) and options.get("groups") is None:
            options["groups"] = list(share)
        super().__init__(begin=begin, end=end, **options)

    @property
    def share(self) -> Share:
        """Of the original units, gone at the end; with a target the one found last."""
        return self.amount.share

    def attach(self, model: nn.Module, structure: Structure, budget: Budget, optimizers: Sequence[torch.optim.Optimizer] = ()) -> None:
        """Choose the groups and fix the schedule; UsageError for a group without a share and for a target that cannot be met."""
        super().attach(model, structure, budget, optimizers)
        if isinstance(self.share, Mapping) and (missing := [name for name in self._original if name not in self.share]):
            raise UsageError(f"{self.name}: share names no number for {', '.join(missing)}.")
        self.amount.need_metric(self.metric)
        self._ranks = budget.ranks
        if self.amount.target is not None:
            others = left_out(structure, self._original, partial(self._against, structure))
            limit = Limit(self.name, self.amount.target, model, structure, budget, self._original)
            self.amount.aim(Aim(limit, self._original, budget.round_to, left_out=others))

    def removed(self, structure: Structure, plan: Plan) -> None:
        """The weights are the only state, and they have been cut; what is left is counted from here."""
        super().removed(structure, plan)
        self.amount.removed(plan)

    def describe(self) -> dict[str, Any]:
        """Per group the scores of its units; with a target the share found for it, what is wanted and what was reached."""
        return {**super().describe(), **self.amount.told()}

    def state_dict(self) -> dict[str, Any]:
        """The position in the schedule; with a target the share found last and what was reached."""
        return {**super().state_dict(), **self.amount.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue where `state_dict` was taken."""
        super().load_state_dict(state)
        self.amount.load_state_dict(state)

    def _alive(self, progress: float) -> dict[str, Tensor]:
        scores = self._scores()
        return self.amount.masks(partial(self._best, scores), scores, cubic(progress, 0, 1))

    def _final(self) -> dict[str, Tensor]:
        scores = self._scores()
        best = partial(self._best, scores)
        if self.metric is None or self.amount.max_fall is None:
            return self.amount.last(best, scores)
        assert self._model is not None
        return self.amount.borne(best, self._model, self.structure, self.metric, self._ranks)

    def _best(self, scores: Mapping[str, Tensor], share: Share) -> dict[str, Tensor]:
        """What stays when this share of the original units is gone."""
        if self.scope == "global":
            assert not isinstance(share, Mapping)
            return keep_best(scores, self._original, share, scope="global")
        shares = share if isinstance(share, Mapping) else dict.fromkeys(scores, share)
        return {name: _best(row, self._original[name], shares[name]) for name, row in scores.items()}


def _best(scores: Tensor, original: int, share: float) -> Tensor:
    """The round(original · (1 − share)) units of highest score, at least one; of equal ones the first."""
    count = max(1, round(original * (1 - share)))
    mask = torch.zeros(len(scores), dtype=torch.bool)
    mask[scores.cpu().sort(descending=True, stable=True).indices[:count]] = True
    return mask


class MagnitudeUnits(RankedUnits):
    """Units ranked by the L2 norm of their weights; with scope "global" over the mean norm of their group.

    weights: "incoming", those that make the unit (filter pruning as published), or "outgoing", those that read it. Other options:
    `RankedUnits`; begin = end = .5 trains, cuts once and fine-tunes for half of the run.
    Source: H. Li, A. Kadav, I. Durdanovic, H. Samet, H. P. Graf 2017, arXiv 1608.08710 (L1 norm of filters, per layer, one cut).
    """

    name = "magnitude-units"

    def __init__(
        self,
        *,
        share: Share | None = None,
        weights: str = "incoming",
        scope: str = "layer",
        begin: float = 0.5,
        end: float = 0.5,
        **options: Unpack[RankedOptions],
    ) -> None:
        check_either(self.name, "weights", weights, *SIDES)
        self.weights = weights
        super().__init__(share=share, scope=scope, begin=begin, end=end, **options)

    def _against(self, structure: Structure, name: str) -> str:
        return "" if slices(structure, name, self.weights) else f"it has no {self.weights} weights"

    def _scores(self) -> dict[str, Tensor]:
        found = self._norms(lambda name: slices(self.structure, name, self.weights))
        if self.scope == "layer":
            return found
        return {name: row / row.mean().clamp(min=torch.finfo(row.dtype).tiny) for name, row in found.items()}


class RandomUnits(RankedUnits):
    """Units in a random order, drawn at the start: what any ranking has to beat. Options: `RankedUnits`, and the seed of the order."""

    name = "random-units"

    def __init__(
        self,
        *,
        share: Share | None = None,
        scope: str = "layer",
        begin: float = 0.5,
        end: float = 0.5,
        seed: int = 0,
        **options: Unpack[RankedOptions],
    ) -> None:
        check_seed(self.name, seed)
        self._generator = generator(seed)
        self._order: dict[str, Tensor] = {}
        super().__init__(share=share, scope=scope, begin=begin, end=end, **options)

    def attach(self, model: nn.Module, structure: Structure, budget: Budget, optimizers: Sequence[torch.optim.Optimizer] = ()) -> None:
        """Choose the groups and draw the order."""
        super().attach(model, structure, budget, optimizers)
        self._order = {name: torch.rand(size, generator=self._generator, dtype=torch.float64) for name, size in self._original.items()}

    def moved(self, model: nn.Module) -> None:
        """The order knows of no weights."""
        self._model = model

    def removed(self, structure: Structure, plan: Plan) -> None:
        """Cut the order."""
        super().removed(structure, plan)
        self._order = {name: row[plan.masks()[name]] if name in plan.alive else row for name, row in self._order.items()}

    def state_dict(self) -> dict[str, Any]:
        """The position in the schedule and the order."""
        return {**super().state_dict(), "order": {name: row.clone() for name, row in self._order.items()}}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue where the state was taken. Raises StructureError, with nothing changed, if it is of other units."""
        here, there = ({name: len(row) for name, row in rows.items()} for rows in (self._order, state["order"]))
        if here != there:
            raise StructureError(f"{self.name}: the saved order is of groups {there}; here are {here}.")
        super().load_state_dict(state)
        self._order = {name: row.clone() for name, row in state["order"].items()}

    def _scores(self) -> dict[str, Tensor]:
        return dict(self._order)
