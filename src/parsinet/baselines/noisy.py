"""What methods with random factors on units share: where the factors act, how they train, when units leave, what is folded at the end."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from parsinet.baselines.distribution import Distribution
from parsinet.baselines.factors import Factors
from parsinet.baselines.rows import Rows
from parsinet.baselines.slices import scale_, unscalable
from parsinet.baselines.units import UnitOptions
from parsinet.distributed import ALONE, own
from parsinet.errors import UsageError
from parsinet.methods import Alive, Budget
from parsinet.methods.base import decayed_groups, generator
from parsinet.methods.choice import against_gates, check_inputs, gateable_groups, left_out
from parsinet.methods.goal import Goal
from parsinet.methods.options import check_above_zero, check_either, check_list, check_number, check_seed, check_whole
from parsinet.methods.schedule import last_step, usual_interval
from parsinet.structure import Plan, Structure


class NoisyOptions(UnitOptions, total=False):
    """What every method with random factors takes, with the same meaning and default: see `NoisyGates`."""

    target: str | None
    draws: str
    gated: float
    early: bool
    seed: int


class NoisyGates(Distribution):
    """Every unit is read times a random factor z whose distribution trains; a concrete method says which, what it costs and who is dead.

    In training z is drawn anew in every forward pass, where Gates have theirs: at the inputs of the modules that read the unit. In
    evaluation z is its test value, and 0 for dead units (with a target: for those that it has no room for). Units leave once two looks in
    a row found them dead; at the end of the gated phase all dead ones leave, the test values of the others move into the weights that
    read them, and the rest of the run trains the fixed structure. A group keeps its best unit.

    target: "macs=20%", "params=45k", "bytes=30%" of the dense network: it drives the threshold. A dead unit stays while the target has room
    for it, and at the end of the gated phase the best units stay that fit under it, ranked over all groups by what the concrete method
    calls dead; the price says how many die before. rate: learning rate of the Adam that trains the distributions. draws: a z for every
    "example" or one for the "batch". gated: share of the run in which the factors act (all of it if its length is unknown). early:
    whether units leave before its end. interval: steps between looks (default a two-hundredth of the run, 10 … 100; 100 if unknown).
    groups: names of the groups (default all whose removal is exact, whose readers can be gated and whose readers' weights can take up a
    factor, of attention heads as a whole). inputs: take the features of the network's inputs too. seed: of the draws.
    """

    silences = True
    rescales = True
    unscaled = True

    def __init__(
        self,
        *,
        rate: float,
        target: str | None = None,
        draws: str = "example",
        gated: float = 0.6,
        early: bool = True,
        interval: int | None = None,
        groups: Sequence[str] | None = None,
        inputs: bool = False,
        seed: int = 0,
    ) -> None:
        check_above_zero(self.name, rate=rate)
        check_number(self.name, "gated", gated, "a share of the run", above=0, most=1)
        check_either(self.name, "draws", draws, "example", "batch")
        check_whole(self.name, "interval", interval, of="steps")
        check_list(self.name, "groups", groups, "a list of group names")
        check_seed(self.name, seed)
        self.rate, self.draws, self.gated, self.early, self.interval = rate, draws, gated, early, interval
        self.inputs = inputs
        self.goal = Goal(self.name, target, "price")
        self.settled = False
        self._wanted = groups
        self._generator, self._ranks = generator(seed), ALONE
        self._rows: Rows | None = None
        self._structure: Structure | None = None
        self._model: nn.Module | None = None
        self._factors = Factors(self._factor)
        self._steps, self._last = 0, 0
        self._now: Mapping[str, Tensor] = {}

    def prepare(self, model: nn.Module) -> None:
        """Factors need no change of the layers."""

    def param_groups(self, model: nn.Module) -> list[dict[str, Any]]:
        """Weights with the optimizer's decay; biases and norms without. The distributions train beside the optimizer."""
        return decayed_groups(model)

    def attach(self, model: nn.Module, structure: Structure, budget: Budget, optimizers: Sequence[torch.optim.Optimizer] = ()) -> None:
        """Place a factor on every unit of the chosen groups and fix the schedule."""
        self._examples = self._checked(budget)
        check_inputs(self.name, structure, self._wanted, self.inputs)
        against = partial(unscalable, model, structure)
        chosen = gateable_groups(self.name, structure, self._wanted, against)
        self.goal.aim(model, structure, budget, chosen, left_out(structure, chosen, against_gates(structure, against)))
        sizes = {name: structure.group(name).size for name in chosen}
        parameter = next(model.parameters())
        start = self._start(sum(sizes.values()))
        dtype = self.precision or torch.promote_types(parameter.dtype.to_real(), torch.float32)  # its steps would round to nothing
        self._ranks = budget.ranks
        self._rows = Rows(sizes, {name: row.to(parameter.device, dtype) for name, row in start.items()}, self.rate, budget.ranks)
        self.interval = self.interval or usual_interval(budget.steps)
        self._last = last_step(self.gated, budget.steps)
        self._factors.watch(model, optimizers)
        self._place(model, structure)

    def penalty(self) -> Tensor | float:
        """What the distributions cost, in nats per example."""
        if self.settled:
            return 0.0
        return self._cost(self.rows.values)

    def step(self) -> Alive | None:
        """Train the distributions; every `interval` steps name the units that stay, at the end of the gated phase settle."""
        if self.settled:
            return None
        self._steps, self._now = self._steps + 1, {}
        self._factors.learn()
        self.rows.learn()
        self._bound_(self.rows.values)
        if self._last and self._steps >= self._last:
            return self.settle()
        assert self.interval is not None
        return self._look() if self.early and self._steps % self.interval == 0 else None

    def scores(self) -> Mapping[str, Tensor]:
        """What the concrete method ranks units by."""
        return {name: self._worth(self.rows.of(name)).detach() for name in self.rows.sizes}

    def removed(self, structure: Structure, plan: Plan) -> None:
        """Cut the distributions; factors move to the new indices."""
        self.rows.keep(plan.masks())
        self._now = {}
        self.goal.removed(plan)
        if not self.settled and self._model is not None:
            self._place(self._model, structure)

    @torch.no_grad()
    def settle(self) -> Alive | None:
        """Dead units leave; the test values of the others move into the weights that read them and the factors leave the network."""
        if self.settled:
            return None
        assert self._model is not None
        assert self._structure is not None
        alive = self.goal.last(self._all_alive(), self.scores())
        self.settled = True
        self.detach()
        for name in self.rows.sizes:
            scale_(self._model, self._structure, name, self._test(self.rows.of(name)))
        return alive

    def detach(self) -> None:
        """Take all factors out of the network."""
        self._factors.leave()
        self._factors.unwatch()

    @torch.no_grad()
    def describe(self) -> dict[str, Any]:
        """Per group: the test value of every unit's factor, and of how many it is not 0 in evaluation; the target, if there is one."""
        names = [] if self.settled else list(self.rows.sizes)
        told = {
            name: {
                "factor": [round(value, 4) for value in self._test(self.rows.of(name)).tolist()],
                "open": int(self._read(name).sum()),
            }
            for name in names
        }
        return {"settled": self.settled, "groups": told, **self.goal.told()}

    def state_dict(self) -> dict[str, Any]:
        """The distributions with their moments, the draws' generator and the position in the schedule."""
        place = {"steps": self._steps, "settled": self.settled, "generator": self._generator.get_state()}
        return {**place, "rows": self.rows.state_dict(), **self.goal.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue bitwise where the state was taken. Raises StructureError, with nothing changed, if it is of other units."""
        self.rows.load_state_dict(state["rows"])
        self._now = {}
        self._generator.set_state(state["generator"].cpu())
        self._steps, self.settled = int(state["steps"]), bool(state["settled"])
        self.goal.load_state_dict(state)
        if self.settled:
            self.detach()

    @property
    def rows(self) -> Rows:
        """The numbers of an attached method; UsageError before."""
        if self._rows is None:
            raise UsageError(f"{self.name}: the method has no factors yet; give it to a Pruner first.")
        return self._rows

    def _uniform(self, shape: tuple[int, ...], like: Tensor) -> Tensor:
        return torch.rand(shape, generator=own(self._generator, self._ranks), dtype=like.dtype).to(like.device)

    def _normal(self, shape: tuple[int, ...], like: Tensor) -> Tensor:
        return torch.randn(shape, generator=own(self._generator, self._ranks), dtype=like.dtype).to(like.device)

    def _place(self, model: nn.Module, structure: Structure) -> None:
        self._model, self._structure = model, structure
        self._factors.place(model, structure, self.rows.sizes, self.rows.marked.device)
        self._weigh(structure)

    def _factor(self, group: str, h: Tensor) -> Tensor:
        assert self._model is not None
        values = self.rows.of(group)
        if self._model.training:
            self._seen(group, h)
            return self._draw(values, (len(h),) if self.draws == "example" else ())
        with torch.no_grad():
            return self._test(values) * self._read(group)

    def _read(self, group: str) -> Tensor:
        """Which units are read in evaluation; with a target found once between two steps."""
        if self.goal.target is None:
            return self._alive(group)
        if not self._now:
            self._now = self.goal.now(self._all_alive(), self.scores())
        return self._now[group].to(self.rows.marked.device)

    def _all_alive(self) -> dict[str, Tensor]:
        return {name: self._alive(name) for name in self.rows.sizes}

    @torch.no_grad()
    def _alive(self, group: str) -> Tensor:
        values = self.rows.of(group)
        mask = ~self._dead(values)
        mask[self._worth(values).argmax()] |= ~mask.any()
        return mask

    def _look(self) -> Alive:
        dead = torch.cat([~self._alive(name) for name in self.rows.sizes])
        leaving, self.rows.marked = dead & self.rows.marked, dead
        return self.goal.held({name: ~row for name, row in self.rows.split(leaving).items()}, self.scores())
