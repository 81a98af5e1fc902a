"""The steps of `update.py` for many tensors, in place and in blocks of rows that stay in the processor's cache: the fast path.

Nothing is allocated per tensor: three scratch blocks serve all of them, since new memory costs a processor more than the arithmetic on it.
"""

import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from parsinet.sphere.geometry import halves

Tensors = Sequence[Tensor]
BLOCK = 1 << 17
"""Entries per block: large enough to hide the cost of calls, small enough for a second-level cache of a megabyte."""


class _Block(NamedTuple):
    """Rows of some tensors and three scratch tensors of their shape."""

    rows: tuple[Tensor, ...]
    scratch: tuple[Tensor, Tensor, Tensor]


def momentum_(buffers: list[Tensor], gradients: list[Tensor], momentum: float, dampening: float) -> None:
    """buffer ← μ·buffer + (1 − dampening)·gradient, in place."""
    torch._foreach_mul_(buffers, momentum)
    torch._foreach_add_(buffers, gradients, alpha=1 - dampening)


def as_rows(x: Tensor, unit_dim: int) -> Tensor | None:
    """x as [units, entries] without a copy, entries in the order of memory; None if its layout does not allow that."""
    if unit_dim % x.dim() != 0:
        return None
    if x.is_contiguous():
        return x.view(len(x), -1)
    if x.dim() == 4 and x.is_contiguous(memory_format=torch.channels_last):
        return x.permute(0, 2, 3, 1).view(len(x), -1)
    return None


def dual_steps_(ws: Tensors, vs: Tensors, gs: Tensors, eta: float, p: float, g_min: float) -> None:
    """`update.dual_step` on every (w, v, g) of the lists, each [units, entries], in place; p ≤ 2.

    With x = g_r/max|g_r| and y = v_r − c·x/‖x‖_q, c = η/(1−η), scaled to max|y| = 1, and h = |y|^(q/2−1), t = y·h, S = Σt² = Σ|y|^q:
    w_r = t·h/S^(1/p) and v_r = y/S^(1/q): one power for both, and no sign to put back.
    |1−c| ≤ ‖y‖_q ≤ 1+c, so the scaling of y is left out where S can neither under- nor overflow: for every usual η.
    """
    q, share = p / (p - 1), eta / (1 - eta)
    near_one = share != 1 and q * math.log2((1 + share) / abs(1 - share)) < 60
    for (w, v, g), (x, out, spare) in _blocks(ws, vs, gs):
        still = _scale(g, x, out, g_min)
        y = torch.addcmul(v, x, _sum_of_powers(out, spare, x, q).pow_(-1 / q), value=-share, out=x)
        if not near_one:
            still |= _scale(y, y, out, 0)
        h = _power_(out, spare, y, q / 2 - 1)
        t = torch.mul(y, h, out=spare)
        mass = torch.linalg.vector_norm(t, 2, 1, True).clamp_min_(_tiny(t))
        staying = _any(still)
        _put_(w, h.mul_(t), mass.pow(-2 / p), still, staying)
        _put_(v, y, mass.pow_(-2 / q), still, staying)


def frank_wolfe_steps_(ws: Tensors, gs: Tensors, eta: float, p: float, g_min: float) -> None:
    """`update.frank_wolfe_step` on every (w, g) of the lists, each [units, entries], in place.

    With x = g_r/max|g_r|, u = sp(x, q−1) and S = Σ|x|^q: y = (1−η)w_r − η·u/S^(1/p) and w_r = y/‖y‖_p.
    """
    q = p / (p - 1)
    for (w, g), (x, out, spare) in _blocks(ws, gs):
        still = _scale(g, x, out, g_min)
        u = torch.copysign(_power_(out, spare, x, q - 1), x, out=out)
        total = x.mul_(u).sum(1, keepdim=True)
        y = torch.mul(w, 1 - eta, out=x).addcmul_(u, total.clamp_min_(_tiny(x)).pow_(-1 / p), value=-eta)
        still |= _scale(y, y, out, 0)
        _put_(w, y, _sum_of_powers(out, spare, y, p).pow_(-1 / p), still, _any(still))


def _blocks(*lists: Tensors) -> Iterator[_Block]:
    """Corresponding tensors of the lists, some rows at a time, with scratch that is used again and again. Accelerators take
    whole tensors."""
    flat: tuple[Tensor, Tensor, Tensor] | None = None
    for tensors in zip(*lists, strict=True):
        (units, entries), dtype = tensors[0].shape, tensors[0].dtype
        count = units if not tensors[0].is_cpu else min(units, max(1, BLOCK // entries))
        if flat is None or flat[0].numel() < count * entries or flat[0].dtype != dtype or flat[0].device != tensors[0].device:
            first, second, third = (tensors[0].new_empty(max(count * entries, BLOCK)) for _ in range(3))
            flat = first, second, third
        for start in range(0, units, count):
            rows = tuple(tensor[start : start + count] for tensor in tensors) if count < units else tensors
            shape = rows[0].shape
            size = shape[0] * entries
            yield _Block(rows, (flat[0][:size].view(shape), flat[1][:size].view(shape), flat[2][:size].view(shape)))


def _scale(x: Tensor, out: Tensor, scratch: Tensor, least: float) -> Tensor:
    """Write x over its largest entry per row to `out`; True for rows where that entry is `least` or less."""
    largest = torch.abs(x, out=scratch).amax(1, keepdim=True)
    still = largest <= least
    torch.mul(x, largest.clamp_min_(_tiny(x)).reciprocal_(), out=out)
    return still


def _sum_of_powers(out: Tensor, spare: Tensor, x: Tensor, k: float) -> Tensor:
    """Σ|x|^k per row, at least the smallest normal number; as Σ(|x|^(k/2))² where that is no dearer, for torch has it in one pass."""
    if halves(k) is None or halves(k / 2) is not None:
        total: Tensor = torch.linalg.vector_norm(_power_(out, spare, x, k / 2), 2, 1, True).square_()
    else:
        total = _power_(out, spare, x, k).sum(1, keepdim=True)
    return total.clamp_min_(_tiny(x))


def _power_(out: Tensor, spare: Tensor, x: Tensor, k: float) -> Tensor:
    """`geometry.power` of |x| written to `out`, which is returned; `spare` is overwritten."""
    count = halves(k)
    if count is None:
        return torch.abs(x, out=out).log2_().mul_(k).exp2_()
    if count < 2:
        return torch.abs(x, out=out).sqrt_() if count else out.fill_(1)
    base = x if count % 4 == 0 else torch.abs(x, out=spare)
    if count == 3:
        return torch.sqrt(base, out=out).mul_(base)
    power = base
    for digit in f"{count // 2:b}"[1:]:
        power = torch.mul(power, power, out=out)
        if digit == "1":
            power.mul_(base)
    return power.mul_(base.sqrt_()) if count % 2 else power


def _put_(target: Tensor, value: Tensor, factor: Tensor, still: Tensor, staying: bool) -> None:
    """target ← value·factor where the row moves, bit for bit as it was where it stays."""
    if staying:
        target.copy_(torch.where(still, target, value.mul_(factor)))
    else:
        torch.mul(value, factor, out=target)


def _any(still: Tensor) -> bool:
    """Whether any row stays; accelerators are not asked, the answer would have to be waited for."""
    return not still.is_cpu or bool(still.any())


def _tiny(x: Tensor) -> float:
    return torch.finfo(x.dtype).tiny
