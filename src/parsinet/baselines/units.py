"""What methods that judge units by their weights share: which groups, the length of the run, the life around their decisions."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, TypedDict

import torch
from torch import Tensor, nn

from parsinet.baselines.slices import Slices, squared_norms
from parsinet.errors import UsageError
from parsinet.methods import Alive, Budget
from parsinet.methods.base import decayed_groups
from parsinet.methods.choice import check_inputs, chosen_groups
from parsinet.methods.given import Remembering
from parsinet.methods.options import check_list, check_whole, check_window
from parsinet.methods.schedule import last_step, length_of_run, usual_interval
from parsinet.structure import Plan, Structure
from parsinet.structure.removal import tensors_of


class UnitOptions(TypedDict, total=False):
    """What every baseline that removes units takes, with the same meaning and default: see `JudgedUnits`."""

    interval: int | None
    groups: Sequence[str] | None
    inputs: bool


class JudgedUnits(Remembering, ABC):
    """A method that trains plain weights and lets units go between `begin` and `end`, shares of the run, every `interval` steps.

    interval: default a two-hundredth of the run, 10 … 100. groups: names (default all whose removal is exact and that the method can
    judge). inputs: take the features of the network's inputs too.
    """

    name: str
    silences: bool

    def __init__(
        self,
        *,
        begin: float,
        end: float,
        interval: int | None = None,
        groups: Sequence[str] | None = None,
        inputs: bool = False,
    ) -> None:
        check_window(self.name, begin, end)
        check_whole(self.name, "interval", interval, of="steps")
        check_list(self.name, "groups", groups, "a list of group names")
        self.begin, self.end, self.interval = begin, end, interval
        self.inputs = inputs
        self.settled = False
        self._wanted = groups
        self._model: nn.Module | None = None
        self._structure: Structure | None = None
        self._original: dict[str, int] = {}
        self._steps, self._first, self._last = 0, 0, 0

    def prepare(self, model: nn.Module) -> None:  # the same for all
        """Nothing to change."""

    def param_groups(self, model: nn.Module) -> list[dict[str, Any]]:
        """Weights with the optimizer's decay; biases and norms without."""
        return decayed_groups(model)

    def attach(self, model: nn.Module, structure: Structure, budget: Budget, optimizers: Sequence[torch.optim.Optimizer] = ()) -> None:
        """Choose the groups and fix the schedule."""
        steps = length_of_run(self.name, budget.steps)
        self._model, self._structure = model, structure
        check_inputs(self.name, structure, self._wanted, self.inputs)
        against = partial(self._against, structure)
        self._original = {name: structure.group(name).size for name in chosen_groups(self.name, "judged", structure, self._wanted, against)}
        self.interval = self.interval or usual_interval(steps)
        self._first, self._last = round(self.begin * steps), last_step(self.end, steps)

    def penalty(self) -> Tensor | float:
        """Nothing."""
        return 0.0

    def step(self) -> Alive | None:
        """What the concrete method does after every step; where the schedule says so name the units that stay."""
        if self.settled:
            return None
        self._steps += 1
        self._follow()
        if self._steps >= self._last:
            return self.settle()
        assert self.interval is not None
        due = self._steps > self._first and (self._steps - self._first) % self.interval == 0
        return self._alive(self._progress()) if due else None

    def scores(self) -> Mapping[str, Tensor]:
        """What units are ranked by."""
        return self._scores()

    def removed(self, structure: Structure, plan: Plan) -> None:
        """The weights are the only state, and they have been cut."""
        self._structure = structure

    def settle(self) -> Alive | None:
        """The last decision."""
        if self.settled:
            return None
        masks = self._final()
        self.settled = True
        return masks

    def _final(self) -> Alive:
        """Which units stay at the end."""
        return self._alive(1.0)

    def detach(self) -> None:  # the same for all
        """Nothing was placed."""

    def describe(self) -> dict[str, Any]:
        """Per group the scores of its units."""
        told = {} if self.settled else self._scores()
        return {"settled": self.settled, "groups": {name: {"score": [round(s, 4) for s in row.tolist()]} for name, row in told.items()}}

    def state_dict(self) -> dict[str, Any]:
        """The position in the schedule."""
        return {"steps": self._steps, "settled": self.settled}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue where `state_dict` was taken."""
        self._steps, self.settled = int(state["steps"]), bool(state["settled"])

    @abstractmethod
    def _scores(self) -> dict[str, Tensor]:
        """Per chosen group a score of every present unit, float64, higher stays."""

    @abstractmethod
    def _alive(self, progress: float) -> Alive:
        """Which units stay at this part of the way from begin to end."""

    def _against(self, structure: Structure, name: str) -> str:
        """A method's own reason not to judge a group; "" for none."""
        return ""

    def _follow(self) -> None:  # some only rank
        """Act on every step."""

    def _progress(self) -> float:
        return (self._steps - self._first) / (self._last - self._first) if self._last > self._first else 1.0

    @property
    def structure(self) -> Structure:
        """The network's present structure; UsageError before the method is attached."""
        if self._structure is None:
            raise UsageError(f"{self.name}: the method knows no network yet; give it to a Pruner first.")
        return self._structure

    def _norms(self, weights: Callable[[str], Sequence[Slices]]) -> dict[str, Tensor]:
        """‖w‖₂ of every present unit of the chosen groups. weights: group → the slices that count."""
        tensors, group = self._tensors(), self.structure.group
        return {name: squared_norms(weights(name), tensors, group(name).size).sqrt() for name in self._original}

    def _tensors(self) -> dict[str, Tensor]:
        assert self._model is not None
        return tensors_of(self._model)
