"""Entering the sphere: the optimizer state of one constrained tensor, made, kept in step with p and fan-in, and put back on the sphere."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from parsinet.sphere.geometry import conjugate, retract, sp, to_dual, to_primal, unit_norm, within, working

ROUNDINGS = 100
"""A unit counts as on its sphere if its norm is this many roundings from 1 or nearer: loading weights and building LpSGD changes no bit.
Of narrower weights it is one: rounding the entries moves the norm by half of that at most."""


def uses_dual(group: Mapping[str, Any]) -> bool:
    """Whether a group steps in dual coordinates: its `form`, or for "auto" p ≤ 2."""
    return bool(group["form"] == "dual" or (group["form"] == "auto" and group["p"] <= 2))


def fan_in(parameter: Tensor, unit_dim: int) -> int:
    """Entries per unit."""
    within(parameter, unit_dim)
    return parameter.numel() // max(parameter.shape[unit_dim], 1)


def has_sphere(parameter: Tensor, group: Mapping[str, Any]) -> bool:
    """Whether a parameter of this group is constrained: with one entry per unit the sphere is {±1}, and there is nothing to train."""
    return bool(group["constrained"]) and parameter.dim() >= 2 and fan_in(parameter, group["unit_dim"]) >= 2


def counted(state: Mapping[str, Any], group: Mapping[str, Any]) -> Tensor | None:
    """The entries over which a unit's norm is 1: the active ones of a masked parameter if the group says so, None for all."""
    return state.get("mask") if group["norm_over"] == "active" else None


def off_sphere(w: Tensor, p: float, unit_dim: int, over: Tensor | None = None) -> Tensor:
    """Units whose norm, of the entries where `over` is True, is not 1 up to rounding; shape as `unit_norm`."""
    size = unit_norm(w if over is None else w * over, p, unit_dim)
    roundings = ROUNDINGS if working(w) is w else 1
    return (size - 1).abs() > roundings * torch.finfo(w.dtype).eps


def projected(w: Tensor, p: float, unit_dim: int, over: Tensor | None = None, mask: Tensor | None = None) -> Tensor:
    """w with the units that are off their sphere put back on it; the others keep every bit.

    over: the entries whose norm counts. A zero unit becomes n^(−1/p) in every entry, but stays 0 in a parameter with a `mask`.
    """
    size = unit_norm(w if over is None else w * over, p, unit_dim)
    whole = retract(w, p, unit_dim) if mask is None else torch.where(size == 0, w, w / torch.where(size == 0, 1, size))
    return torch.where(off_sphere(w, p, unit_dim, over), whole, working(w))


@torch.no_grad()
def project_(parameter: Tensor, state: Mapping[str, Any], group: Mapping[str, Any]) -> None:
    """`projected` in place, for a parameter without a mask: with one, `enter_` has done all there is to do."""
    if "mask" not in state:
        parameter.copy_(projected(parameter, group["p"], group["unit_dim"]))


def enter_(parameter: Tensor, state: dict[str, Any], group: Mapping[str, Any]) -> None:
    """Make the state of a constrained parameter hold for the group's p, form and norm and its present fan-in, if it does not yet.

    New: w ← w/‖w‖_p and v = sp(w, p−1). p changed from p₀: v ← sp(v, (p−1)/(p₀−1)), which is the dual of w/‖w‖_p, but keeps entries whose
    w is too small for a float. Inputs removed: the entries left of v. Both times v ← v/‖v‖_q and w = sp(v, 1/(p−1)). Momentum stays.
    With a mask: w = 0 where it is False, and in the Frank–Wolfe form `primal` holds the weights as they would be without it.
    """
    p, unit_dim, dual, mask = group["p"], group["unit_dim"], uses_dual(group), state.get("mask")
    size = fan_in(parameter, unit_dim)
    measured = state.get("over_active") == (None if mask is None else group["norm_over"] == "active")
    if measured and state.get("p") == p and state.get("fan_in") == size and dual == ("dual" in state):
        return
    over = counted(state, group)
    if dual and "dual" in state:
        moved = sp(state["dual"], (p - 1) / (state["p"] - 1))
        state["dual"] = retract(moved, conjugate(p), unit_dim) if mask is None else projected(moved, conjugate(p), unit_dim, over, mask)
        weights = to_primal(state["dual"], p)
    else:
        source = to_primal(state.pop("dual"), state["p"]) if "dual" in state else state.get("primal", parameter)
        weights = projected(working(source), p, unit_dim, over, mask)
        if dual:
            state["dual"] = to_dual(weights, p)
    _write(parameter, state, weights, dual)
    state["p"], state["fan_in"] = p, size
    if mask is not None:
        state["over_active"] = group["norm_over"] == "active"


def shows(state: Mapping[str, Any], weights: Tensor) -> bool:
    """Whether masked weights are, up to rounding, what a state with a mask makes visible; those from before a removal are not."""
    if "mask" not in state or not ("dual" in state or "primal" in state) or state["mask"].shape != weights.shape:
        return False
    whole = to_primal(state["dual"], state["p"]) if "dual" in state else state["primal"]
    roundings = ROUNDINGS if working(weights) is weights else 1
    gap = (torch.where(state["mask"], whole, 0) - weights).abs().max()
    return bool(gap <= roundings * torch.finfo(weights.dtype).eps)


def _write(parameter: Tensor, state: dict[str, Any], weights: Tensor, dual: bool) -> None:
    """Store unrounded and unmasked weights where they are needed, and show what the mask leaves of them."""
    visible = torch.where(state["mask"], weights, 0) if "mask" in state else weights
    if weights.dtype != parameter.dtype:
        state["primal"] = visible if dual else weights
    elif "mask" in state and not dual:
        state["primal"] = weights
    else:
        state.pop("primal", None)
    parameter.copy_(visible)
