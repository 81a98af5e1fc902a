"""Module attributes that repeat a tensor's shape, and how they follow a removal: one rule per module kind, in one table."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd

Attributes = dict[str, Any]


def _linear(module: Any) -> Attributes:
    return {"out_features": module.weight.shape[0], "in_features": module.weight.shape[1]}


def _bilinear(module: Any) -> Attributes:
    return dict(zip(("out_features", "in1_features", "in2_features"), module.weight.shape, strict=True))


def _conv(module: Any) -> Attributes:
    return {"out_channels": module.weight.shape[0], "in_channels": module.weight.shape[1] * module.groups}


def _conv_transpose(module: Any) -> Attributes:
    return {"in_channels": module.weight.shape[0], "out_channels": module.weight.shape[1] * module.groups}


def _norm(module: Any) -> Attributes:
    known = next((tensor for tensor in (module.weight, module.running_mean) if tensor is not None), None)
    return {} if known is None else {"num_features": known.shape[0]}


def _group_norm(module: Any) -> Attributes:
    return {} if module.weight is None else {"num_channels": module.weight.shape[0]}


def _last_axes_norm(module: Any) -> Attributes:
    return {} if module.weight is None else {"normalized_shape": tuple(module.weight.shape)}


def _embedding(module: Any) -> Attributes:
    return {"embedding_dim": module.weight.shape[1]}


def _recurrent(module: Any) -> Attributes:
    projection = module.weight_hr_l0.shape[0] if module.proj_size else 0
    hidden = module.weight_hr_l0.shape[1] if module.proj_size else module.weight_hh_l0.shape[1]
    return {"input_size": module.weight_ih_l0.shape[1], "hidden_size": hidden, "proj_size": projection}


def _recurrent_cell(module: Any) -> Attributes:
    return {"input_size": module.weight_ih.shape[1], "hidden_size": module.weight_hh.shape[1]}


def _prelu(module: Any) -> Attributes:
    return {"num_parameters": module.weight.shape[0]}


RULES: tuple[tuple[type[nn.Module], Callable[[Any], Attributes]], ...] = (
    (nn.Linear, _linear),
    (nn.Bilinear, _bilinear),
    (_ConvTransposeNd, _conv_transpose),
    (_ConvNd, _conv),
    (_NormBase, _norm),
    (nn.GroupNorm, _group_norm),
    (nn.LayerNorm, _last_axes_norm),
    (nn.RMSNorm, _last_axes_norm),
    (nn.Embedding, _embedding),
    (nn.RNNBase, _recurrent),
    (nn.RNNCellBase, _recurrent_cell),
    (nn.PReLU, _prelu),
)


def refresh(model: nn.Module, counts: Mapping[tuple[str, str], int]) -> dict[str, Attributes]:
    """Set the counted attributes, then those that repeat a shape; returns what changed, by module path."""
    changed: dict[str, Attributes] = {}
    for (path, attribute), value in counts.items():
        module = model.get_submodule(path)
        name, position = _parse(attribute)
        wanted: Any = value
        if position is not None:
            current = getattr(module, name)
            wanted = (*current[:position], value, *current[position + 1 :])
        _assign(module, path, name, wanted, changed)
    for path, module in model.named_modules():
        rule = next((rule for kind, rule in RULES if isinstance(module, kind)), None)
        for name, value in (rule(module) if rule is not None and _has_weights(module) else {}).items():
            _assign(module, path, name, value, changed)
    return changed


def assign(model: nn.Module, values: Mapping[str, Attributes]) -> None:
    """Set attributes as recorded: module path → attribute → value."""
    for path, attributes in values.items():
        module = model.get_submodule(path)
        for name, value in attributes.items():
            setattr(module, name, tuple(value) if isinstance(value, list) else value)


def _assign(module: nn.Module, path: str, name: str, value: Any, changed: dict[str, Attributes]) -> None:
    if getattr(module, name) != value:
        setattr(module, name, value)
        changed.setdefault(path, {})[name] = value


def _parse(attribute: str) -> tuple[str, int | None]:
    match = re.fullmatch(r"(\w+)\[(\d+)\]", attribute)
    return (match[1], int(match[2])) if match else (attribute, None)


def _has_weights(module: nn.Module) -> bool:
    """Lazy modules that never ran have no shapes yet."""
    return not any(isinstance(tensor, nn.UninitializedParameter) for tensor in module._parameters.values() if isinstance(tensor, Tensor))
