"""Layers that read some of the model's inputs: what a linear layer or convolution becomes once features of a raw input have left."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from parsinet.errors import StructureError, UsageError
from parsinet.structure.cutting import place_of

KEPT = "kept"
"""Name of the buffer that lists which features the layer reads."""


class SelectedLinear(nn.Linear):
    """y = x[…, kept] Wᵀ + b: `in_features` columns of W, for the features of x in `kept` [in_features], int64.

    Takes the same x as the layer it was, of `features` features; UsageError for another. An existing layer becomes one by `select`; it is
    never built from scratch.
    """

    kept: Tensor
    features: int

    def forward(self, input: Tensor) -> Tensor:
        """x [..., features of the original layer] → [..., out_features]."""
        return super().forward(_chosen(self, input, -1))


class SelectedConv1d(nn.Conv1d):
    """A convolution of the channels in `kept`; see SelectedLinear."""

    kept: Tensor
    features: int

    def forward(self, input: Tensor) -> Tensor:
        """x [..., channels of the original layer, length] → [..., out_channels, length]."""
        return super().forward(_chosen(self, input, -2))


class SelectedConv2d(nn.Conv2d):
    """A convolution of the channels in `kept`; see SelectedLinear."""

    kept: Tensor
    features: int

    def forward(self, input: Tensor) -> Tensor:
        """x [..., channels of the original layer, height, width] → [..., out_channels, height, width]."""
        return super().forward(_chosen(self, input, -3))


class SelectedConv3d(nn.Conv3d):
    """A convolution of the channels in `kept`; see SelectedLinear."""

    kept: Tensor
    features: int

    def forward(self, input: Tensor) -> Tensor:
        """x [..., channels of the original layer, depth, height, width] → [..., out_channels, depth, height, width]."""
        return super().forward(_chosen(self, input, -4))


def _chosen(layer: SelectedLinear | SelectedConv1d | SelectedConv2d | SelectedConv3d, x: Tensor, axis: int) -> Tensor:
    if x.shape[axis] != layer.features:
        raise UsageError(
            f"{type(layer).__name__}: dimension {axis} of its input must have all {layer.features} features, "
            f"of which it selects {len(layer.kept)}, got {x.shape[axis]}."
        )
    return x.index_select(axis, layer.kept)


KINDS: Mapping[type[nn.Module], type[nn.Module]] = {
    nn.Linear: SelectedLinear,
    nn.Conv1d: SelectedConv1d,
    nn.Conv2d: SelectedConv2d,
    nn.Conv3d: SelectedConv3d,
}
"""Layer → what it becomes."""
SELECTED: Mapping[str, type[nn.Module]] = {kind.__name__: kind for kind in KINDS.values()}
"""The latter by the name the record keeps."""


def is_selected(module: nn.Module) -> bool:
    """Whether the layer reads some of its input's features only."""
    return type(module).__name__ in SELECTED and type(module) is SELECTED[type(module).__name__]


def columns_of(module: nn.Module, indices: tuple[int, ...]) -> tuple[int, ...]:
    """At which inputs of its weight the module reads these features; the same numbers, but for a layer that selects."""
    if not is_selected(module):
        return indices
    place = {feature: column for column, feature in enumerate(_kept(module).tolist())}
    return tuple(place[index] for index in indices)


def features(module: nn.Module) -> int:
    """How many features the input of a layer that selects has; 0 for other modules."""
    return int(module.__dict__["features"]) if is_selected(module) else 0


def may_select(module: nn.Module, kind: str) -> bool:
    """Whether the layer can become, or is, one of this class."""
    return KINDS.get(type(module)) is SELECTED[kind] or type(module) is SELECTED[kind]


def spread(module: nn.Module, owners: Any, size: int) -> Any:
    """`owners` [columns] of a layer that selects at the features they are of: [size], -1 for those it does not read."""
    full = torch.full((size,), -1, dtype=torch.int64)
    full[_kept(module).cpu()] = torch.as_tensor(owners)
    return full.numpy()


def whole_selections(model: nn.Module, missing: Mapping[str, int]) -> dict[str, Tensor]:
    """For every name `….kept` of a tensor the model does not have yet: the buffer [size] its layer is to get, all features in their order.

    Raises StructureError where there is no layer of that name and size that can select.
    """
    modules = dict(model.named_modules())
    found = {}
    for name, size in missing.items():
        path, _, last = name.rpartition(".")
        if last != KEPT:
            continue
        layer = modules.get(path)
        weight = layer._parameters.get("weight") if layer is not None and type(layer) in KINDS else None
        if weight is None or weight.shape[1] != size:
            raise StructureError(f"{path or 'the model'} should read {size} features of the model's input, but it is {layer}.")
        found[name] = torch.arange(size, device=place_of(weight))
    return found


def select(model: nn.Module, selections: Mapping[str, Tensor]) -> dict[str, str]:
    """Let layers select, with these buffers (`….kept`); returns path → new class."""
    classes = {}
    for name, kept in selections.items():
        path = name.rpartition(".")[0]
        layer = model.get_submodule(path)
        layer.__class__ = KINDS[type(layer)]
        layer.register_buffer(KEPT, kept)
        layer.__dict__["features"] = len(kept)
        classes[path] = type(layer).__name__
    return classes


def _kept(module: nn.Module) -> Tensor:
    return module.get_buffer(KEPT)
