"""The product of two linear maps that follow each other, as one layer in the place of one of them."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd

from parsinet.errors import StructureError
from parsinet.structure.blocks_absent import Answer, depart
from parsinet.structure.blocks_calls import LAYERS
from parsinet.structure.cutting import resize_


def is_matrix(layer: nn.Module) -> bool:
    """Whether the layer maps every position by itself: nn.Linear, or a convolution of 1x1 without stride, padding and groups."""
    if not isinstance(layer, _ConvNd):
        return type(layer) is nn.Linear
    return max(layer.kernel_size) == max(layer.stride) == layer.groups == 1 and not _pads(layer)


def has_product(first: nn.Module, second: nn.Module) -> bool:
    """Whether second ∘ first is one layer of their kind, exactly: one is a matrix, and no bias of the first ends where zeros are padded."""
    if type(first) is not type(second) or type(first) not in LAYERS:
        return False
    if first.get_parameter("weight").shape[0] != second.get_parameter("weight").shape[1]:
        return False
    if not isinstance(first, _ConvNd) or not isinstance(second, _ConvNd) or is_matrix(second):
        return getattr(first, "groups", 1) == 1
    cut_off = first.bias is not None and _pads(second) and second.padding_mode == "zeros"
    return is_matrix(first) and second.groups == 1 and not cut_off


def _pads(layer: _ConvNd) -> bool:
    if isinstance(layer.padding, str):
        return layer.padding == "same" and max(layer.kernel_size) > 1
    return max(layer.padding) > 0


def product(first: nn.Module, second: nn.Module) -> tuple[Tensor, Tensor | None]:
    """Weight and bias of second ∘ first, computed in float64: W = W₂W₁ tap by tap, b = b₂ + Σ_taps W₂ b₁; None if neither has a bias."""
    (w1, b1), (w2, b2) = _tensors(first), _tensors(second)
    if is_matrix(first):
        weight = torch.tensordot(w2, w1.flatten(1), dims=([1], [0])).movedim(-1, 1)
    else:
        weight = torch.tensordot(w2.flatten(1), w1, dims=([1], [0]))
    parts = [b2] if b2 is not None else []
    if b1 is not None:
        parts.append(w2.flatten(2).sum(2) @ b1 if w2.dim() > 2 else w2 @ b1)
    kind: Tensor = second.weight  # type: ignore[assignment]
    return weight.to(kind.dtype), sum(parts[1:], parts[0]).to(kind.dtype) if parts else None


def _tensors(layer: nn.Module) -> tuple[Tensor, Tensor | None]:
    weight, bias = layer._parameters["weight"], layer._parameters["bias"]
    assert weight is not None
    return weight.detach().double(), None if bias is None else bias.detach().double()


def multiply_out(model: nn.Module, first: str, readers: Sequence[str]) -> None:
    """Put the products into the readers' places, or, where the first is no matrix, into its own; what is left over hands its input on.

    StructureError, with nothing changed, where the network has no such layers.
    """
    modules = dict(model.named_modules())
    known = bool(readers) and all(path in modules for path in (first, *readers))
    if not known or not all(has_product(modules[first], modules[reader]) for reader in readers):
        raise StructureError(
            f"{first} cannot be multiplied into {', '.join(readers) or 'nothing'}: no linear maps of this network that follow."
        )
    made = [product(modules[first], modules[reader]) for reader in readers]
    stays = readers if is_matrix(modules[first]) else [first]
    for path, (weight, bias) in zip(stays, made, strict=True):
        _become(modules[path], weight, bias)
    for path in {first, *readers} - set(stays):
        depart(modules[path], Answer((0,), same=True))


def _become(layer: nn.Module, weight: Tensor, bias: Tensor | None) -> None:
    """Give the layer another weight and bias; parameters keep their identity, and lose their gradients."""
    for name, data in (("weight", weight), ("bias", bias)):
        parameter = layer._parameters[name]
        if parameter is None and data is not None:
            layer.register_parameter(name, nn.Parameter(data))
        elif parameter is not None and data is not None:
            resize_(parameter, data)
    names = ("out_channels", "in_channels") if isinstance(layer, _ConvNd) else ("out_features", "in_features")
    for name, size in zip(names, weight.shape[:2], strict=True):
        setattr(layer, name, size)
