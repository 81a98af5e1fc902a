"""A mask on a composed weight, Ŵ = W where |W| > c: which entries stay, and how they come and go."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

EVERYTHING = -1.0
"""A threshold below every magnitude."""


class Mask(nn.Module):
    """Which entries of a weight [d0, d1, *taps] are kept, and which ever were.

    kept, ever: bool buffers of the weight's shape, so that they leave with its units. sparsity: the share that is masked. threshold: c,
    where it is fixed. forwards: training passes so far. All of it is in the state_dict, the numbers as one float64 tensor, so that a
    resumed run continues bitwise.
    """

    kept: Tensor
    ever: Tensor

    def __init__(self, weight: Tensor, sparsity: float) -> None:
        super().__init__()
        self.register_buffer("kept", torch.ones(weight.shape, dtype=torch.bool, device=weight.device))
        self.register_buffer("ever", torch.zeros(weight.shape, dtype=torch.bool, device=weight.device))
        self.sparsity, self.threshold, self.forwards = sparsity, EVERYTHING, 0
        self.tally = torch.zeros(5, dtype=torch.int64, device=weight.device)
        """Updates that changed the mask; masked entries before each of them, returns; both again for the last one."""
        self.loaded = False
        """Whether a state was loaded since the mask was last decided."""

    def forward(self, weight: Tensor) -> Tensor:
        """The weight with zeros where it is not kept, in the same memory: a result nobody else reads. No gradient passes there."""
        if torch.compiler.is_exporting():
            return weight * (self.kept & self.ever)
        if torch.compiler.is_compiling():
            return weight * self.kept
        masked: Tensor = _Masked.apply(weight, self.kept)  # type: ignore[no-untyped-call]
        return masked

    def update(self, kept: Tensor) -> None:
        """Take over a new mask and count who returned, without waiting for the device."""
        before, self.kept, self.ever = self.kept, kept, self.ever | kept
        count = torch.count_nonzero
        had, has, both = count(before), count(kept), count(before & kept)
        now = torch.stack([before.numel() - had, has - both])
        changed = (had != both) | (has != both)
        old = self.tally.to(kept.device)
        total = old[:3] + changed * torch.cat([torch.ones_like(now[:1]), now])
        self.tally = torch.cat([total, torch.where(changed, now, old[3:])])
        self.loaded = False

    def get_extra_state(self) -> Tensor:
        """sparsity, threshold, forwards and the tally, as they are no tensors of the graph: float64 [8]."""
        numbers = [self.sparsity, self.threshold, float(self.forwards), *self.tally.tolist()]
        return torch.tensor(numbers, dtype=torch.float64)

    def set_extra_state(self, state: Any) -> None:
        """The inverse of `get_extra_state`."""
        self.sparsity, self.threshold, self.forwards = float(state[0]), float(state[1]), int(state[2])
        self.tally = state[3:].to(self.kept.device, torch.int64)
        self.loaded = True

    def extra_repr(self) -> str:
        return f"sparsity={self.sparsity:g}"


class _Masked(torch.autograd.Function):
    """`weight * kept` without a tensor of its own; a composed weight may be a view, on which autograd refuses to work in place."""

    @staticmethod
    def forward(weight: Tensor, kept: Tensor) -> Tensor:
        return weight.mul_(kept).detach()

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        ctx.save_for_backward(inputs[1])

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, G: Tensor) -> tuple[Tensor, None]:
        return G * ctx.saved_tensors[0], None


def rank_of(entries: int, sparsity: float) -> int:
    """r = round_half_even((n − 1)·sparsity), the zero-based rank of the largest magnitude that goes; without ties n − (r + 1) stay."""
    return round((entries - 1) * sparsity)


def smallest(values: Tensor, rank: int) -> Tensor:
    """The entry of zero-based `rank` in ascending order, exact at any size; `values` [n] may be reordered.

    On the CPU by numpy's partition, an order of magnitude faster there than `kthvalue`. `torch.quantile` ends at 2^24 entries.
    """
    if values.device.type != "cpu":
        return values.kthvalue(rank + 1).values
    array = values.numpy() if values.dtype in (torch.float32, torch.float64) else values.float().numpy()
    array.partition(rank)
    return torch.tensor(array[rank], dtype=values.dtype)


def cut_off(magnitudes: Sequence[Tensor], sparsity: float) -> Tensor:
    """c, the magnitude of rank `rank_of` among the entries of all |W| given; with sparsity 0 everything is above it.

    Source: the public code of Chicchi et al., arXiv 2106.09021, for every layer by itself; there 0 % still drops the smallest entry.
    """
    if sparsity == 0:
        return torch.tensor(EVERYTHING, dtype=magnitudes[0].dtype, device=magnitudes[0].device)
    flat = magnitudes[0].flatten().clone() if len(magnitudes) == 1 else torch.cat([values.flatten() for values in magnitudes])
    return smallest(flat, rank_of(len(flat), sparsity))
