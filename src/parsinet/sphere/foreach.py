"""The steps of `update.py` for many tensors, in place and in blocks of rows: the fast path."""

import itertools
import math

import torch
from torch import Tensor

from parsinet.sphere.blocks import SMALL, Scratch, Tensors, blocks
from parsinet.sphere.geometry import halves


def momentum_(buffers: list[Tensor], gradients: list[Tensor], momentum: float, dampening: float) -> None:
    """buffer ← μ·buffer + (1 − dampening)·gradient, in place; for large ones in one pass over memory, where nothing is damped."""
    pairs = list(zip(buffers, gradients, strict=True))
    large = [dampening == 0 and buffer.is_cpu and buffer.numel() >= SMALL for buffer in buffers]
    for buffer, gradient in itertools.compress(pairs, large):
        torch.add(gradient, buffer, alpha=momentum, out=buffer)
    rest = [pair for pair, chosen in zip(pairs, large, strict=True) if not chosen]
    if rest:
        torch._foreach_mul_([buffer for buffer, _ in rest], momentum)
        torch._foreach_add_([buffer for buffer, _ in rest], [gradient for _, gradient in rest], alpha=1 - dampening)


def dual_steps_(
    scratch: Scratch,
    ws: Tensors,
    vs: Tensors,
    gs: Tensors,
    eta: float,
    p: float,
    g_min: float,
    masks: Tensors | None = None,
    counted: bool = False,
    hollow: bool = False,
) -> None:
    """`update.dual_step` on every (w, v, g) of the lists, each [units, entries], in place; p ≤ 2.

    With a = |g_r|/max|g_r|, c = η/(1−η) and y = v_r − c·g_r/(max|g_r|·‖a‖_q), scaled to max|y| = 1, and h = |y|^(q/2−1), t = y·h,
    S = Σt² = Σ|y|^q: w_r = t·h/S^(1/p) and v_r = y/S^(1/q). One power for both, and no sign to put back.
    |1−c| ≤ ‖y‖_q ≤ 1+c, so the scaling of y is left out where S can neither under- nor overflow: for every usual η.
    masks: uint8, 0 where w is to be 0 whatever v; `counted`: S is taken over the others alone, and a row with none stays. Hidden v may
    then be large, and no power is taken of them.
    hollow: some v_r may be 0, as of rows that were hidden as a whole and lost v; then ‖y‖_q may be c, and y is always scaled.
    """
    q, share = p / (p - 1), eta / (1 - eta)
    near_one = not hollow and share != 1 and q * math.log2((1 + share) / min(1.0, abs(1 - share))) < 60
    for (w, v, g, *mask), (x, out, spare) in blocks(scratch, 2, ws, vs, gs, *([] if masks is None else [masks])):
        still, a, factor = _sizes(g, x, g_min)
        y = torch.addcmul(v, g, _sum_of_powers(out, spare, a, q, positive=True).pow_(-1 / q).mul_(factor), value=-share, out=x)
        if not near_one:
            still |= _scale_(y, out, *(mask if counted else ()))
        seen = y.mul(mask[0]) if mask and counted else y
        h = _power_(out, spare, seen, q / 2 - 1)
        t = torch.mul(seen, h, out=spare)
        mass = torch.linalg.vector_norm(t, 2, 1, True)
        if mask:
            h.mul_(mask[0])
            still |= mass == 0
        mass.clamp_min_(_tiny(t))
        staying = _any(still)
        _put_(w, h.mul_(t), mass.pow(-2 / p), still, staying)
        _put_(v, y, mass.pow_(-2 / q), still, staying)


def frank_wolfe_steps_(
    scratch: Scratch, ws: Tensors, gs: Tensors, eta: float, p: float, g_min: float, masks: Tensors | None = None
) -> None:
    """`update.frank_wolfe_step` on every (w, g) of the lists, each [units, entries], in place.

    With a = |g_r|/max|g_r|, u = sign(g_r)·a^(q−1) and S = Σa^q: y = (1−η)w_r − η·u/S^(1/p) and w_r = y/‖y‖_p.
    masks: uint8, ‖y‖_p is taken where they are 1; a row with none stays.
    """
    q = p / (p - 1)
    for (w, g, *mask), (x, out, spare) in blocks(scratch, 1, ws, gs, *([] if masks is None else [masks])):
        still, a, _ = _sizes(g, x, g_min)
        u = torch.copysign(_power_(out, spare, a, q - 1), g, out=out)
        total = a.mul_(u).abs_().sum(1, keepdim=True)
        y = torch.mul(w, 1 - eta, out=x).addcmul_(u, total.clamp_min_(_tiny(x)).pow_(-1 / p), value=-eta)
        still |= _scale_(y, out, *mask)
        counted = torch.mul(y, mask[0], out=spare) if mask else y
        _put_(w, y, _sum_of_powers(out, spare, counted, p).pow_(-1 / p), still, _any(still))


def _sizes(g: Tensor, out: Tensor, least: float) -> tuple[Tensor, Tensor, Tensor]:
    """(rows whose largest |g| is `least` or less, |g_r|/max|g_r| written to `out`, 1/max|g_r|)."""
    sizes = torch.abs(g, out=out)
    largest = sizes.amax(1, keepdim=True)
    still = largest <= least
    factor = largest.clamp_min_(_tiny(g)).reciprocal_()
    return still, sizes.mul_(factor), factor


def _scale_(x: Tensor, scratch: Tensor, *mask: Tensor) -> Tensor:
    """Divide x by its largest entry per row (where the mask is 1); True for rows where that is 0."""
    sizes = torch.abs(x, out=scratch)
    largest = (sizes.mul_(mask[0]) if mask else sizes).amax(1, keepdim=True)
    still = largest == 0
    x.mul_(largest.clamp_min_(_tiny(x)).reciprocal_())
    return still


def _sum_of_powers(out: Tensor, spare: Tensor, x: Tensor, k: float, positive: bool = False) -> Tensor:
    """Σ|x|^k of rows whose largest |x| is 1; as Σ(|x|^(k/2))² where that is no dearer, for torch has it in one pass.

    At least ½ for rows of zeros or of numbers so small that they could not be scaled. positive: x is |x| already.
    """
    if halves(k) is None or halves(k / 2) is not None:
        total: Tensor = torch.linalg.vector_norm(_power_(out, spare, x, k / 2, positive), 2, 1, True).square_()
    else:
        total = _power_(out, spare, x, k, positive).sum(1, keepdim=True)
    return total.clamp_min_(0.5)


def _power_(out: Tensor, spare: Tensor, x: Tensor, k: float, positive: bool = False) -> Tensor:
    """`geometry.power` of |x| written to `out`, which is returned; `spare` is overwritten. positive: x is |x| already."""
    count = halves(k)
    if count is None:
        return (torch.log2(x, out=out) if positive else torch.abs(x, out=out).log2_()).mul_(k).exp2_()
    if count == 0:
        return out.fill_(1)
    if count < 3:
        return torch.abs(x, out=out).sqrt_() if count == 1 else torch.abs(x, out=out)
    base = x if positive or count % 4 == 0 else torch.abs(x, out=spare)
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
