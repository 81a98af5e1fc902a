"""Module attributes that repeat a tensor's shape, and how they follow a removal: one rule per module kind, in one table."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd
from torch.nn.utils.parametrize import is_parametrized

from parsinet.structure import configs
from parsinet.structure.attention import SlimMultiheadAttention, become_slim

Attributes = dict[str, Any]


def _weight_shape(module: Any) -> torch.Size:
    """Shape of the weight; a parametrized one is computed as in evaluation, where parametrizations have no side effects."""
    if not is_parametrized(module, "weight"):
        return torch.Size(module.weight.shape)
    modes = {part: part.training for part in module.parametrizations.modules()}
    try:
        module.parametrizations.eval()
        with torch.no_grad():
            return torch.Size(module.weight.shape)
    finally:
        for part, training in modes.items():
            part.training = training


def _linear(module: Any) -> Attributes:
    outputs, inputs = _weight_shape(module)
    return {"out_features": outputs, "in_features": inputs}


def _bilinear(module: Any) -> Attributes:
    return dict(zip(("out_features", "in1_features", "in2_features"), _weight_shape(module), strict=True))


def _conv(module: Any) -> Attributes:
    outputs, inputs = _weight_shape(module)[:2]
    return {"out_channels": outputs, "in_channels": inputs * module.groups}


def _conv_transpose(module: Any) -> Attributes:
    inputs, outputs = _weight_shape(module)[:2]
    return {"in_channels": inputs, "out_channels": outputs * module.groups}


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


def _attention(module: Any) -> Attributes:
    packed = module.in_proj_weight
    keys, values = (module.k_proj_weight, module.v_proj_weight) if packed is None else (packed, packed)
    sizes = {"embed_dim": module.out_proj.weight.shape[0], "kdim": keys.shape[1], "vdim": values.shape[1]}
    return {**sizes, "_qkv_same_embed_dim": False} if isinstance(module, SlimMultiheadAttention) else sizes


def _prelu(module: Any) -> Attributes:
    return {"num_parameters": module.weight.shape[0]}


def _transposed_linear(module: Any) -> Attributes:
    inputs, outputs = _weight_shape(module)
    return {"nx": inputs, "nf": outputs}


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
    (nn.MultiheadAttention, _attention),
)

NAMED_RULES: dict[str, Callable[[Any], Attributes]] = {"transformers.pytorch_utils.Conv1D": _transposed_linear}
"""Rules for classes of packages that are not imported here, by qualified name."""


STAND_INS: dict[str, type[nn.Module]] = {SlimMultiheadAttention.__name__: SlimMultiheadAttention}
"""Classes a module may have been turned into, by the name the record keeps."""


def refresh(model: nn.Module, counts: Mapping[tuple[str, str], int], before: Mapping[tuple[str, str], int]) -> dict[str, Attributes]:
    """Set the counted attributes, those that repeat a shape, and the configurations' entries; returns what changed, by module path.

    before: what the configurations said of the model (`configs.described`) while its tensors still had their old shapes.
    """
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
        if isinstance(module, nn.MultiheadAttention) and become_slim(module):
            changed.setdefault(path, {})["__class__"] = SlimMultiheadAttention.__name__
        rule = _rule(module)
        for name, value in (rule(module) if rule is not None and _has_weights(module) else {}).items():
            _assign(module, path, name, value, changed)
    for path, entries in configs.follow(model, before).items():
        changed.setdefault(path, {}).update(entries)
    return changed


def assign(model: nn.Module, values: Mapping[str, Attributes]) -> None:
    """Set attributes as recorded: module path → attribute → value."""
    for path, attributes in values.items():
        module = model.get_submodule(path)
        for name, value in attributes.items():
            if name == "__class__":
                module.__class__ = STAND_INS[value]
            elif name.startswith("config."):
                configs.set_entry(model, path, name.removeprefix("config."), value)
            else:
                setattr(module, name, tuple(value) if isinstance(value, list) else value)


def is_kind(module: nn.Module, kind: str) -> bool:
    """Whether the module's class, or one it derives from, has this qualified name."""
    return any(f"{parent.__module__}.{parent.__qualname__}" == kind for parent in type(module).__mro__)


def _rule(module: nn.Module) -> Callable[[Any], Attributes] | None:
    by_class = next((rule for kind, rule in RULES if isinstance(module, kind)), None)
    return by_class or next((rule for kind, rule in NAMED_RULES.items() if is_kind(module, kind)), None)


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
