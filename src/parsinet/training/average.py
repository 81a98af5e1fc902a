"""The mean of the weights over the last steps of a run, once its structure is fixed, in the place of the last ones."""

import copy
import itertools
import warnings
from collections.abc import Iterable, Mapping
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from parsinet.data import Batches
from parsinet.errors import ParsinetWarning, UsageError
from parsinet.methods.options import check_whole

Kind = Literal["equal", "ema"]
Tensors = tuple[Tensor, ...] | list[Tensor]
KINDS = ("equal", "ema")
DECAY = 0.999


class Average:
    """Averages the weights w_k of the steps after `begin`, from the moment at which the structure is fixed.

        equal   w̄ = (1/n) Σ_k w_k                       ema   w̄ ← decay · w̄ + (1 − decay) · w_k, from the first of them on

    by `torch.optim.swa_utils.AveragedModel`. Training does not see w̄; `finish` puts it in place. In a loop of your own:

        average = Average(begin=round(0.9 * steps))
        ...
        average.step(model, pruner.settled)              # after pruner.step
        ...
        average.finish(model, batches)                   # before pruner.finish

    begin: steps that do not count, ≥ 0. decay: of "ema" alone, in [0, 1).

    Errors: UsageError for values out of range.
    Source: P. Izmailov et al., Averaging Weights Leads to Wider Optima and Better Generalization, arXiv 1803.05407 (equal).
    """

    def __init__(self, *, begin: int = 0, kind: Kind = "equal", decay: float | None = None) -> None:
        check_whole("Average", "begin", begin, least=0, of="steps", needed=True)
        if kind not in KINDS:
            raise UsageError(f"Average: kind must be 'equal' or 'ema', got {kind!r}.")
        if decay is not None and (kind == "equal" or not 0 <= decay < 1):
            raise UsageError(f"Average: decay must be in [0, 1), and goes with kind='ema' alone; got {decay} with {kind!r}.")
        self.begin, self.kind, self.decay = begin, kind, DECAY if decay is None else decay
        self._steps = 0
        self._averaged: AveragedModel | None = None
        self._still: set[str] = set()
        """Modules that run in evaluation mode while the model trains, such as frozen norms."""

    def step(self, model: nn.Module, settled: bool = True) -> None:
        """Call after every step, behind `pruner.step`. settled: whether the structure is fixed; before it is, nothing is averaged.

        Errors: UsageError if units have left since the first weights were taken.
        """
        self._steps += 1
        if self._steps <= self.begin or not settled:
            return
        if self._averaged is None:
            self._averaged = self._start(model)
        if model.training:
            self._still = {name for name, module in model.named_modules() if not module.training}
        if any(mean.shape != now.shape for now, mean in self._pairs(self._averaged, model)):
            raise UsageError("Average: units have left after the first weights were taken; call step with settled=pruner.settled.")
        self._averaged.update_parameters(_weights(model))

    def finish(self, model: nn.Module, batches: Iterable[tuple[Tensor, Tensor]] | None = None) -> None:
        """Write the averages into the model; where it has batch normalisation, take its statistics anew from one pass over `batches`.
        Modules that were in evaluation mode in the last step run so here too, and norms among them keep their statistics.

        Warns, and leaves the model as it is, if nothing was averaged.

        Errors: UsageError for a network with batch normalisation and no batches, before anything has changed.
        """
        if self._averaged is None:
            warnings.warn(
                f"Average: nothing was averaged: in {self._steps} steps the structure was never fixed after step {self.begin}. "
                "The last weights stay.",
                ParsinetWarning,
                stacklevel=2,
            )
            return
        normalised = bool(self._renewed(model))
        if normalised and batches is None:
            raise UsageError("Average: batch normalisation has the statistics of the last weights; give finish the training batches.")
        whole = _whole_epoch(batches) if normalised and batches is not None else None
        with torch.no_grad():
            for now, mean in self._pairs(self._averaged, model):
                now.copy_(mean)
        if whole is not None:
            self._renew_statistics(model, whole)

    def state_dict(self) -> dict[str, Any]:
        """The averages, the number of steps, and what ran in evaluation mode."""
        return {
            "steps": self._steps,
            "still": sorted(self._still),
            "averages": None if self._averaged is None else dict(self._averaged.state_dict()),
        }

    def load_state_dict(self, state: Mapping[str, Any], model: nn.Module) -> None:
        """Continue where `state_dict` was taken; `model` has the shapes it had there already."""
        self._steps, self._still = int(state["steps"]), set(state.get("still", ()))
        self._averaged = None
        if state["averages"] is not None:
            self._averaged = self._start(model)
            self._averaged.load_state_dict(state["averages"])

    def _start(self, model: nn.Module) -> AveragedModel:
        update = _towards_mean if self.kind == "equal" else get_ema_multi_avg_fn(self.decay)  # type: ignore[no-untyped-call]
        return AveragedModel(_weights(model), multi_avg_fn=update)

    def _renewed(self, model: nn.Module) -> list[_BatchNorm]:
        """The norms whose running statistics follow the training."""
        norms = [(name, module) for name, module in model.named_modules() if isinstance(module, _BatchNorm)]
        return [norm for name, norm in norms if norm.track_running_stats and name not in self._still]

    @torch.no_grad()
    def _renew_statistics(self, model: nn.Module, batches: Iterable[tuple[Tensor, Tensor]]) -> None:
        """Running statistics as plain means over the batches, as `torch.optim.swa_utils.update_bn` takes them, but of the norms that
        train alone; every module's mode is put back."""
        modes, momenta = {module: module.training for module in model.modules()}, {norm: norm.momentum for norm in self._renewed(model)}
        for name, module in model.named_modules():
            module.training = name not in self._still
        for norm in momenta:
            norm.reset_running_stats()
            norm.momentum = None
        device = next(model.parameters()).device
        for batch in batches:
            model((batch[0] if isinstance(batch, list | tuple) else batch).to(device))
        for norm, momentum in momenta.items():
            norm.momentum = momentum
        for module, mode in modes.items():
            module.training = mode

    @staticmethod
    def _pairs(averaged: AveragedModel, model: nn.Module) -> Iterable[tuple[Tensor, Tensor]]:
        return zip(model.parameters(), averaged.module.parameters(), strict=True)


def _towards_mean(means: Tensors, now: Tensors, averaged: Tensor | int) -> None:
    """w̄ ← w̄ + (w − w̄)/(n + 1), in one pass over memory where torch's own takes several."""
    get_ema_multi_avg_fn(1 - 1 / (int(averaged) + 1))(means, now, averaged)  # type: ignore[no-untyped-call]


def _weights(model: nn.Module) -> nn.ParameterList:
    """The model's parameters alone: what is copied to hold averages needs no modules and no hooks."""
    return nn.ParameterList(model.parameters())


def _whole_epoch(batches: Iterable[tuple[Tensor, Tensor]]) -> Iterable[tuple[Tensor, Tensor]]:
    """One pass over all batches, also of `Batches` that a loop left in the middle of an epoch.

    Errors: UsageError where there is none, such as from an iterator that is used up.
    """
    if isinstance(batches, Batches) and batches.position:
        anew = copy.copy(batches)
        anew.position = 0
        batches = anew
    passing = iter(batches)
    first = next(passing, None)
    if first is None:
        raise UsageError("Average: finish was given no batch, as from an iterator that is used up; give it the training batches.")
    return itertools.chain([first], passing)
