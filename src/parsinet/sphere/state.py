"""Entering the sphere: the optimizer state of one constrained tensor, made, kept in step with p and fan-in, and put back on the sphere."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from parsinet.sphere.geometry import conjugate, retract, sp, to_dual, to_primal, unit_norm, within, working

ROUNDINGS = 100
"""A unit counts as on its sphere if its norm is this many roundings from 1 or nearer: loading weights and building LpSGD changes no bit."""


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


def projected(w: Tensor, p: float, unit_dim: int) -> Tensor:
    """w with the units that are off their sphere put back on it; the others keep every bit."""
    off = (unit_norm(w, p, unit_dim) - 1).abs() > ROUNDINGS * torch.finfo(w.dtype).eps
    return torch.where(off, retract(w, p, unit_dim), working(w))


@torch.no_grad()
def project_(parameter: Tensor, group: Mapping[str, Any]) -> None:
    """`projected` in place."""
    parameter.copy_(projected(parameter, group["p"], group["unit_dim"]))


def enter_(parameter: Tensor, state: dict[str, Any], group: Mapping[str, Any]) -> None:
    """Make the state of a constrained parameter hold for the group's p and form and the parameter's present fan-in, if it does not yet.

    New: w ← w/‖w‖_p and v = sp(w, p−1). p changed from p₀: v ← sp(v, (p−1)/(p₀−1)), which is the dual of w/‖w‖_p, but keeps entries whose
    w is too small for a float. Inputs removed: the entries left of v. Both times v ← v/‖v‖_q and w = sp(v, 1/(p−1)). Momentum stays.
    """
    p, unit_dim, dual = group["p"], group["unit_dim"], uses_dual(group)
    size = fan_in(parameter, unit_dim)
    if state.get("p") == p and state.get("fan_in") == size and dual == ("dual" in state):
        return
    if dual and "dual" in state:
        state["dual"] = retract(sp(state["dual"], (p - 1) / (state["p"] - 1)), conjugate(p), unit_dim)
        weights = to_primal(state["dual"], p)
    else:
        source = to_primal(state.pop("dual"), state["p"]) if "dual" in state else state.get("primal", parameter)
        weights = projected(working(source), p, unit_dim)
        if dual:
            state["dual"] = to_dual(weights, p)
    if weights.dtype != parameter.dtype:
        state["primal"] = weights
    parameter.copy_(weights)
    state["p"], state["fan_in"] = p, size
