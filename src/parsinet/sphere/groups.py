"""Parameter groups for LpSGD: which weights of a model lie on spheres, chosen by the type of their module."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any

from torch import Tensor, nn

from parsinet.errors import ArgumentTypeError, UsageError, few, suggest
from parsinet.sphere.geometry import check_p

UNIT_DIMS: tuple[tuple[type[nn.Module], int], ...] = (
    (nn.Linear, 0),
    (nn.Conv1d, 0),
    (nn.Conv2d, 0),
    (nn.Conv3d, 0),
    (nn.ConvTranspose1d, 1),
    (nn.ConvTranspose2d, 1),
    (nn.ConvTranspose3d, 1),
)
"""Kinds of layers whose weights have a sphere per output unit, and the dimension of the weight that counts units."""

COMPUTED = "parametrized: call remove_parametrizations first"
FROZEN = "frozen"
LAST = "the last layer; last=() constrains it too"
SHARED = "its weight is also of a module that stays free"


def param_groups(
    model: nn.Module,
    p: float | Mapping[str, float] | Callable[[int], float] = 1.2,
    *,
    last: str | Sequence[str] | None = None,
    min_in: int = 2,
    free: Mapping[str, Any] | None = None,
    **options: Any,
) -> list[dict[str, Any]]:
    """Groups for `LpSGD`: one per p and unit dimension for the constrained weights, one for everything else.

    Constrained are the weights of `UNIT_DIMS`' layers. Free are biases, norms, embeddings, recurrent weights, the last layer, frozen
    and computed (parametrized) weights, those shared with another kind of module, grouped transposed convolutions, and layers with fewer
    than `min_in` input channels (depthwise convolutions; a stem on one channel).

    p: one number; {pattern: p} with patterns of layer names (`"layer1.*"`), the first that matches counting, `"*"` for the rest; or a
    function of a layer's fan-in n, such as `lambda n: p_for_sparsity(n, 0.9)`.
    last: the names of the layers to leave free as the last; None for the layer defined last, () for none.
    free: options of the free group alone, such as {"lr": 0.05}. options: of all groups.
    Raises UsageError for names that are no layers, patterns that match nothing, layers without a p, and, with the
    reason for every layer, a model without constrained weights.
    Source: selection of the authors' code for arXiv 2103.16013, by type instead of by name (our choice).
    """
    layers = _layers(model)
    reasons = _reasons(model, layers, _last(layers, last), min_in)
    chosen = {name: layers[name] for name, reason in reasons.items() if not reason}
    if not chosen:
        raise UsageError(f"param_groups: no weight of this model can be constrained; {_told(reasons)}.")
    groups: dict[tuple[float, int], dict[str, Any]] = {}
    taken: set[int] = set()
    for name, exponent in _exponents(chosen, p).items():
        weight, unit_dim = chosen[name].weight, _unit_dim(chosen[name])
        group = groups.setdefault((exponent, unit_dim), {"params": [], "p": exponent, "unit_dim": unit_dim, "constrained": True, **options})
        if id(weight) not in taken:
            group["params"].append(weight)
            taken.add(id(weight))
    rest = [parameter for parameter in model.parameters() if id(parameter) not in taken]
    last_group = [{"params": rest, "constrained": False, **options, **(free or {})}] if rest else []
    return [*groups.values(), *last_group]


def _layers(model: nn.Module) -> dict[str, nn.Module]:
    """The layers of the known kinds."""
    kinds = tuple(kind for kind, _ in UNIT_DIMS)
    return {name: module for name, module in model.named_modules() if isinstance(module, kinds)}


def _reasons(model: nn.Module, layers: Mapping[str, nn.Module], last: set[str], min_in: int) -> dict[str, str]:
    """Why each layer is left free, and what would constrain it; "" for those that are constrained."""
    reasons = {name: _unsuited(layer, min_in) for name, layer in layers.items()}
    for free in ({}, dict.fromkeys(last, LAST)):
        reasons = {name: reason or free.get(name, "") for name, reason in reasons.items()}
        owned = _owners(model, {name: layers[name] for name, reason in reasons.items() if not reason})
        reasons = {name: reason or ("" if id(layers[name].weight) in owned else SHARED) for name, reason in reasons.items()}
    return reasons


def _last(layers: Mapping[str, nn.Module], last: str | Sequence[str] | None) -> set[str]:
    if last is None:
        return set(list(layers)[-1:])
    names = {last} if isinstance(last, str) else set(last)
    for name in sorted(names - set(layers)):
        raise UsageError(f"param_groups: last={name!r} is no Linear or convolution of this model.{suggest(name, layers)}")
    return names


def _unsuited(layer: nn.Module, min_in: int) -> str:
    """What of a layer itself speaks against a sphere per unit, "" for nothing."""
    weight = layer._parameters.get("weight")
    if weight is None:
        return COMPUTED
    if not weight.requires_grad:
        return FROZEN
    if _unit_dim(layer) and layer.groups != 1:
        return "a transposed convolution with groups"
    if weight.shape[1 - _unit_dim(layer)] < min_in:
        return f"fewer than {min_in} input channels (min_in)"
    return "" if _unit_dim(layer) or weight[0].numel() >= 2 else "one weight per unit"


def _told(reasons: Mapping[str, str]) -> str:
    """The layers that are left free, a few by name for each reason."""
    by_reason: dict[str, list[str]] = {}
    for name, reason in reasons.items():
        by_reason.setdefault(reason, []).append(name or "the model itself")
    parts = [f"{few(names)} ({reason})" for reason, names in by_reason.items()]
    return f"left out are {'; '.join(parts)}" if parts else "it has no Linear or convolution"


def _unit_dim(layer: nn.Module) -> int:
    return next(dim for kind, dim in UNIT_DIMS if isinstance(layer, kind))


def _owners(model: nn.Module, chosen: Mapping[str, nn.Module]) -> set[int]:
    """Parameters that only chosen layers own, and only as their weight."""
    layers = {id(layer) for layer in chosen.values()}
    own: set[int] = set()
    foreign: set[int] = set()
    for module in model.modules():
        for key, parameter in module._parameters.items():
            (own if id(module) in layers and key == "weight" else foreign).add(id(parameter))
    return own - foreign


def _fan_in(layer: nn.Module) -> int:
    weight = layer.weight
    assert isinstance(weight, Tensor)
    return weight.numel() // weight.shape[_unit_dim(layer)]


def _exponents(chosen: Mapping[str, nn.Module], p: float | Mapping[str, float] | Callable[[int], float]) -> dict[str, float]:
    """p of every layer by name."""
    if callable(p):
        return {name: check_p(f"param_groups: p of {name}", p(_fan_in(layer))) for name, layer in chosen.items()}
    if not isinstance(p, Mapping):
        return dict.fromkeys(chosen, check_p("param_groups", p))
    if not p:
        raise ArgumentTypeError('param_groups: p must be a number or a mapping such as {"*": 1.2}, got an empty mapping.')
    found: dict[str, float] = {}
    unused = set(p)
    for name in chosen:
        matching = [pattern for pattern in p if fnmatchcase(name, pattern)]
        if not matching:
            raise UsageError(f'param_groups: no pattern of p fits the layer {name!r}. Add one, or "*" for the rest.')
        unused -= set(matching)
        found[name] = check_p(f"param_groups: p[{matching[0]!r}]", p[matching[0]])
    for pattern in sorted(unused):
        raise UsageError(f"param_groups: the pattern {pattern!r} of p fits no constrained layer.{suggest(pattern, chosen)}")
    return found
