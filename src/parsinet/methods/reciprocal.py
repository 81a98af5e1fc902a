"""Sparse training in reciprocal space: eigenvalues and eigenvectors train under a mask on the weights they compose."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import torch
from torch import Tensor, nn

from parsinet import measure, spectral
from parsinet.errors import ParsinetWarning, UsageError
from parsinet.methods.base import Budget, decayed_groups
from parsinet.methods.given import Remembering
from parsinet.methods.options import check_known, check_number, check_one_way, check_seed, check_window
from parsinet.methods.schedule import cubic
from parsinet.methods.spectral_options import Form
from parsinet.methods.target import Target, nonzeros_for, sparsity_for
from parsinet.structure import Plan, Structure
from parsinet.structure.copies import duplicate

SCHEDULES = ("cubic", "constant")
SPARSITY = 0.9
"""Where neither a sparsity nor a target is given."""


class SpectralSparse(Remembering):
    """Trains spectral layers whose composed weights are masked, Ŵ = W where |W| > c; masked weights still move and may return.

    sparsity: share of the weights that is masked at the end (default 0.9), or target: "params=5%", "params=10k", parameters of the plain
    network that are not zero. schedule: "cubic", s·(1 − (1 − u)³) at part u of the way from begin to end
    (shares of the run, 0.1 and 0.6), or "constant" from the first step, as published. scope: "layer" (as published) or "global". every:
    training passes from one mask to the next, to the end of the run; one more is made when the schedule ends, and the last when the run
    is finished, for the weights as they are then. variant, initialiser, layers: of
    `spectral.spectralize`, except that layers=None leaves frozen layers alone. seed: of a drawn basis. Exact zeros are left in plain
    layers; no units leave.

    Raises UsageError for values out of range and without the number of steps a schedule needs.
    Source: Chicchi et al., arXiv 2106.09021 (constant, per layer, every step, "qr-full" with "p2-sparse-qr"); the cubic schedule is Zhu and
    Gupta's, arXiv 1710.01878; global masks and `every` are ours.
    """

    name = "spectral-sparse"
    settled = True
    silences = True
    rescales = True

    def __init__(
        self,
        sparsity: float | None = None,
        *,
        target: str | None = None,
        schedule: str = "cubic",
        begin: float | None = None,
        end: float | None = None,
        scope: str = "global",
        every: int = 20,
        variant: str = "qr-full",
        initialiser: str = "keep",
        layers: Sequence[str] | None = None,
        seed: int = 0,
    ) -> None:
        check_one_way(self.name, sparsity=sparsity, target=target)
        sparsity = SPARSITY if sparsity is None else sparsity
        check_known(self.name, "schedule", schedule, SCHEDULES)
        if schedule == "constant" and (begin, end) != (None, None):
            raise UsageError(f"{self.name}: begin and end belong to schedule='cubic'; 'constant' masks from the first step to the last.")
        begin, end = 0.1 if begin is None else begin, 0.6 if end is None else end
        check_window(self.name, begin, end)
        check_number(self.name, "sparsity", sparsity, "a share of the weights", least=0, below=1)
        check_seed(self.name, seed)
        self.sparsity, self.schedule, self.begin, self.end = sparsity, schedule, begin, end
        self.scope, self.every, self.form = scope, every, Form(variant, initialiser, layers, seed)
        self.target = Target.given(self.name, target)
        self._nonzeros: int | None = None
        self._others = 0
        self._reached: int | None = None
        self._model: nn.Module | None = None
        self._steps = 0
        self._total: int | None = None

    def prepare(self, model: nn.Module) -> None:
        """Turn the layers into spectral ones and mask them; a target becomes a sparsity."""
        self.form.apply(model)
        self._meet(model)
        spectral.sparsify(model, self._due(), scope=self.scope, every=self.every, layers=self.form.layers)

    def param_groups(self, model: nn.Module) -> list[dict[str, Any]]:
        """Eigenvectors with the optimizer's decay; eigenvalues, biases and norms without."""
        return decayed_groups(model)

    def attach(self, model: nn.Module, structure: Structure, budget: Budget, optimizers: Sequence[torch.optim.Optimizer] = ()) -> None:
        """Fix the schedule."""
        if not spectral.spectral_layers(model):
            raise UsageError("spectral-sparse: the model has no spectral layer; call method.prepare(model) before the optimizer is built.")
        if self.schedule != "constant" and budget.steps is None:
            raise UsageError(
                "spectral-sparse: its schedule needs the length of the run; give Pruner(..., steps=N), or schedule='constant'."
            )
        self._model, self._total = model, budget.steps

    def penalty(self) -> float:
        """Nothing."""
        return 0.0

    def step(self) -> None:
        """Raise the sparsity; at the end of the schedule masks are decided anew at once. No unit leaves."""
        self._steps += 1
        if self.schedule == "constant":
            return
        if self._steps == self._arrival:
            self._set(self.sparsity)
            self._refresh()
        elif self._steps % self.every == 0:
            self._set(self._due())

    def scores(self) -> Mapping[str, Tensor]:
        """No unit is judged."""
        return {}

    def removed(self, structure: Structure, plan: Plan) -> None:
        """Masks are buffers of the layers and were cut with them."""

    def settle(self) -> None:
        """Decide the masks for the weights as they are, at the full sparsity."""
        self._set(self.sparsity)
        self._refresh()
        if self._model is not None and self._nonzeros is not None:
            self._reached = self._others + sum(told.kept for told in spectral.topology(self._model).values())

    def detach(self) -> None:
        """Fold every spectral layer into the plain one, masked weights exactly zero."""
        if self._model is not None:
            spectral.fold(self._model)
            self._model = None

    def describe(self) -> dict[str, Any]:
        """What was asked for (a sparsity, or how many parameters that are not zero), the sparsity wanted by now, and per layer how the mask
        moved."""
        layers = {} if self._model is None else {name: asdict(told) for name, told in spectral.topology(self._model).items()}
        goal = {"kind": "nonzeros", "wanted": self._nonzeros, "reached": self._reached}
        return {"target": self.sparsity if self._nonzeros is None else goal, "due": self._due(), "layers": layers}

    def state_dict(self) -> dict[str, Any]:
        """The position in the schedule, and with a target what was reached; masks are the model's."""
        return {"steps": self._steps, **({} if self._nonzeros is None else {"reached": self._reached})}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue where the state was taken."""
        self._steps, self._reached = int(state["steps"]), state.get("reached")
        self._set(self._due(self._steps if self._steps >= self._arrival else self._steps - self._steps % self.every))

    def _meet(self, model: nn.Module) -> None:
        """Take the sparsity from the target, if there is one, by the plain network that will be left."""
        if self.target is None:
            return
        plain = spectral.fold(duplicate(model))
        names = spectral.spectral_layers(model) if self.form.layers is None else self.form.layers
        weights = {name: plain.get_parameter(f"{name}.weight") for name in names}
        entries = sum(weight.numel() for weight in weights.values())
        self._nonzeros = nonzeros_for(self.name, self.target, plain)
        self._others = measure.parameters(plain) - entries
        masked = round(entries * sparsity_for(self.name, self.target, plain, weights.values()))
        self.sparsity = max(0, masked - 1) / max(1, entries - 1)  # what is masked ends with the entry of the rank

    @property
    def _arrival(self) -> int:
        """The step at which the cubic schedule has come to its end."""
        return max(1, math.ceil(self.end * (self._total or 0)))

    def _refresh(self) -> None:
        if self._model is None:
            return
        spectral.refresh_masks(self._model)
        empty = [name for name, told in spectral.topology(self._model).items() if not told.kept]
        if empty:
            warnings.warn(
                f"spectral-sparse: at {self.sparsity:.1%} zeros every weight of {', '.join(empty)} is masked, and nothing passes there: "
                "these layers have smaller weights than the others. Give scope='layer', a lower sparsity, or a longer run.",
                ParsinetWarning,
                stacklevel=4,
            )

    def _set(self, sparsity: float) -> None:
        if self._model is not None:
            spectral.set_sparsity(self._model, sparsity)

    def _due(self, step: int | None = None) -> float:
        """The sparsity after so many steps."""
        if self.schedule == "constant":
            return self.sparsity
        if self._total is None:
            return 0.0
        now = self._steps if step is None else step
        return self.sparsity * cubic(now, self.begin * self._total, self.end * self._total)
