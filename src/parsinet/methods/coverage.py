"""What of a network is masked by a method that masks weights: what stays dense is told once when it starts, what does not train refused."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase

import torch
from torch import nn

from parsinet import topology
from parsinet.errors import ParsinetWarning, UsageError, few
from parsinet.structure.optimizers import held

LEAST = 0.5
"""Share of the weights nobody excluded that is masked, below which it is told: a sparsity is not what a reader takes it for."""

REMEDY = (
    "because something computes the weight (weight_norm, spectral_norm, another parametrization). To mask it too call "
    "torch.nn.utils.parametrize.remove_parametrizations(layer, 'weight') before the optimizer is built; to leave it dense and not be "
    "told, name the layer in exclude."
)


def tell_dense(who: str, model: nn.Module, masked: Mapping[str, nn.Parameter], exclude: Sequence[str], *, share_only: bool) -> None:
    """ParsinetWarning where layers stay dense because their weights are computed, or where most of the network does.

    who: the method. masked: the weights it masks. exclude: layers it was told to leave dense; they are neither named nor counted.
    share_only: what was asked for is a share of the masked weights alone; otherwise it does not matter how many there are.
    """
    computed = [name for name, reason in topology.left_dense(model, exclude).items() if reason == topology.COMPUTED]
    dense, total = _dense(model, masked, exclude), sum(weight.numel() for weight in masked.values())
    share = total / (total + sum(dense.values()))
    others = sorted((name for name in dense if _layer(name) not in computed), key=lambda name: -dense[name])
    parts = [f"{shown(computed)} {_stay(computed)}, {REMEDY}"] if computed else []
    if share_only and share < LEAST and others:
        parts.append(f"{shown(others)} {_stay(others)}, because only Linear and convolution layers that train are masked.")
    if parts:
        counted = ", and the sparsity is a share of these" if share_only else ""
        told = f"{who}: masked are {share:.1%} of the network's weights{counted}. {' '.join(parts)}"
        warnings.warn(told, ParsinetWarning, stacklevel=4)


def check_trained(who: str, masked: Mapping[str, nn.Parameter], optimizers: Sequence[torch.optim.Optimizer]) -> None:
    """UsageError for weights that would be masked although no optimizer trains what is left of them."""
    trained = held(optimizers)
    idle = [name for name, weight in masked.items() if id(weight) not in trained]
    if idle and optimizers:
        layers = [_layer(name) for name in idle]
        raise UsageError(
            f"{who}: no optimizer holds {few(idle)}, so what masks leave of it could not train. Give Pruner every optimizer; to leave such "
            f"layers dense, name them (exclude={layers[:3]}) or freeze them (requires_grad_(False))."
        )


def shown(names: Sequence[str]) -> str:
    """A few of the layers' names."""
    return few([name or "the model itself" for name in names])


def _stay(names: Sequence[str]) -> str:
    return "stays dense" if len(names) == 1 else "stay dense"


def _dense(model: nn.Module, masked: Mapping[str, nn.Parameter], exclude: Sequence[str]) -> dict[str, int]:
    """Name → size of every matrix and kernel that is neither masked nor of an excluded layer."""
    known = {id(weight) for weight in masked.values()}
    return {
        name: parameter.numel()
        for name, parameter in model.named_parameters()
        if parameter.dim() > 1 and id(parameter) not in known and not any(fnmatchcase(_layer(name), pattern) for pattern in exclude)
    }


def _layer(parameter: str) -> str:
    """The module a parameter is of, also where a parametrization or a spectral layer keeps it."""
    for within in ("parametrizations.", "spectrum."):
        if f".{within}" in f".{parameter}":
            return f".{parameter}".partition(f".{within}")[0].removeprefix(".")
    return parameter.rpartition(".")[0]
