"""Units ranked by a score, the last of them leaving: by the norm of their weights, or at random."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Unpack

import torch
from torch import Tensor, nn

from parsinet.baselines.slices import SIDES, slices
from parsinet.baselines.units import JudgedUnits, UnitOptions
from parsinet.errors import StructureError, UsageError
from parsinet.methods import Budget
from parsinet.methods.base import generator
from parsinet.methods.options import check_either, check_known, check_number, check_seed
from parsinet.methods.ranking import SCOPES, keep_best
from parsinet.structure import Plan, Structure


class RankedUnits(JudgedUnits):
    """A share of the units leaves, lowest scores first, on a cubic schedule from `begin` to `end`; all at once where they are equal.

    share: of the units of the chosen groups at the start that are gone at the end, > 0 and < 1; one number or {group: share}. scope:
    "layer", every group loses its share, or "global", all compete. The best unit of every group stays.
    Other options: `JudgedUnits`.
    """

    silences = False

    def __init__(
        self,
        *,
        share: float | Mapping[str, float],
        scope: str,
        begin: float,
        end: float,
        **options: Unpack[UnitOptions],
    ) -> None:
        for value in share.values() if isinstance(share, Mapping) else (share,):
            check_number(self.name, "share", value, above=0, below=1)
        check_known(self.name, "scope", scope, SCOPES)
        if isinstance(share, Mapping) and scope == "global":
            raise UsageError(f"{self.name}: a share per group goes with scope='layer'; with scope='global' give one number.")
        self.share, self.scope = share, scope
        if isinstance(share, Mapping) and options.get("groups") is None:
            options["groups"] = list(share)
        super().__init__(begin=begin, end=end, **options)

    def attach(self, model: nn.Module, structure: Structure, budget: Budget, optimizers: Sequence[torch.optim.Optimizer] = ()) -> None:
        """Choose the groups and fix the schedule; UsageError for a group without a share."""
        super().attach(model, structure, budget, optimizers)
        if isinstance(self.share, Mapping) and (missing := [name for name in self._original if name not in self.share]):
            raise UsageError(f"{self.name}: share names no number for {', '.join(missing)}.")

    def _alive(self, progress: float) -> dict[str, Tensor]:
        part, scores = 1 - (1 - progress) ** 3, self._scores()
        if self.scope == "global":
            assert not isinstance(self.share, Mapping)
            return keep_best(scores, self._original, part * self.share, scope="global")
        shares = self.share if isinstance(self.share, Mapping) else dict.fromkeys(scores, self.share)
        return {name: _best(row, self._original[name], part * shares[name]) for name, row in scores.items()}


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
        share: float | Mapping[str, float] = 0.5,
        weights: str = "incoming",
        scope: str = "layer",
        begin: float = 0.5,
        end: float = 0.5,
        **options: Unpack[UnitOptions],
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
        share: float | Mapping[str, float] = 0.5,
        scope: str = "layer",
        begin: float = 0.5,
        end: float = 0.5,
        seed: int = 0,
        **options: Unpack[UnitOptions],
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
