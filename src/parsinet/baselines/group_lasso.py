"""Group lasso by proximal steps: a unit's weights shrink as one vector until they are exactly zero, and the unit leaves."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, Unpack

import torch
from torch import Tensor, nn

from parsinet.baselines.slices import SIDES, Slices, counts, slices, squared_norms
from parsinet.baselines.units import JudgedUnits, UnitOptions
from parsinet.errors import ParsinetWarning, UsageError, few
from parsinet.methods import Alive, Budget
from parsinet.methods.choice import left_out
from parsinet.methods.goal import Goal
from parsinet.methods.options import check_above_zero, check_either
from parsinet.structure import Plan, Structure


def shrinkage(norms: Tensor, threshold: Tensor) -> Tensor:
    """The proximal step of t·‖w‖₂ as a factor on w: max(0, 1 − t/‖w‖).

    argmin_v ½‖v − w‖² + t‖v‖₂. norms, threshold: [n]. Source: W. Wen et al. 2016, arXiv 1608.03665 for the penalty; the step is that of
    N. Parikh and S. Boyd 2014, Proximal Algorithms, §6.5.1.
    """
    return (1 - threshold / norms.clamp(min=torch.finfo(norms.dtype).tiny)).clamp(min=0)


class GroupLasso(JudgedUnits):
    """After every optimizer step w_g ← w_g · max(0, 1 − η λ √|g| / ‖w_g‖₂) for every unit g, η the optimizer's present learning rate.
    Tensors that train at rates of their own shrink each by its own.

    w_g are, as one vector, all weights that make the unit (weights "incoming": rows of Linear layers, filters; without biases and norms)
    or all that read it ("outgoing": columns, input channels); |g| is their number. Inputs of the network are judged by what reads them.
    Units whose vector is zero leave: at once if `early`, else at `end`; from there on the rest trains without the penalty. Of "incoming" a
    unit still emits what its bias makes of it; `Pruner(fold="constant")` moves that into its readers' biases.
    target: "macs=20%", "params=45k", "bytes=30%" of the dense network: it drives the threshold. A unit of zeros stays while the target has
    room for it, and at `end` the units of largest ‖w_g‖/√|g| stay that fit under it, ranked over all groups, in which order the steps
    would zero them; λ says how many are zero before. lam: λ, in the scale of the loss per weight. begin, end: shares of the run between
    which the penalty acts. Other options: `JudgedUnits`.

    A network with layers whose inputs and outputs are the same units (residual streams) has weights in two groups of a side; the
    steps are then taken one group after the other. Raises UsageError for values out of range and without the optimizer.
    Source: W. Wen, C. Wu, Y. Wang, Y. Chen, H. Li 2016, arXiv 1608.03665; √|g|: M. Yuan and Y. Lin 2006, J. R. Stat. Soc. B 68, 49.
    """

    name = "group-lasso"

    def __init__(
        self,
        *,
        lam: float = 1e-2,
        target: str | None = None,
        weights: str = "incoming",
        early: bool = True,
        begin: float = 0.0,
        end: float = 0.6,
        **options: Unpack[UnitOptions],
    ) -> None:
        check_above_zero(self.name, lam=lam)
        check_either(self.name, "weights", weights, *SIDES)
        self.lam, self.weights, self.early = lam, weights, early
        self.silences = weights == "outgoing"
        self.goal = Goal(self.name, target, "lam")
        self._optimizers: Sequence[torch.optim.Optimizer] = ()
        self._found: dict[str, tuple[list[Slices], Tensor]] = {}
        super().__init__(begin=begin, end=end, **options)

    def attach(self, model: nn.Module, structure: Structure, budget: Budget, optimizers: Sequence[torch.optim.Optimizer] = ()) -> None:
        """Choose the groups, and look up where the learning rates stand."""
        if not optimizers:
            raise UsageError(f"{self.name}: its steps are as long as the optimizer's; give the optimizer to the Pruner.")
        self._optimizers = optimizers
        super().attach(model, structure, budget, optimizers)
        others = left_out(structure, self._original, partial(self._against, structure))
        self.goal.aim(model, structure, budget, list(self._original), others)
        self._warn_coarse()

    def _against(self, structure: Structure, name: str) -> str:
        parts, tensors, rates = slices(structure, name, self.weights), self._tensors(), self._rates()
        if not parts:
            return f"it has no {self.weights} weights"
        missing = [part.tensor for part in parts if id(tensors[part.tensor]) not in rates]
        return f"the optimizer does not train {', '.join(missing)}" if missing else ""

    def removed(self, structure: Structure, plan: Plan) -> None:
        """Units have other slices now."""
        super().removed(structure, plan)
        self._found = {}
        self.goal.removed(plan)

    def describe(self) -> dict[str, Any]:
        """Per group the scores of its units; with a target what is wanted and what was reached."""
        return {**super().describe(), **self.goal.told()}

    def state_dict(self) -> dict[str, Any]:
        """The position in the schedule; with a target what was reached."""
        return {**super().state_dict(), **self.goal.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue where `state_dict` was taken."""
        super().load_state_dict(state)
        self.goal.load_state_dict(state)

    @torch.no_grad()
    def _follow(self) -> None:
        """One proximal step for every group."""
        if self._steps <= self._first:
            return
        tensors, rates = self._tensors(), self._rates()
        for name in self._original:
            parts, numbers = self._known(name, tensors)
            norms = squared_norms(parts, tensors, len(numbers)).sqrt()
            for part in parts:
                tensor = tensors[part.tensor]
                if id(tensor) in rates:
                    factor = shrinkage(norms, self.lam * rates[id(tensor)] * numbers.sqrt())
                    tensor.mul_(part.spread(factor, tensor))

    def _known(self, name: str, tensors: Mapping[str, Tensor]) -> tuple[list[Slices], Tensor]:
        """A group's slices and how many weights each of its units has, looked up once between two removals."""
        if name not in self._found:
            parts = slices(self.structure, name, self.weights)
            self._found[name] = parts, counts(parts, tensors, self.structure.group(name).size)
        return self._found[name]

    def _scores(self) -> dict[str, Tensor]:
        return self._norms(lambda name: slices(self.structure, name, self.weights))

    def _alive(self, progress: float) -> Alive:
        return self.goal.held(self._shrunk(), self._ranks()) if self.early else {}

    def _final(self) -> Alive:
        return self.goal.last(self._shrunk(), self._ranks())

    def _shrunk(self) -> dict[str, Tensor]:
        """Which units are not zero; one of every group in any case."""
        masks = {name: norms > 0 for name, norms in self._scores().items()}
        for mask in masks.values():
            mask[0] |= ~mask.any()
        return masks

    def _ranks(self) -> dict[str, Tensor]:
        """‖w_g‖/√|g| of every unit; zeros, none of which is better than another, in turn, so that all groups keep like shares."""
        tensors, found = self._tensors(), {}
        for name, norms in self._scores().items():
            place = (norms > 0).sum() + (norms == 0).cumsum(0)
            found[name] = torch.where(norms > 0, norms / self._known(name, tensors)[1].sqrt(), -place / self._original[name])
        return found

    def _rates(self) -> dict[int, float]:
        """The present learning rate of every parameter that trains, by its id; one that was frozen since the start has none."""
        groups = [group for optimizer in self._optimizers for group in optimizer.param_groups]
        return {id(p): group["lr"] for group in groups for p in group["params"] if p.requires_grad}

    def _warn_coarse(self) -> None:
        """Say where steps are lost in rounding."""
        tensors = self._tensors()
        names = dict.fromkeys(part.tensor for name in self._original for part in slices(self.structure, name, self.weights))
        if coarse := [name for name in names if tensors[name].dtype in (torch.bfloat16, torch.float16)]:
            warnings.warn(
                f"{self.name}: {few(coarse)} have 16 bits, in which a step that changes a weight by a few thousandths of it is lost in "
                "rounding. Keep the weights in float32 and train under autocast.",
                ParsinetWarning,
                stacklevel=4,
            )
