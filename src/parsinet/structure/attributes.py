"""Module attributes that repeat a tensor's shape, and how they follow a removal: one rule per module kind, in one table."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd
from torch.nn.utils.parametrize import is_parametrized

from parsinet.structure import configs
from parsinet.structure.attention import SlimMultiheadAttention, become_slim, must_be_slim
from parsinet.structure.blocks_absent import Absent
from parsinet.structure.secluded import OWN
from parsinet.structure.selecting import SELECTED, may_select

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
    return {**sizes, "_qkv_same_embed_dim": False} if must_be_slim(module) else sizes


def _prelu(module: Any) -> Attributes:
    return {"num_parameters": module.weight.shape[0]}


def _transformer(module: Any) -> Attributes:
    layer = next((part for part in module.encoder.modules() if isinstance(part, nn.TransformerEncoderLayer)), None)
    return {} if layer is None else {"d_model": _weight_shape(layer.linear1)[1]}


def _encoder_layer(module: Any) -> Attributes:
    """Torch's fused pass reads all weights of a layer; without some of them the layer must go its plain way."""
    return {"activation_relu_or_gelu": 0} if any(isinstance(part, Absent) for part in module.modules()) else {}


def _encoder(module: Any) -> Attributes:
    """So must a stack of them, which would pack its input for the fused pass; a slim attention does not take a packed one either."""
    attentions = (part for part in module.modules() if isinstance(part, nn.MultiheadAttention))
    plain = any(isinstance(part, Absent) for part in module.modules()) or any(map(must_be_slim, attentions))
    return {"use_nested_tensor": False} if plain else {}


def _transposed_linear(module: Any) -> Attributes:
    inputs, outputs = _weight_shape(module)
    return {"nx": inputs, "nf": outputs}


def _pattern(module: Any) -> Attributes:
    """Layers of einops read the numbers of their pattern from a copy."""
    return {LENGTHS: tuple(module.axes_lengths.items())}


LENGTHS = "_axes_lengths"
"""The copy that layers of einops make of their attribute `axes_lengths`: a tuple of (axis, length)."""

PATTERNS = ("einops.layers.RearrangeMixin", "einops.layers.ReduceMixin")
"""Layers that keep their numbers so."""

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
    (nn.EmbeddingBag, _embedding),
    (nn.RNNBase, _recurrent),
    (nn.RNNCellBase, _recurrent_cell),
    (nn.PReLU, _prelu),
    (nn.MultiheadAttention, _attention),
    (nn.Transformer, _transformer),
    (nn.TransformerEncoderLayer, _encoder_layer),
    (nn.TransformerEncoder, _encoder),
)

NAMED_RULES: dict[str, Callable[[Any], Attributes]] = {
    "transformers.pytorch_utils.Conv1D": _transposed_linear,
    **dict.fromkeys(PATTERNS, _pattern),
}
"""Rules for classes of packages that are not imported here, by qualified name."""


STAND_INS: dict[str, type[nn.Module]] = {SlimMultiheadAttention.__name__: SlimMultiheadAttention, **SELECTED}
"""Classes a module may have been turned into, by the name the record keeps."""


def refresh(model: nn.Module, counts: Mapping[tuple[str, str], int], before: Mapping[tuple[str, str], int]) -> dict[str, Attributes]:
    """Set the counted attributes, those that repeat a shape, and the configurations' entries; returns what changed, by module path.

    before: what the configurations said of the model (`configs.described`) while its tensors still had their old shapes.
    """
    changed: dict[str, Attributes] = {}
    for (path, attribute), value in counts.items():
        _follow(model, path, attribute, value, changed)
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
            elif "." in name:
                configs.set_entry(model, path, name, value)
            else:
                setattr(module, name, value if type(getattr(module, name)) is list else _tuples(value))


def _tuples(value: Any) -> Any:
    """JSON knows lists only."""
    return tuple(map(_tuples, value)) if isinstance(value, list) else value


def keeps(module: nn.Module, name: str, value: object) -> bool:
    """Whether the module has an attribute of that name, as the record writes it, which could take the value."""
    if name == "__class__":
        return str(value) in STAND_INS and (str(value) not in SELECTED or may_select(module, str(value)))
    if "." in name:
        return configs.has_entry(module, name)
    return name in numbers_of_class(module) or (name in module.__dict__ and name not in OWN)


def numbers_of_class(module: nn.Module) -> dict[str, int]:
    """Whole numbers in the bodies of a module's classes, torch's aside, that the module has no own attribute for."""
    kinds = [kind for kind in type(module).__mro__ if not kind.__module__.startswith("torch.")]
    names = {name for kind in kinds for name, value in vars(kind).items() if type(value) is int and not name.startswith("_")}
    found = {name: getattr(type(module), name) for name in names - module.__dict__.keys()}
    return {name: value for name, value in found.items() if type(value) is int}


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


def _follow(model: nn.Module, path: str, attribute: str, value: int, changed: dict[str, Attributes]) -> None:
    """Set a number kept as `name`, `name[0]` (an entry of a tuple or list) or `name.entry` (of a dict or a configuration)."""
    module = model.get_submodule(path)
    if "." in attribute:
        if configs.entry_of(module, attribute) != value:
            configs.set_entry(model, path, attribute, value)
            changed.setdefault(path, {})[attribute] = value
        return
    name, _, position = attribute.partition("[")
    wanted: Any = value
    if position:
        entries = list(getattr(module, name))
        entries[int(position[:-1])] = value
        wanted = entries if type(getattr(module, name)) is list else tuple(entries)
    _assign(module, path, name, wanted, changed)


def _has_weights(module: nn.Module) -> bool:
    """Lazy modules that never ran have no shapes yet."""
    return not any(isinstance(tensor, nn.UninitializedParameter) for tensor in module._parameters.values() if isinstance(tensor, Tensor))
