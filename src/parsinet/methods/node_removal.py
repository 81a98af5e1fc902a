"""Which nodes leave in spectral training: a share of them by rank, as many as a metric bears, or what a target leaves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from parsinet import spectral
from parsinet.distributed import Ranks
from parsinet.errors import StructureError, UsageError
from parsinet.methods.aim import Aim
from parsinet.methods.amount import Amount, Metric, Share
from parsinet.methods.base import Budget
from parsinet.methods.choice import told_left_out
from parsinet.methods.limits import Limit
from parsinet.methods.nodes import SCORES, node_scores
from parsinet.methods.options import check_known, check_number, check_whole
from parsinet.methods.phases import Phases
from parsinet.methods.ranking import SCOPES, keep_best
from parsinet.structure import Plan, Structure, UnitGroup, trace
from parsinet.structure.copies import duplicate


@dataclass(frozen=True)
class RemovalOptions:
    """How much leaves, how units are ranked, and among which groups. See `Spectral`."""

    amount: Amount
    score: str
    scope: str
    min_units: int
    groups: Sequence[str] | None

    def __post_init__(self) -> None:
        """UsageError for values out of range."""
        check_known("Spectral", "score", self.score, SCORES)
        check_known("Spectral", "scope", self.scope, SCOPES)
        if isinstance(self.amount.share, Mapping):
            raise UsageError("Spectral: share is one number for all groups; name the groups that may shrink in groups.")
        check_number("Spectral", "share", self.share, "a part of the units", least=0, most=1)
        check_whole("Spectral", "min_units", self.min_units)

    @property
    def share(self) -> float:
        """Of the units at the start that has left at the end."""
        assert not isinstance(self.amount.share, Mapping)
        return self.amount.share

    def check(self, phases: Phases) -> None:
        """UsageError for phases in which there is no one removal that could be judged."""
        self.amount.check_removals(phases.begin >= phases.end, "give schedule='post', 'pre' or 'distilled', or end equal to begin")


def check_rank(score: str, variant: str) -> None:
    """UsageError where |λ| would rank nodes of maps whose eigenvalues train at both ends."""
    known = spectral.VARIANTS[variant]
    if score == "eigenvalue" and known.trains_in and known.trains_out:
        one = ", ".join(name for name, each in spectral.VARIANTS.items() if each.trains_out and not each.trains_in)
        raise UsageError(
            f"Spectral: score='eigenvalue' ranks by one set of eigenvalues, and variant {variant!r} trains both. Take score='relevance', "
            f"or a variant of one set: {one}."
        )


def check_interval(interval: int | None, phases: Phases) -> None:
    """UsageError for time between removals where there is one."""
    if interval is not None and phases.begin >= phases.end:
        raise UsageError("Spectral: interval is the time between removals, and all nodes leave at once here. Leave it out.")


class NodeRemoval:
    """The units of an attached network, their ranks, and who stays."""

    def __init__(self, options: RemovalOptions) -> None:
        self.options, self.amount = options, options.amount
        self._sizes: dict[str, int] = {}
        self._model: nn.Module | None = None
        self._structure: Structure | None = None

    @property
    def share(self) -> float:
        """Of the units at the start that has left at the end."""
        return self.options.share

    def attach(self, model: nn.Module, structure: Structure, budget: Budget) -> None:
        """Choose the groups; find the way to the target, on the plain network that will be left."""
        self._model, self._structure = model, structure
        names = _groups(model, structure, self.options.score, self.options.groups, removes=bool(self.share))
        self._sizes = {name: structure.group(name).size for name in names}
        if self.amount.target is None:
            return
        if budget.example_inputs is None:
            raise UsageError("Spectral: target needs the example inputs of the network; give the method to a Pruner.")
        plain = spectral.fold(duplicate(model))
        inside = trace(plain, budget.example_inputs)
        limit = Limit("Spectral", self.amount.target, plain, inside, budget, self._sizes)
        self.amount.aim(Aim(limit, self._sizes, budget.round_to, self.options.min_units))

    def scores(self) -> dict[str, Tensor]:
        """The chosen score of every unit of the groups; none before there is a network."""
        if self._model is None or self._structure is None:
            return {}
        found = node_scores(self._model, self._structure, self.options.score)
        return {name: row for name, row in found.items() if name in self._sizes}

    def masks(self, progress: float) -> dict[str, Tensor]:
        """Which units stay at part `progress` of the way."""
        return self.amount.masks(self._best, self.scores(), progress)

    def last(self, metric: Metric | None, ranks: Ranks) -> dict[str, Tensor]:
        """Which units stay at the end; with `max_fall` as few as the metric bears. ranks: processes that train together."""
        if metric is None or self.amount.max_fall is None:
            return self.amount.last(self._best, self.scores())
        assert self._model is not None
        assert self._structure is not None
        return self.amount.borne(self._best, self._model, self._structure, metric, ranks)

    def removed(self, structure: Structure, plan: Plan) -> None:
        """Follow a removal."""
        self._structure = structure
        self.amount.removed(plan)

    def describe(self, progress: float) -> dict[str, Any]:
        """The share that should be gone at part `progress` of the way; with a target the one found for it, and the target."""
        return self.amount.told() or {"share": self.share * progress}

    def state_dict(self) -> dict[str, Any]:
        """With a target the share found last and what was reached, else nothing."""
        return self.amount.state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue where `state_dict` was taken."""
        self.amount.load_state_dict(state)

    def _best(self, share: Share) -> dict[str, Tensor]:
        assert not isinstance(share, Mapping)
        return keep_best(self.scores(), self._sizes, share, scope=self.options.scope, min_units=self.options.min_units)


def _groups(model: nn.Module, structure: Structure, score: str, wanted: Sequence[str] | None, *, removes: bool) -> list[str]:
    """Names of the groups a removal may take units from: `wanted`, or all that have a score.

    Raises StructureError for wanted groups that cannot shrink, UsageError where there is none and units are to leave.
    """
    scored = node_scores(model, structure, score) if removes or wanted else {}
    for name in wanted or ():
        if name not in scored:
            raise StructureError(f"Spectral: group {name!r} cannot shrink: {_reason(structure.group(name), score)}.")
    if wanted is not None and not wanted:
        raise UsageError("Spectral: groups names no group; leave it out for all of them, or give share=0 to train only.")
    if removes and not scored:
        told = told_left_out({group.name: _reason(group, score) for group in structure.groups}) or " It has no groups at all."
        raise UsageError(f"Spectral: no group of this network can lose units.{told} Give share=0 to train only.")
    return list(scored if wanted is None else wanted)


def _reason(group: UnitGroup, score: str) -> str:
    """Why a group without this score loses no units."""
    if group.kind == "block":
        return "it is a residual branch, no group of units"
    done = {"outgoing": "reads", "both": "makes or reads"}.get(score, "makes")
    return group.reason or f"no spectral layer {done} its units; other methods remove them, such as Gates and MagnitudeUnits"
