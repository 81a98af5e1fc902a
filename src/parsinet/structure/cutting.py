"""Cutting tensors: keep chosen indices of some dimensions, in place of the whole."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from parsinet.structure.tracing import Norm

CHANNELS_LAST = {4: torch.channels_last, 5: torch.channels_last_3d}
"""By the number of dimensions."""


def resize_(tensor: Tensor, data: Tensor, gradient: Tensor | None = None) -> None:
    """Give a parameter or buffer new data of another shape; the object stays the same.

    While a graph of an earlier pass is alive (the caller's `loss` variable), autograd keeps the parameter's gradient accumulator
    with the old shape and the next backward pass would fail. Only a change of dtype resets it, hence the detour.
    """
    tensor.grad = None
    if tensor.requires_grad:
        tensor.data = torch.empty(0, dtype=torch.float64 if tensor.dtype != torch.float64 else torch.float32, device=tensor.device)
    tensor.data = data
    tensor.grad = gradient


def cut(tensor: Tensor, by_dim: Mapping[int, tuple[int, ...]]) -> Tensor:
    """The tensor with only the kept indices of the given dimensions, contiguous, on its device and in its memory format.

    Gradients of embeddings may be sparse; they stay so.
    """
    layout = CHANNELS_LAST[tensor.dim()] if is_channels_last(tensor) else torch.contiguous_format
    for dim, kept in by_dim.items():
        tensor = tensor.index_select(dim, torch.tensor(kept, dtype=torch.long, device=tensor.device))
    return tensor if tensor.is_sparse else tensor.contiguous(memory_format=layout)


def place_of(tensor: Tensor) -> torch.device:
    """Where numbers that belong to a tensor are kept: on its device; on the CPU where it has a shape and no values."""
    return torch.device("cpu") if tensor.is_meta else tensor.device


def rescaled(norm: Norm, tensors: Mapping[str, Tensor], kept: Mapping[int, tuple[int, ...]]) -> Tensor:
    """The scale of w = g · v/‖v‖ that leaves the kept entries of w as they are: g · ‖v kept‖/‖v‖."""
    g, v = tensors[norm.g].detach(), tensors[norm.v].detach()
    over = [d for d in range(v.dim()) if d != norm.dim]
    rest = cut(v, {d: indices for d, indices in kept.items() if d != norm.dim})
    before, after = (torch.linalg.vector_norm(tensor, norm.order, over, keepdim=True) for tensor in (v, rest))
    ratio: Tensor = after / before
    return g * ratio


def is_channels_last(tensor: Tensor) -> bool:
    """Whether a tensor lies channel by channel in memory, and not also in torch's usual order."""
    return (
        not tensor.is_sparse
        and tensor.dim() in CHANNELS_LAST
        and tensor.is_contiguous(memory_format=CHANNELS_LAST[tensor.dim()])
        and not tensor.is_contiguous()
    )
