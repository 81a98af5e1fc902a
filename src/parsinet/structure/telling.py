"""Numbers with which a trial tells something: where weights or example inputs are all zero, any removal would seem to change nothing."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from parsinet.structure.copies import duplicate, unique_tensors
from parsinet.structure.running import Call

FAINT = 0.3
"""Length of a row of a matrix below which it is drawn anew: usual initialisers make rows of .3 to 1.4."""
SMALL = 0.05
"""Largest entry of a vector to which something is added: biases that are zero, scales of branches that begin closed."""
SPREAD = 0.3
"""Of what is added, which is positive: variances stay so, and a ReLU opens rather than shuts."""


@torch.no_grad()
def telling(model: nn.Module, call: Call) -> Call:
    """Draw the model's faint weights anew, in memory of their own, and inputs of the call that are all alike; returns that call.

    A head that begins at zero, a LayerScale of 1e-6, an image of zeros, tokens that are all the same hide what a removal changes; so do
    weights that are no numbers. What was drawn is taken back where the network does not run with it or returns what is no number: inputs
    first, then weights.
    """
    draw = torch.Generator().manual_seed(0)
    before = [(tensor, tensor.data) for tensor in unique_tensors(model)]
    changed = [_strengthened(tensor, draw) for tensor in unique_tensors(model) if type(tensor) is nn.Parameter]
    varied = _varied(call, draw)
    others = [] if varied is call else [varied]
    for candidate in (*others, call) if any(changed) else ():
        if _runs(model, candidate):
            return candidate
    for tensor, data in before:
        tensor.data = data
    return next((candidate for candidate in others if _runs(model, candidate)), call)


def _runs(model: nn.Module, call: Call) -> bool:
    """Whether a copy returns numbers; what a pass writes to is its own."""
    twin = duplicate(model, share=True)
    for buffer in twin.buffers():
        buffer.data = buffer.data.clone()
    try:
        return not any(bool(tensor.isnan().any()) for tensor in call.on(twin))
    except Exception:
        return False


def _strengthened(tensor: nn.Parameter, draw: torch.Generator) -> bool:
    """Whether something of a parameter was faint or no number; that is drawn anew, the rest stays."""
    data = tensor.data
    if not data.numel() or not (data.is_floating_point() or data.is_complex()) or data.itemsize < 2:
        return False
    wrong = ~data.isfinite()
    numbers = data.masked_fill(wrong, 0) if bool(wrong.any()) else data
    weak = wrong | (_faint_rows(numbers) if data.dim() > 1 else numbers.abs().max() < SMALL)
    if not bool(weak.any()):
        return False
    noise = torch.randn(data.shape, generator=draw).to(data)
    new = noise * math.sqrt(2 * len(data) / data.numel()) if data.dim() > 1 else numbers + SPREAD * noise.abs()
    tensor.data = torch.where(weak, new, data)
    return True


def _faint_rows(matrix: Tensor) -> Tensor:
    """Which rows, the entries of one first index, are faint; of the matrix' dimensions."""
    lengths: Tensor = torch.linalg.vector_norm(matrix.flatten(1), dim=1)
    return (lengths < FAINT).view(-1, *[1] * (matrix.dim() - 1))


def _varied(call: Call, draw: torch.Generator) -> Call:
    """The call with its floating-point inputs drawn anew where all of them are constant, and every other token of its tokens of zero
    replaced where all are alike; the same call where nothing is."""
    tensors = [leaf for leaf in tree_leaves((call.args, call.kwargs)) if isinstance(leaf, Tensor) and leaf.dim() > 1 and leaf.numel() > 1]
    floats = [tensor for tensor in tensors if tensor.is_floating_point()]
    whole = [tensor for tensor in tensors if tensor.dtype in (torch.int32, torch.int64)]
    new: dict[int, Tensor] = {}
    if all(map(_constant, floats)):
        new |= {id(tensor): tensor + torch.rand(tensor.shape, generator=draw).to(tensor) for tensor in floats}
    if all(map(_constant, whole)):
        new |= {id(tensor): _alternating(tensor) for tensor in whole if not bool(tensor.any())}
    return call.with_tensors(lambda tensor: new.get(id(tensor), tensor)) if new else call


def _constant(tensor: Tensor) -> bool:
    return bool((tensor == tensor.flatten()[0]).all())


def _alternating(tensor: Tensor) -> Tensor:
    """0, 1, 0, 1, … in the order of memory."""
    return (torch.arange(tensor.numel(), device=tensor.device) % 2).to(tensor).view(tensor.shape)
