"""What the benchmarks of gates share: the recipe, one training under it, what it cost, and records that grow row by row."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

import parsinet as pn
from parsinet.data import Augmentation, Batches, Split
from parsinet.methods import Method, Removal
from parsinet.structure.record import to_ranges
from parsinet.training.loop import fit
from parsinet.training.recipe import Cosine
from parsinet.training.schedule import learning_rate
from parsinet.training.state import Callback, LoopState

BATCH, RATE, DECAY, HOLD = 128, 2e-3, 5e-4, 0.36
"""Adam at this rate for this part of the run, then one cosine to 0; decay in the gradient, of matrices only."""


def adam(groups: list[dict[str, Any]], rate: float) -> torch.optim.Optimizer:
    """Adam with the decay in the gradient."""
    return torch.optim.Adam(groups, lr=rate, weight_decay=DECAY, fused=True)


@dataclass(frozen=True)
class Recipe:
    """How the networks of a benchmark train: at `rate` for `hold` of the run, then one cosine to 0."""

    batch: int = BATCH
    rate: float = RATE
    hold: float = HOLD
    optimizer: Callable[[list[dict[str, Any]], float], torch.optim.Optimizer] = adam
    augment: Augmentation | None = None

    def batches(self, split: Split, seed: int) -> Batches:
        """The same ones for every row of a seed."""
        return Batches(split, self.batch, seed=seed, augment=self.augment)

    def scheduled(self, step: int, steps: int) -> float:
        """The learning rate of a step."""
        return learning_rate(Cosine(hold=self.hold), self.rate, step, steps, 1)


class Costs(Callback):
    """Sums the forward multiply-adds of a training up, those of extra evaluations too, removal by removal."""

    def __init__(self, example: Tensor) -> None:
        self.example, self.macs, self.spent, self.seen = example, 0, 0, 0

    def on_start(self, state: LoopState) -> None:
        self.macs = pn.measure.macs(state.model, self.example)
        self.handle = state.model.register_forward_pre_hook(self._count)

    def on_removal(self, state: LoopState, removal: Removal) -> None:
        self._sum_up()
        self.macs = pn.measure.macs(state.model, self.example)
        self.seen = 0

    def on_end(self, state: LoopState) -> None:
        self._sum_up()
        self.handle.remove()

    def _sum_up(self) -> None:
        self.spent += self.seen * self.macs
        self.seen = 0

    def _count(self, module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        self.seen += len(inputs[0])


def train(
    method: Method,
    model: nn.Module,
    seed: int,
    split: Split,
    *,
    epochs: int = 20,
    fold: str | None = None,
    recipe: Recipe = Recipe(),
) -> tuple[nn.Module, dict[str, Any]]:
    """One run; the last epoch's network and what it cost."""
    optimizer = recipe.optimizer(method.param_groups(model), recipe.rate)
    batches = recipe.batches(split, seed)
    steps = epochs * len(batches)
    folding: dict[str, Any] = {"fold": fold, "fold_inputs": [split.inputs[::60]] if fold == "mean" else None}
    pruner = pn.Pruner(model, optimizer, method, split.inputs[:2], steps=steps, examples=len(split), **folding)
    costs = Costs(split.inputs[:1])
    start = time.process_time()
    rate = partial(recipe.scheduled, steps=steps)
    fit(model, optimizer, batches, epochs=epochs, pruner=pruner, learning_rate=rate, callbacks=[costs])
    seconds = time.process_time() - start
    lean = pruner.finish()
    pixels = {"pixels": to_ranges(pruner.units("input"))} if "input" in pruner.widths() else {}
    return lean, {"cpu_seconds": round(seconds, 1), "train_macs": costs.spent, **pixels}


def scheduled(step: int, steps: int) -> float:
    """The learning rate of a step."""
    return Recipe().scheduled(step, steps)


def sizes(model: nn.Module, example: Tensor) -> dict[str, Any]:
    """Parameters, multiply-adds, and the widths of what is left."""
    layers = [module for module in model.modules() if isinstance(module, nn.Linear | nn.Conv2d)]
    profile = pn.measure.profile(model, example, latency=False)
    widths = [layers[0].weight.shape[1], *(layer.weight.shape[0] for layer in layers)]
    return {"parameters": profile.parameters, "macs": profile.macs, "widths": widths}


def stored(path: Path) -> list[dict[str, Any]]:
    """Rows of earlier calls."""
    return list(json.loads(path.read_text(encoding="utf-8"))["rows"]) if path.exists() else []


def write(path: Path, rows: list[dict[str, Any]], script: str) -> None:
    """The rows of a script."""
    record = {"command": f"python benchmarks/gates/{script} --data DIR", "torch": torch.__version__, "rows": rows}
    path.write_text(json.dumps(record, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
