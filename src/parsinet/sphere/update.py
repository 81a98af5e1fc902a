"""One step of LpSGD on one tensor, as plain functions of tensors: the momentum, the dual form and the Frank–Wolfe form."""

import torch
from torch import Tensor

from parsinet.sphere.geometry import conjugate, minimiser, to_primal, unit_norm, within, working


def averaged(d: Tensor, buffer: Tensor | None, momentum: float, dampening: float) -> Tensor:
    """The running average of raw gradients: d at first, then μ·buffer + (1 − dampening)·d.

    d: gradient; buffer: what this returned last time, or None. Returns float32 or wider. Source: as in `torch.optim.SGD`.
    """
    return working(d).clone() if buffer is None else momentum * buffer + (1 - dampening) * working(d)


def dual_step(
    w: Tensor, v: Tensor, g: Tensor, eta: float, p: float, unit_dim: int = 0, g_min: float = 0.0, counted: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """The weights and their dual coordinates after one step in dual coordinates; meant for 1 < p ≤ 2.

    v_r ← (1−η)v_r − η·g_r/‖g_r‖_q, v_r ← v_r/‖v_r‖_q, w_r ← sp(v_r, 1/(p−1)); a row with max|g_r| ≤ g_min stays as it is.

    w, v, g: same shape; v = sp(w, p−1) with ‖v_r‖_q = 1. eta in [0, 1), without unit. counted: bool, the entries whose norm is 1, None
    for all; w is 0 in the others, a row with none stays. Returns (w, v), float32 or wider.
    Source: W. Li et al., arXiv 2103.16013, authors' code (class `LpCGD`); scaled norms and the rule for zero rows are ours.
    """
    q = conjugate(p)
    still, direction = _direction(g, q, unit_dim, g_min)
    moved = (1 - eta) * v - eta * direction
    size = unit_norm(moved if counted is None else moved * counted, q, unit_dim)
    still, moved = still | (size == 0), moved / _nonzero(size)
    seen = moved if counted is None else moved * counted
    return torch.where(still, working(w), to_primal(seen, p)), torch.where(still, v, moved)


def frank_wolfe_step(
    w: Tensor, g: Tensor, eta: float, p: float, unit_dim: int = 0, g_min: float = 0.0, counted: Tensor | None = None
) -> Tensor:
    """The weights after one Frank–Wolfe step and the way back to the sphere; meant for p > 2, where the dual map has no slope at 0.

    w_r ← (1−η)w_r − η·sp(g_r/‖g_r‖_q, q−1), w_r ← w_r/‖w_r‖_p; a row with max|g_r| ≤ g_min stays as it is.

    w, g: same shape, ‖w_r‖_p = 1. eta in [0, 1), without unit. counted: as in `dual_step`. Returns float32 or wider.
    Source: W. Li et al., arXiv 2103.16013, authors' code (class `LpCGDw`); scaled norms and the rule for zero rows are ours.
    """
    still, direction = _direction(g, conjugate(p), unit_dim, g_min)
    moved = (1 - eta) * working(w) + eta * minimiser(direction, p, unit_dim)
    size = unit_norm(moved if counted is None else moved * counted, p, unit_dim)
    return torch.where(still | (size == 0), working(w), moved / _nonzero(size))


def _direction(g: Tensor, q: float, unit_dim: int, g_min: float) -> tuple[Tensor, Tensor]:
    """(rows that stay, g_r/‖g_r‖_q), divided by the largest entry first so that tiny and huge gradients keep all digits."""
    wide = working(g)
    largest = wide.abs().amax(within(g, unit_dim), keepdim=True)
    still = largest <= g_min
    scaled = wide / torch.where(still, 1, largest)
    return still, scaled / _nonzero(unit_norm(scaled, q, unit_dim))


def _nonzero(size: Tensor) -> Tensor:
    return torch.where(size == 0, 1, size)
