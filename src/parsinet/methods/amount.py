"""How much leaves: a share of the units, what a target leaves, or as much of a share as a metric bears."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor, nn

from parsinet.distributed import Ranks
from parsinet.errors import ParsinetWarning, UsageError
from parsinet.methods.aim import Aim
from parsinet.methods.guided import Borne, largest_share
from parsinet.methods.options import check_number, check_one_way
from parsinet.methods.target import Target
from parsinet.structure import Plan, Structure

SHARE = 0.5
"""Where neither a share nor a target is given."""

Metric = Callable[[], float]
Share = float | Mapping[str, float]
ByShare = Callable[[Share], dict[str, Tensor]]
"""Share of the original units that leaves, one number or one per group → masks over the present ones."""


class Amount:
    """What a method that ranks units lets go of.

    share: of the original units, gone at the end, one number or one per group (default 0.5); or target: the share is found that leaves it.
    max_fall: at the one removal the share is raised up to `share` until a metric has fallen by more than this part of itself.
    Raises UsageError for two ways at once.
    """

    def __init__(self, who: str, share: Share | None, target: str | None, max_fall: float | None) -> None:
        check_one_way(who, share=share, target=target)
        check_number(who, "max_fall", max_fall, least=0, below=float("inf"))
        if target is not None and max_fall is not None:
            raise UsageError(f"{who}: target says how small, max_fall how good; give one of them.")
        if isinstance(share, Mapping) and max_fall is not None:
            raise UsageError(f"{who}: max_fall tries one share for all groups; give share as one number, the largest to try.")
        self.share: Share = SHARE if share is None else share
        self.target, self.max_fall = Target.given(who, target), max_fall
        if self.target is not None and self.target.kind == "latency":
            raise UsageError(f"{who}: a target is met here by counting, and {self.target} has to be timed; give macs, params or bytes.")
        self._who = who
        self._aim: Aim | None = None
        self._borne: Borne | None = None

    def check_removals(self, one: bool, advice: str) -> None:
        """UsageError where a metric would have to judge more than one removal."""
        if self.max_fall is not None and not one:
            raise UsageError(
                f"{self._who}: max_fall judges one removal, and a gradual one has taken nearly all of the share before its last; {advice}."
            )

    def check_metric(self, metric: Metric | None) -> None:
        """UsageError for a metric that limits nothing, or is none."""
        if metric is not None and not callable(metric):
            raise UsageError(f"{self._who}: metric must be a function without arguments that judges the network, got {metric!r}.")
        if metric is not None and self.max_fall is None:
            raise UsageError(f"{self._who}: a metric limits the share only together with max_fall, by how much it may fall; give both.")

    def need_metric(self, metric: Metric | None) -> None:
        """UsageError where there is none."""
        if self.max_fall is not None and metric is None:
            raise UsageError(f"{self._who}: max_fall needs a metric; in a recipe give data.validation, its accuracy is the metric then.")

    def aim(self, aim: Aim) -> None:
        """Follow a way to the target."""
        self._aim = aim

    def masks(self, best: ByShare, scores: Mapping[str, Tensor], progress: float) -> dict[str, Tensor]:
        """Which units stay at part `progress` of the way."""
        if self._aim is not None:
            masks, self.share = self._aim.choose(best, scores, progress)
            return masks
        if isinstance(self.share, Mapping):
            return best({name: progress * share for name, share in self.share.items()})
        return best(self.share * progress)

    def last(self, best: ByShare, scores: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Which units stay at the end; a target that they do not meet is told."""
        masks = self.masks(best, scores, 1.0)
        if self._aim is not None:
            self._aim.judge(masks)
        return masks

    def borne(self, best: ByShare, model: nn.Module, structure: Structure, metric: Metric, ranks: Ranks) -> dict[str, Tensor]:
        """Which units stay if as many leave as the metric bears, `share` of them at most; warns if it bears none. ranks: processes that
        train together."""
        assert self.max_fall is not None
        assert not isinstance(self.share, Mapping)
        self._borne = found = largest_share(self._who, model, structure, best, metric, self.max_fall, self.share, ranks=ranks)
        masks = best(found.share)
        if all(bool(mask.all()) for mask in masks.values()):
            warnings.warn(
                f"{self._who}: no unit leaves: already without the first ones the metric falls by more than {self.max_fall:.3g} of "
                f"{found.whole:.4g}. Give a larger max_fall, or train longer before the removal.",
                ParsinetWarning,
                stacklevel=4,
            )
        return masks

    def removed(self, plan: Plan) -> None:
        """Follow a removal."""
        if self._aim is not None:
            self._aim.removed(plan)

    def told(self) -> dict[str, Any]:
        """The share found for a target, and the target; the share that the metric bore, and the metric; else nothing."""
        if self._borne is not None:
            return {"share": self._borne.share, "metric": {"whole": self._borne.whole, "left": self._borne.left}}
        return {} if self._aim is None else {"share": self.share, **self._aim.told()}

    def state_dict(self) -> dict[str, Any]:
        """With a target the share found last and what was reached, with max_fall what was borne, else nothing."""
        if self.max_fall is not None:
            return {"borne": None if self._borne is None else [self._borne.share, self._borne.whole, self._borne.left]}
        return {} if self._aim is None else {"share": self.share, **self._aim.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue where `state_dict` was taken."""
        if self.max_fall is not None:
            self._borne = None if state["borne"] is None else Borne(*state["borne"])
        if self._aim is not None:
            self.share = float(state["share"])
            self._aim.load_state_dict(state)
