"""Torch-Pruning, the peer's library, under a recipe of ours: uniform group magnitude, one cut, fine-tuning.

G. Fang, X. Ma, M. Song, M. B. Mi, X. Wang 2023, arXiv 2301.12900. `pip install "parsinet[peers]"`.
"""

from __future__ import annotations

import copy
import importlib.util
import time
from collections.abc import Callable, Sequence
from typing import Any

from protocol import Costs, Recipe
from torch import Tensor, nn

import parsinet as pn
from parsinet.data import Split
from parsinet.methods import Dense
from parsinet.models.transformer import Attention
from parsinet.training.loop import fit
from parsinet.training.state import Callback, LoopState


class StopAt(Callback):
    """Ends a training after a step, within an epoch too."""

    def __init__(self, step: int) -> None:
        self.step = step

    def on_step(self, state: LoopState) -> None:
        state.stop = state.step >= self.step


def has_torch_pruning() -> bool:
    """Whether the library can be imported."""
    return importlib.util.find_spec("torch_pruning") is not None


def cut(model: nn.Module, example: Tensor, ratio: float, fixed: Sequence[str]) -> nn.Module:
    """Let go of a share of the units of every layer that is not fixed; of an attention, of whole heads."""
    import torch_pruning as tp

    attentions = [module for module in model.modules() if isinstance(module, Attention)]
    heads = {layer: each.num_heads for each in attentions for layer in (each.q, each.k, each.v)}
    pruner = tp.pruner.MetaPruner(
        model,
        example,
        tp.importance.GroupMagnitudeImportance(p=2),
        pruning_ratio=ratio,
        head_pruning_ratio=ratio,
        ignored_layers=[model.get_submodule(name) for name in fixed],
        num_heads=heads,
        prune_num_heads=bool(heads),
        prune_head_dims=not heads,
    )
    pruner.step()
    for each in attentions:
        each.num_heads = pruner.num_heads[each.q]
    return model


def share_for(macs: float, smaller: Callable[[float], nn.Module], example: Tensor) -> float:
    """The share of units that has to leave for a number of multiply-adds; of the two next to it the one that is nearer."""
    low, high = 0.0, 1.0
    found: dict[float, float] = {}
    for _ in range(7):
        middle = (low + high) / 2
        found[middle] = pn.measure.macs(smaller(middle), example)
        low, high = (middle, high) if found[middle] > macs else (low, middle)
    return min(found, key=lambda share: abs(found[share] - macs))


def torch_pruning(
    share: Callable[[nn.Module], float],
    model: nn.Module,
    seed: int,
    split: Split,
    *,
    epochs: int,
    recipe: Recipe,
    fixed: Sequence[str],
    begin: int | None = None,
) -> tuple[nn.Module, dict[str, Any]]:
    """Train at the full rate, cut where it begins to fall, fine-tune along the cosine with a fresh optimizer.

    share: of the units that leave, asked of the network that is to be cut; its time is not counted. begin: the step, if it is another.
    """
    example, batches = split.inputs[:1], recipe.batches(split, seed)
    steps = epochs * len(batches)
    begin = round(recipe.hold * steps) if begin is None else begin
    first, later = Costs(example), Costs(example)
    start = time.process_time()
    optimizer = recipe.optimizer(Dense().param_groups(model), recipe.rate)
    fit(model, optimizer, batches, epochs=epochs, learning_rate=lambda step: recipe.rate, callbacks=[first, StopAt(begin)])
    trained = time.process_time() - start
    ratio = share(model)
    start = time.process_time()
    model = cut(model, example, ratio, fixed)
    optimizer = recipe.optimizer(Dense().param_groups(model), recipe.rate)
    fit(model, optimizer, batches, epochs=epochs, learning_rate=lambda step: recipe.scheduled(step + begin, steps), callbacks=[later])
    seconds = trained + time.process_time() - start
    return model, {"share": ratio, "cpu_seconds": round(seconds, 1), "train_macs": first.spent + later.spent}


def share_of_copies(macs: float, fixed: Sequence[str], example: Tensor) -> Callable[[nn.Module], float]:
    """`share_for` a number of multiply-adds, by cuts of copies."""
    return lambda model: share_for(macs, lambda share: cut(copy.deepcopy(model), example, share, fixed), example)
