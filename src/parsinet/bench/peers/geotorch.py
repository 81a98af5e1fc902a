"""geotorch: fully connected layers as matrices of a given rank, each two thin layers at the end."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn
from torch.nn.utils import parametrize

from parsinet import measure
from parsinet.bench.peers.peer import train_on
from parsinet.bench.watch import Watch
from parsinet.training.assembly import Assembly


def low_rank(options: Mapping[str, Any], parts: Assembly, watch: Watch) -> nn.Module:
    """`geotorch.low_rank` on every fully connected layer that is not fixed and has more than `rank` rows and columns: W = U diag(s) Vᵀ.

    The whole run trains on the manifold; multiply-adds of training are counted as those of the whole matrices, which it multiplies.

    M. Lezcano-Casado 2019, arXiv 1909.09501.
    """
    import geotorch

    model, rank, fixed = parts.model, options["rank"], set(options["fixed"])
    layers = {name: module for name, module in model.named_modules() if isinstance(module, nn.Linear) and name not in fixed}
    chosen = {name: layer for name, layer in layers.items() if min(layer.weight.shape) > rank}
    watch.counted = measure.macs(model, parts.example_inputs[:1])
    for layer in chosen.values():
        geotorch.low_rank(layer, "weight", rank)
    train_on(parts, model, [watch])
    for name, layer in chosen.items():
        parent, _, own = name.rpartition(".")
        setattr(model.get_submodule(parent), own, _thin(layer, rank))
    return model


@torch.no_grad()
def _thin(layer: nn.Linear, rank: int) -> nn.Sequential:
    """x ↦ U diag(s) (Vᵀ x) + b as two layers."""
    parametrize.remove_parametrizations(layer, "weight")
    u, s, v = torch.linalg.svd(layer.weight, full_matrices=False)
    first, second = nn.Linear(layer.in_features, rank, bias=False), nn.Linear(rank, layer.out_features, bias=layer.bias is not None)
    first.weight.copy_(v[:rank])
    second.weight.copy_(u[:, :rank] * s[:rank])
    if layer.bias is not None:
        second.bias.copy_(layer.bias)
    return nn.Sequential(first, second)
