"""The end of a run: finish the method, test, measure the start against the result, save the model."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from torch import nn

from parsinet import measure, structure
from parsinet.measure import Latency, Profile
from parsinet.training.assembly import Assembly
from parsinet.training.datasets import build_batches
from parsinet.training.evaluate import Evaluation, evaluate
from parsinet.training.networks import build_model

BATCHES = (1, 64)


@dataclass(frozen=True, eq=False)
class Outcome:
    """What a finished run is worth. latency: batch → the start network's and the result's, timed in turns.

    closing: units before and after, of the groups about which the method decided only at the end. inputs: features of the network's inputs
    that are left, by group, where they could leave.
    """

    model: nn.Module
    test: Evaluation
    validation: Evaluation | None
    before: Profile
    after: Profile
    latency: dict[int, tuple[Latency, Latency]]
    widths: dict[str, int]
    closing: dict[str, tuple[int, int]]
    inputs: dict[str, list[int]]

    def event(self) -> dict[str, Any]:
        """The result as the record's last event tells it."""
        return {
            "test_loss": self.test.loss,
            "test_error": self.test.error,
            "validation_error": self.validation.error if self.validation else None,
            "before": _numbers(self.before),
            "after": _numbers(self.after),
            "latency": [
                {"batch": batch, "before": _times(before), "after": _times(after)} for batch, (before, after) in self.latency.items()
            ],
            "widths": self.widths,
            "inputs": self.inputs,
        }


def conclude(parts: Assembly, folder: Path) -> Outcome:
    """Turn the trained model into plain modules, save it in `folder`, test and measure it. On all ranks, each with its own model."""
    if parts.average is not None:
        parts.average.finish(parts.model, build_batches(parts.recipe, parts.dataset.train, parts.device))
    open_widths = parts.pruner.widths()
    lean = parts.pruner.finish()
    told = parts.ranks.first(lambda: replace(_measured(parts, lean, open_widths, folder), model=nn.Identity()))
    return replace(told, model=lean)


def _measured(parts: Assembly, lean: nn.Module, open_widths: Mapping[str, int], folder: Path) -> Outcome:
    """Save the finished network, test and measure it: the part that one process does for all."""
    dataset, widths = parts.dataset, parts.pruner.widths()
    structure.save(lean, folder)
    validation = None if dataset.validation is None else evaluate(lean, dataset.validation, device=parts.device)
    return Outcome(
        model=lean,
        test=evaluate(lean, dataset.test, device=parts.device),
        validation=validation,
        before=parts.before,
        after=measure.profile(lean, parts.example_inputs, latency=False),
        latency=_latencies(parts, lean),
        widths=widths,
        closing={name: (units, widths[name]) for name, units in open_widths.items() if units != widths.get(name, units)},
        inputs={name: parts.pruner.units(name) for name in parts.pruner.structure.inputs() if name in widths},
    )


def _latencies(parts: Assembly, lean: nn.Module) -> dict[int, tuple[Latency, Latency]]:
    start = build_model(parts.recipe, parts.dataset, parts.device)
    found: dict[int, tuple[Latency, Latency]] = {}
    for batch in BATCHES:
        times = measure.compare_latency({"before": start, "after": lean}, measure.resize_batch(parts.example_inputs, batch))
        found[batch] = (times["before"], times["after"])
    return found


def _numbers(profile: Profile) -> dict[str, int]:
    values = asdict(profile)
    return {name: values[name] for name in ("parameters", "nonzeros", "macs", "bytes")}


def _times(latency: Latency) -> dict[str, float]:
    return {"median": latency.median, "p95": latency.p95}
