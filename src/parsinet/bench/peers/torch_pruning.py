"""Torch-Pruning: train, let go of a share of every layer's units at once, fine-tune."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn
from torch.nn.functional import cross_entropy

from parsinet.bench.peers.peer import train_on
from parsinet.bench.watch import Watch
from parsinet.errors import UsageError, suggest
from parsinet.models.transformer import Attention
from parsinet.training.assembly import Assembly
from parsinet.training.state import Callback, LoopState

GRADIENT_EXAMPLES = 1024
"""So many training examples give the gradients that first-order criteria look at."""
CRITERIA = ("group-magnitude", "l1", "taylor", "random", "bn-scale")


class StopAt(Callback):
    """Ends a training after a step, within an epoch too."""

    def __init__(self, step: int) -> None:
        self.step = step

    def on_step(self, state: LoopState) -> None:
        state.stop = state.step >= self.step


def torch_pruning(options: Mapping[str, Any], parts: Assembly, watch: Watch) -> nn.Module:
    """Train to a share `begin` of the run, let go of a share of every layer's units at once, fine-tune with a fresh optimizer.

    G. Fang, X. Ma, M. Song, M. B. Mi, X. Wang 2023, arXiv 2301.12900. Its criteria: `CRITERIA`.
    """
    begin, model = round(options["begin"] * parts.steps), parts.model
    train_on(parts, model, [watch, StopAt(begin)])
    cut(model, parts, options["importance"], options["share"], options["fixed"])
    train_on(parts, model, [watch], begin=begin)
    return model


def cut(model: nn.Module, parts: Assembly, importance: str, share: float, fixed: Sequence[str]) -> None:
    """Let go of a share of the units of every layer that is not fixed; of an attention, of whole heads."""
    import torch_pruning as tp

    attentions = [module for module in model.modules() if isinstance(module, Attention)]
    heads = {layer: each.num_heads for each in attentions for layer in (each.q, each.k, each.v)}
    pruner = tp.pruner.MetaPruner(
        model,
        parts.example_inputs[:1],
        criterion(importance),
        pruning_ratio=share,
        head_pruning_ratio=share,
        ignored_layers=[model.get_submodule(name) for name in fixed],
        num_heads=heads,
        prune_num_heads=bool(heads),
        prune_head_dims=not heads,
    )
    if importance == "taylor":
        _give_gradients(model, parts)
    pruner.step()
    model.zero_grad(set_to_none=True)
    for each in attentions:
        each.num_heads = pruner.num_heads[each.q]


def criterion(name: str) -> Any:
    """One of its criteria by our name for it; UsageError for another."""
    import torch_pruning as tp

    found = tp.importance
    match name:
        case "group-magnitude":
            return found.GroupMagnitudeImportance(p=2)
        case "l1":
            return found.GroupMagnitudeImportance(p=1, group_reduction="first")
        case "taylor":
            return found.GroupTaylorImportance()
        case "random":
            return found.RandomImportance()
        case "bn-scale":
            return found.BNScaleImportance()
    raise UsageError(f"Torch-Pruning: there is no importance {name!r}.{suggest(name, CRITERIA)}")


def _give_gradients(model: nn.Module, parts: Assembly) -> None:
    """Of the loss of training examples, in evaluation mode, so that nothing but gradients changes."""
    split = parts.dataset.train
    model.eval()
    logits = model(split.inputs[:GRADIENT_EXAMPLES])
    torch.autograd.backward(cross_entropy(logits.flatten(0, -2), split.targets[:GRADIENT_EXAMPLES].flatten()))
    model.train()
