"""What methods that mask weights share: which weights, the schedule, the order of a step, unread units leaving, state."""

from __future__ import annotations

import warnings
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, TypedDict

import torch
from torch import Tensor, nn

from parsinet import topology
from parsinet.distributed import pooled
from parsinet.errors import ParsinetWarning, UsageError
from parsinet.methods.base import Alive, Budget, decayed_groups, generator
from parsinet.methods.coverage import check_trained, tell_dense
from parsinet.methods.filling import Rest
from parsinet.methods.given import Remembering
from parsinet.methods.options import check_list, check_number, check_one_way, check_seed, check_whole, check_window
from parsinet.methods.schedule import length_of_run
from parsinet.methods.target import NEAR, Target, nonzeros_for, sparsity_for
from parsinet.methods.units import read_units
from parsinet.structure import Plan, Structure
from parsinet.structure.optimizers import with_wrapped
from parsinet.topology import Masks, Wanted, Window

SPARSITY = 0.9


class MaskOptions(TypedDict, total=False):
    """What every method that masks weights takes, with the same meaning and default: see `MaskedTraining`."""

    target: str | None
    exclude: Sequence[str]
    remove_units: bool
    seed: int


class MaskedTraining(Remembering, ABC):
    """A method that moves masks over weights; a concrete one says how they start (`_start`) and how they change (`_update`).

    Masked are the weights of Linear layers and convolutions that train; not those that something computes (weight_norm, another
    parametrization) or another kind of module uses too. sparsity: share of them that is zero at the end, of their number at the start
    (default 0.9), or target: "params=5%", "params=10k", parameters of the network that are not zero. distribution: "global", "uniform"
    or "erk". begin, end: shares of the run between which masks change. interval: steps between changes (default a twentieth of the run,
    at most 100). exclude: names or patterns of layers that stay dense; "last" is the layer defined last. remove_units: units
    whose outgoing weights are all gone leave, as soon as nothing can bring them back. seed: of draws.
    """

    name: str
    silences = True
    regrows = False
    """Whether hidden weights can come back: then unread units leave only once the masks are final."""
    straight_through = False
    usual_interval: int | None = None
    """The default of `interval`."""
    """Whether the optimizer wants dense gradients and masks them itself."""

    def __init__(
        self,
        *,
        sparsity: float | None,
        distribution: str,
        begin: float,
        end: float,
        interval: int | None,
        target: str | None = None,
        exclude: Sequence[str] = (),
        remove_units: bool = True,
        seed: int = 0,
    ) -> None:
        check_one_way(self.name, sparsity=sparsity, target=target)
        sparsity = SPARSITY if sparsity is None else sparsity
        check_number(self.name, "sparsity", sparsity)
        topology.check(sparsity, distribution)
        check_window(self.name, begin, end)
        check_whole(self.name, "interval", interval, of="steps")
        check_list(self.name, "exclude", exclude, "a list of layer names")
        check_seed(self.name, seed)
        self.sparsity, self.distribution = sparsity, distribution
        self.target = Target.given(self.name, target)
        self.begin, self.end, self.interval = begin, end, interval
        self.exclude, self.remove_units = tuple(exclude), remove_units
        self.settled = False
        self._generator = generator(seed)
        self._nonzeros: int | None = None
        self._reached: int | None = None
        self._rest: Rest | None = None
        self._masks: Masks | None = None
        self._structure: Structure | None = None
        self._window = Window(1, 1, 1)
        self._steps = 0

    def prepare(self, model: nn.Module) -> None:
        """The parameters stay the effective weights; a target becomes a sparsity."""
        self._meet(model)

    def param_groups(self, model: nn.Module) -> list[dict[str, Any]]:
        """Weights with the optimizer's decay; biases and normalisation parameters without."""
        return decayed_groups(model)

    def attach(self, model: nn.Module, structure: Structure, budget: Budget, optimizers: Sequence[torch.optim.Optimizer] = ()) -> None:
        """Place the first masks and fix the schedule. ParsinetWarning where layers stay dense because something computes their weights, or
        where less than half of the network is masked."""
        self._meet(model)
        exclude = self._excluded(model)
        weights = topology.maskable(model, exclude)
        check_trained(self.name, weights, optimizers)
        if self.sparsity:
            tell_dense(self.name, model, weights, exclude, share_only=self.target is None)
        self._window = self._schedule(budget)
        pool, straight = partial(pooled, ranks=budget.ranks), self.straight_through
        self._masks = Masks(weights, optimizers=with_wrapped(optimizers), generator=self._generator, straight_through=straight, pool=pool)
        self._structure = structure
        self._rest = None if self.target is None else Rest(model, weights, budget.round_to)
        self._check(self.masks)
        if (first := self._start(self.masks)) is not None:
            self.masks.begin(first)
        self._arm()

    def penalty(self) -> float:
        """Nothing."""
        return 0.0

    def step(self) -> Alive | None:
        """Keep hidden weights at zero; where the schedule says so change the masks and name the units that somebody reads."""
        self._steps += 1
        self.masks.restore_()
        self._follow(self.masks)
        changed = False
        if self._window.due(self._steps) and not self.settled:
            self.settled = self._steps >= self._window.end
            new = self._update(self.masks, self._steps)
            if new is None and self.settled:
                new = self._finish(self.masks)
            changed = new is not None
            if new is not None:
                self.masks.set(new)
        self._arm()
        return self._readable() if self.remove_units and (self.settled or not self.regrows) and (changed or self._last()) else None

    def scores(self) -> Mapping[str, Tensor]:
        """Unread units are all worth nothing."""
        return {}

    def removed(self, structure: Structure, plan: Plan) -> None:
        """Cut the masks as the weights were cut."""
        self._structure = structure
        self.masks.cut(plan)

    def settle(self) -> Alive | None:
        """Bring the masks to their final number now if the run ended early; unread units leave."""
        if not self.settled:
            self.settled = True
            new = self._finish(self.masks)
            if new is not None:
                self.masks.set(new)
        self._arm()
        self._judge()
        return self._readable() if self.remove_units else None

    def detach(self) -> None:
        """Hooks leave the weights."""
        if self._masks is not None:
            self._masks.detach()

    def describe(self) -> dict[str, Any]:
        """What was asked for (a sparsity, or how many parameters that are not zero), active weights, sparsity, what was explored, and per
        tensor its active weights and density."""
        goal = {"kind": "nonzeros", "wanted": self._nonzeros, "reached": self._reached}
        asked = self.sparsity if self._nonzeros is None else goal
        return {"settled": self.settled, "target": asked, **self.masks.describe()}

    def state_dict(self) -> dict[str, Any]:
        """Masks, counters, generator, the position in the schedule."""
        return {"steps": self._steps, "settled": self.settled, "topology": self.masks.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue where `state_dict` was taken."""
        self.masks.load_state_dict(state["topology"])
        self._steps, self.settled = int(state["steps"]), bool(state["settled"])
        self._arm()

    @property
    def masks(self) -> Masks:
        """The masks of an attached method; UsageError before."""
        if self._masks is None:
            raise UsageError(f"{self.name}: the method has no masks yet; give it to a Pruner first.")
        return self._masks

    @abstractmethod
    def _start(self, masks: Masks) -> dict[str, Tensor] | None:
        """The first masks; None for all active."""

    @abstractmethod
    def _update(self, masks: Masks, step: int) -> dict[str, Tensor] | None:
        """New masks after this step; None to leave them."""

    def _finish(self, masks: Masks) -> dict[str, Tensor] | None:
        """The last masks of a run that ended before its window did; None to leave them."""
        return None

    def _filled(
        self, chosen: dict[str, Tensor], scores: Mapping[str, Tensor], spare: Mapping[str, Tensor] | None, sparsity: float
    ) -> dict[str, Tensor]:
        """With a target, `chosen` and the best of the spare entries (all, if None) in the place of what leaves with unread units."""
        if self._rest is None or self._structure is None or not self.remove_units:
            return chosen
        return self._rest.filled(self._structure, chosen, scores, spare, _number(self._wanted(sparsity)))

    def _pruned(self, scores: Mapping[str, Tensor], sparsity: float) -> dict[str, Tensor]:
        """The active weights of highest score, as many as the sparsity leaves, with a target those that make up for unread units too."""
        masks, total = self.masks.masks, self.masks.total

        def prune(extra: int) -> dict[str, Tensor]:
            return topology.prune(scores, masks, self._wanted(max(0.0, sparsity - extra / total)))

        if self._rest is None or self._structure is None or not self.remove_units:
            return prune(0)
        chosen = self._rest.pruned(self._structure, prune, _number(self._wanted(sparsity)))
        return self._filled(chosen, scores, masks, sparsity)

    def _judge(self) -> None:
        """Count what a target asked for; warn if it was not met."""
        if self._rest is None or self._structure is None or self._nonzeros is None:
            self._judge_sparsity()
            return
        self._reached = self._rest.left(self._structure, self.masks.masks, unread_leave=self.remove_units)
        if abs(self._reached / self._nonzeros - 1) > NEAR:
            warnings.warn(
                f"{self.name}: target {self.target} ({self._nonzeros:,} parameters that are not zero) was not met within {NEAR:.0%}: "
                f"{self._reached:,}; what left with units that nobody reads any more could not be made up for.",
                ParsinetWarning,
                stacklevel=4,
            )

    def _judge_sparsity(self) -> None:
        """Warn if more weights are left than a sparsity allows; fewer are where units have left."""
        active, wanted = self.masks.active, _number(self._wanted(self.sparsity))
        if active > (1 + NEAR) * wanted:
            warnings.warn(
                f"{self.name}: a sparsity of {self.sparsity:.4g} was not reached: {active:,} weights are left of {self.masks.total:,}, "
                f"{wanted:,} were to stay. Train for more steps, or let masks change more often (interval).",
                ParsinetWarning,
                stacklevel=4,
            )

    def _follow(self, masks: Masks) -> None:  # most methods learn nothing between updates
        """Learn from every step."""

    def _score(self, step: int) -> topology.Score | None:
        """What to keep of the dense gradients of this coming step; None for nothing."""
        return None

    def _check(self, masks: Masks) -> None:
        """Refuse what the network cannot give: here, a sparsity that leaves nothing."""
        self._wanted(self.sparsity)

    def _beside(self, saved: Sequence[Tensor]) -> dict[str, Tensor]:
        """Saved tensors, one per masked weight in the order of the weights or none at all, by name and on the weights' device."""
        held = zip(self.masks.weights.items(), saved, strict=True) if saved else ()
        return {name: value.to(weight.device, copy=True) for (name, weight), value in held}

    def _excluded(self, model: nn.Module) -> list[str]:
        return [topology.last_layer(model) if name == "last" else name for name in self.exclude]

    def _meet(self, model: nn.Module) -> None:
        """Take the sparsity from the target, if there is one."""
        if self.target is not None:
            self._nonzeros = nonzeros_for(self.name, self.target, model)
            self.sparsity = sparsity_for(self.name, self.target, model, topology.maskable(model, self._excluded(model)).values())

    def _schedule(self, budget: Budget) -> Window:
        steps = length_of_run(self.name, budget.steps)
        begin = max(1, round(self.begin * steps))
        interval = self.interval or min(100, max(1, steps // 20))
        window = Window(begin, max(begin, round(self.end * steps)), interval)
        chosen = self.interval not in (None, self.usual_interval)
        if chosen and window.begin < window.end and not any(map(window.due, range(window.begin, window.end))):
            warnings.warn(
                f"{self.name}: between step {window.begin} and step {window.end} there is no multiple of interval={interval}, so masks "
                "change once, at the end. Give a shorter interval.",
                ParsinetWarning,
                stacklevel=4,
            )
        return window

    def _wanted(self, sparsity: float) -> Wanted:
        """Active weights for a sparsity, by the shapes at the start."""
        return topology.wanted(self.masks.shapes, sparsity, self.distribution)

    def _arm(self) -> None:
        coming = self._steps + 1
        self.masks.catch(None if self.settled else self._score(coming))

    def _last(self) -> bool:
        return self._steps == self._window.end

    def _readable(self) -> Alive | None:
        assert self._structure is not None
        alive = {name: mask for name, mask in read_units(self._structure, self.masks.masks).items() if not mask.all()}
        return alive or None


def _number(wanted: Wanted) -> int:
    return wanted if isinstance(wanted, int) else sum(wanted.values())
