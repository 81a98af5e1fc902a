"""The unit Lp sphere of every output unit: norms, the map to dual coordinates and back, tangents, and the way back onto the sphere.

w is a weight tensor, row r its slice at index r of `unit_dim`, n the entries of a row; all norms and inner products are per row. p > 1 and
q = p/(p−1), so that (p−1)(q−1) = 1. Numbers narrower than float32 are computed, and returned, in float32.
"""

import torch
from torch import Tensor

from parsinet.errors import ArgumentTypeError, UsageError

SMALLEST_P = 1.02
"""Below it the powers leave what float32 can carry; allowed with a warning."""


def conjugate(p: float) -> float:
    """The exponent q of the dual norm, 1/p + 1/q = 1. Raises UsageError for p ≤ 1 or not finite; see `check_p`."""
    return check_p("conjugate", p) / (p - 1)


def check_p(who: str, p: float) -> float:
    """p itself, if the sphere has a smooth duality map there.

    Raises ArgumentTypeError if p is no number, UsageError for p ≤ 1 or not finite.
    """
    if isinstance(p, bool) or not isinstance(p, int | float):
        raise ArgumentTypeError(f"{who}: p must be a number, got {type(p).__name__}.")
    if not 1 < p < float("inf"):
        raise UsageError(f"{who}: p must be > 1 and finite (the sphere has corners at p = 1), got {p}. Use {SMALLEST_P} ≤ p ≤ 2.")
    return float(p)


def within(x: Tensor, unit_dim: int) -> tuple[int, ...]:
    """The dimensions inside a unit: all but `unit_dim`.

    Raises UsageError if x has fewer than two dimensions or `unit_dim` is none of them.
    """
    place = unit_dim + x.dim() if unit_dim < 0 else unit_dim
    if x.dim() < 2 or not 0 <= place < x.dim():
        raise UsageError(
            f"sphere: unit_dim={unit_dim} needs a tensor with that dimension and at least one more, got shape {list(x.shape)}."
        )
    return tuple(d for d in range(x.dim()) if d != place)


def working(x: Tensor) -> Tensor:
    """x in float32 if it is narrower, else x itself."""
    return x if x.dtype in (torch.float32, torch.float64) else x.float()


def halves(k: float) -> int | None:
    """2k, if that is a small whole number (to 1e-9): then a^k is a few products and at most one root."""
    count = round(2 * k)
    return count if abs(2 * k - count) < 1e-9 and count <= 64 else None


def power(a: Tensor, k: float) -> Tensor:
    """a^k for a ≥ 0 and k ≥ 0, entry by entry, with 0^0 = 1.

    Whole and half k are products and a root, everything else 2^(k·log₂ a), on a processor faster than `torch.pow` by far. The error is
    |k·log₂ a| roundings, so it is small where a^k is not.
    """
    count = halves(k)
    if count is None:
        return torch.log2(a).mul_(k).exp2_()
    result = a.sqrt() if count % 2 else torch.ones_like(a)
    whole, square = count // 2, a
    while whole:
        if whole % 2:
            result = result * square
        whole, square = whole // 2, square * square
    return result


def sp(x: Tensor, k: float) -> Tensor:
    """Signed power sign(x)·|x|^k, entry by entry, k > 0. Not meant to be differentiated: the derivative is unbounded at 0 for k < 1."""
    return torch.copysign(power(x.abs(), k), x)


def unit_norm(x: Tensor, p: float, unit_dim: int = 0) -> Tensor:
    """‖x_r‖_p of every row, without under- or overflow of the powers.

    ‖x‖_p = m·(Σ(|x_i|/m)^p)^(1/p), m = max|x_i|; 0 for a zero row.

    x: two dimensions or more; p ≥ 1. Returns x's shape with 1 in all dimensions but `unit_dim`.
    Raises UsageError for a shape without that dimension or p < 1.
    """
    if not p >= 1:
        raise UsageError(f"unit_norm: p must be ≥ 1, got {p}.")
    dims, a = within(x, unit_dim), working(x).abs()
    m = a.amax(dims, keepdim=True)
    scaled = a / torch.where(m == 0, 1, m)
    return m * power(scaled, p).sum(dims, keepdim=True).pow_(1 / p)


def to_dual(w: Tensor, p: float) -> Tensor:
    """The duality map J: v = sp(w, p−1). On ‖w_r‖_p = 1: ‖v_r‖_q = 1, ⟨w_r, v_r⟩ = 1, and v_r is normal to the sphere at w_r.

    Raises UsageError for p ≤ 1. Source: W. Li et al., arXiv 2103.16013, authors' code; the normal is derived.
    """
    return sp(working(w), check_p("to_dual", p) - 1)


def to_primal(v: Tensor, p: float) -> Tensor:
    """The inverse of `to_dual`: w = sp(v, 1/(p−1)). Raises UsageError for p ≤ 1. Source: W. Li et al., arXiv 2103.16013, authors' code."""
    return sp(working(v), 1 / (check_p("to_primal", p) - 1))


def retract(w: Tensor, p: float, unit_dim: int = 0) -> Tensor:
    """Every row back on its unit sphere, radially: w_r/‖w_r‖_p. A zero row becomes n^(−1/p) in every entry (our choice).

    Raises UsageError for p ≤ 1 or a shape without units.
    """
    size = unit_norm(w, check_p("retract", p), unit_dim)
    entries = w.numel() // max(size.numel(), 1)
    return torch.where(size == 0, max(entries, 1) ** (-1 / p), working(w) / torch.where(size == 0, 1, size))


def tangent(g: Tensor, w: Tensor, p: float, unit_dim: int = 0) -> Tensor:
    """The part of g that is tangent to the sphere at w: g − v⟨g,v⟩/⟨v,v⟩ with v = sp(w, p−1), so that ⟨result, v⟩ = 0 (derived).

    g, w: same shape. Raises UsageError for p ≤ 1 or shapes that do not fit.
    """
    if g.shape != w.shape:
        raise UsageError(f"tangent: g must have w's shape {list(w.shape)}, got {list(g.shape)}.")
    dims, v = within(w, unit_dim), to_dual(retract(w, p, unit_dim), p)
    share = (working(g) * v).sum(dims, keepdim=True) / (v * v).sum(dims, keepdim=True)
    return working(g) - share * v


def minimiser(g: Tensor, p: float, unit_dim: int = 0) -> Tensor:
    """The point of every unit Lp ball where ⟨g_r, ·⟩ is least: −sp(ĝ, q−1), ĝ = g_r/‖g_r‖_q; there ⟨g_r, ·⟩ = −‖g_r‖_q. Zero rows give 0.

    Raises UsageError for p ≤ 1 or a shape without units. Source: derived (equality in Hölder's inequality).
    """
    q = conjugate(p)
    size = unit_norm(g, q, unit_dim)
    return -sp(working(g) / torch.where(size == 0, 1, size), q - 1)
