"""Nested state as JSON plus a flat table of tensors, and back, exactly: no pickle."""

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from parsinet.errors import RunError

Tensors = dict[str, Tensor]


def encode(state: Any) -> tuple[Any, Tensors]:
    """Split `state` into a JSON-able tree and its tensors (copies on the CPU).

    Kept exactly: None, bool, int, float (also infinite and NaN), str, list, tuple, dict with keys of str, int, float,
    bool or None, and tensors. In the tree `{"$tensor": name}`, `{"$tuple": […]}`, `{"$items": [[key, value], …]}` and
    `{"$float": "nan"}` stand for what JSON lacks. The table's tensors are contiguous; `"strides"` beside a name says how one lay in
    memory that did not lie so: kernels round differently by layout.

    Errors: RunError that names the place of anything else.
    """
    tensors: Tensors = {}
    return _encode(state, "", tensors), tensors


def decode(tree: Any, tensors: Mapping[str, Tensor]) -> Any:
    """What `encode` was given. Errors: RunError for a tree that `encode` cannot have made."""
    if isinstance(tree, list):
        return [decode(item, tensors) for item in tree]
    if not isinstance(tree, dict):
        return tree
    tag = next((key for key in tree if key.startswith("$")), None)
    if tag is None:
        return {key: decode(value, tensors) for key, value in tree.items()}
    try:
        value = _tagged(tag, tree[tag], tensors)
        return _laid_out(value, tree["strides"]) if "strides" in tree else value
    except (KeyError, TypeError, ValueError):
        raise RunError(f"The state holds {tag} {tree[tag]!r}, which cannot be read.") from None


def _tagged(tag: str, value: Any, tensors: Mapping[str, Tensor]) -> Any:
    match tag:
        case "$tensor":
            return tensors[value]
        case "$tuple":
            return tuple(decode(item, tensors) for item in value)
        case "$items":
            return {decode(key, tensors): decode(item, tensors) for key, item in value}
        case "$float":
            return float(value)
    raise KeyError(tag)


def _laid_out(value: Tensor, strides: list[int]) -> Tensor:
    """The tensor as it lay in memory. ValueError for strides it cannot have."""
    try:
        return torch.empty_strided(value.shape, strides, dtype=value.dtype).copy_(value)
    except RuntimeError as error:
        raise ValueError("no strides of this tensor") from error


def _encode(value: Any, place: str, tensors: Tensors) -> Any:
    if value is None or type(value) in (bool, int, str):
        return value
    if type(value) is float:
        return value if math.isfinite(value) else {"$float": repr(value)}
    if isinstance(value, Tensor):
        return _encode_tensor(value, place, tensors)
    if isinstance(value, list):
        return [_encode(item, f"{place}/{index}", tensors) for index, item in enumerate(value)]
    if isinstance(value, tuple):
        return {"$tuple": [_encode(item, f"{place}/{index}", tensors) for index, item in enumerate(value)]}
    if isinstance(value, Mapping):
        return _encode_mapping(value, place, tensors)
    raise RunError(f"Cannot store {place or 'the state'}: {type(value).__name__} is neither a tensor nor a plain value.")


def _encode_tensor(value: Tensor, place: str, tensors: Tensors) -> dict[str, Any]:
    name = place or "/"
    while name in tensors:
        name += "'"
    if value.layout is not torch.strided:
        raise RunError(f"Cannot store {name}: it is sparse. Store its indices and values.")
    tensors[name] = value.detach().to("cpu", copy=True).contiguous()
    strides = torch.empty_like(value, device="meta").stride()
    return {"$tensor": name} if strides == torch.empty(value.shape, device="meta").stride() else {"$tensor": name, "strides": list(strides)}


def _encode_mapping(value: Mapping[Any, Any], place: str, tensors: Tensors) -> dict[str, Any]:
    if all(type(key) is str and not key.startswith("$") for key in value):
        return {key: _encode(item, f"{place}/{key}", tensors) for key, item in value.items()}
    strange = next((key for key in value if not isinstance(key, str | int | float | None)), None)
    if strange is not None:
        raise RunError(f"Cannot store {place or 'the state'}: a key is a {type(strange).__name__}.")
    return {"$items": [[_encode(key, place, tensors), _encode(item, f"{place}/{key}", tensors)] for key, item in value.items()]}
