"""A target for methods that find out by themselves which units are dead: it drives the threshold below which a unit is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor, nn

from parsinet.methods.aim import Aim
from parsinet.methods.base import Budget
from parsinet.methods.limits import Limit
from parsinet.methods.target import Target
from parsinet.structure import Plan, Structure


class Goal:
    """While units die on their own, none leaves that the target has room for; at the end so many of the best stay as fit under it.

    Without a target units leave as the method says. price: what the method calls what makes units die, for warnings.
    """

    def __init__(self, who: str, target: str | None, price: str) -> None:
        self.target = Target.given(who, target)
        self._who, self._price = who, price
        self._aim: Aim | None = None

    def aim(
        self, model: nn.Module, structure: Structure, budget: Budget, chosen: Sequence[str], left_out: Mapping[str, str] | None = None
    ) -> None:
        """Count towards the target, if there is one. chosen: groups that may lose units; left_out: the others, each with the reason.

        Raises UsageError for a latency, and for a target that cannot be reached.
        """
        if self.target is not None:
            sizes = {name: structure.group(name).size for name in chosen}
            limit = Limit(self._who, self.target, model, structure, budget, sizes)
            self._aim = Aim(limit, sizes, budget.round_to, left_out=left_out)

    def held(self, alive: Mapping[str, Tensor], ranks: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        """Which units stay on the way. alive: as the method says; ranks: what units are worth, comparable over groups."""
        return alive if self._aim is None else self._aim.held(alive, ranks)

    def now(self, alive: Mapping[str, Tensor], ranks: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        """Which units are not below the threshold as it is driven: those that are alive, and what else the target has room for."""
        return alive if self._aim is None else self._aim.filled(alive, ranks)

    def last(self, alive: Mapping[str, Tensor], ranks: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        """Which units stay at the end; warns where far too few or too many had died, and where the target is not met."""
        if self._aim is None:
            return alive
        more = f"A higher {self._price}, or a longer run, lets more units die before."
        self._aim.caution(alive, more, f"A lower {self._price} lets more units live.")
        masks = self._aim.best(alive, ranks)
        self._aim.judge(masks)
        return masks

    def removed(self, plan: Plan) -> None:
        """Follow a removal."""
        if self._aim is not None:
            self._aim.removed(plan)

    def told(self) -> dict[str, Any]:
        """The target, for the record; nothing without one."""
        return {} if self._aim is None else self._aim.told()

    def state_dict(self) -> dict[str, Any]:
        """With a target what was reached, else nothing."""
        return {} if self._aim is None else self._aim.state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue where `state_dict` was taken."""
        if self._aim is not None:
            self._aim.load_state_dict(state)
