"""Hidden weights: entries that are 0 in the forward pass while the optimizer remembers them (semi-pruning)."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from parsinet.errors import ArgumentTypeError, UsageError
from parsinet.sphere.geometry import conjugate, to_primal, working
from parsinet.sphere.state import counted, enter_, has_sphere, off_sphere, projected, uses_dual

MOMENTS = ("momentum_buffer", "exp_avg", "exp_avg_sq", "max_exp_avg_sq")
"""State that is 0 where a weight is hidden."""


def check_mask(parameter: Tensor, mask: Tensor | None) -> None:
    """Raises ArgumentTypeError or UsageError for a mask that is not bool or not of the parameter's shape."""
    if mask is None:
        return
    if not isinstance(mask, Tensor) or mask.dtype != torch.bool:
        kind = str(mask.dtype) if isinstance(mask, Tensor) else type(mask).__name__
        raise ArgumentTypeError(f"set_masks: a mask must be a bool tensor (True: the weight is active) or None, got {kind}.")
    if mask.shape != parameter.shape:
        raise UsageError(f"set_masks: the mask must have the parameter's shape {list(parameter.shape)}, got {list(mask.shape)}.")


def set_mask_(parameter: Tensor, state: dict[str, Any], group: Mapping[str, Any], mask: Tensor | None) -> None:
    """Hide the entries where `mask` is False and show the others; None shows all.

    Hidden: the weight is 0, and so are its moments ("dense": cleared when it is hidden, then they go on). On spheres v stays ("hard":
    v = 0) and a weight shown again is sp(v, 1/(p−1)) at once; free weights come back as 0. Units that are then off their sphere in the norm
    that counts are put back on it; the weights that stay active in other units keep every bit. The mask it has already changes nothing, so
    that telling it once more after a removal leaves the function as it is.
    """
    if mask is not None and "mask" in state and torch.equal(state["mask"], mask.to(parameter.device)):
        return
    constrained = has_sphere(parameter, group)
    if constrained:
        enter_(parameter, state, group)
    before = state.get("mask", torch.ones((), dtype=torch.bool, device=parameter.device))
    active = torch.ones_like(parameter, dtype=torch.bool)
    if mask is not None:
        active.copy_(mask)
    cleared = before & ~active if constrained and group["regrow"] == "dense" else ~active
    for key in MOMENTS:
        if key in state:
            state[key].masked_fill_(cleared, 0)
    state["mask"] = active
    if constrained:
        _settle(parameter, state, group, active & ~before, before & ~active)
    else:
        for weights in {id(w): w for w in (parameter, state.get("primal", parameter))}.values():
            weights.masked_fill_(~active, 0)
    if mask is None:
        _uncover(parameter, state, group)


def _settle(parameter: Tensor, state: dict[str, Any], group: Mapping[str, Any], shown: Tensor, hidden: Tensor) -> None:
    """Bring v (the unmasked w in the Frank–Wolfe form) and the weight in line with the mask of a constrained parameter."""
    p, unit_dim, dual = group["p"], group["unit_dim"], uses_dual(group)
    if not dual and "primal" not in state:
        state["primal"] = working(parameter).clone()
    key, exponent = ("dual", conjugate(p)) if dual else ("primal", p)
    if group["regrow"] == "hard":
        state[key].masked_fill_(hidden, 0)
    changed = shown | off_sphere(state[key], exponent, unit_dim, counted(state, group))
    state[key] = projected(state[key], exponent, unit_dim, counted(state, group), state["mask"])
    weights = to_primal(state[key], p) if dual else state[key]
    wide = state.get("primal", parameter) if dual else parameter
    wide.copy_(torch.where(state["mask"], torch.where(changed, weights, working(wide)), 0))
    if wide is not parameter:
        parameter.copy_(wide)
    state["over_active"] = group["norm_over"] == "active"


def _uncover(parameter: Tensor, state: dict[str, Any], group: Mapping[str, Any]) -> None:
    """Forget a mask that hides nothing."""
    del state["mask"]
    state.pop("over_active", None)
    if working(parameter) is parameter:
        state.pop("primal", None)


def effective(gradients: list[Tensor], states: Sequence[Mapping[str, Any]], group: Mapping[str, Any], constrained: bool) -> list[Tensor]:
    """The gradients as momentum sees them: 0 where a weight is hidden, unless the group's v follow the dense gradient there."""
    if constrained and group["regrow"] == "dense":
        return gradients
    return [g * bytes_of(state) if "mask" in state else g for g, state in zip(gradients, states, strict=True)]


def hide_(parameter: Tensor, state: Mapping[str, Any]) -> None:
    """Set the hidden entries of a weight to 0."""
    if "mask" in state:
        parameter.mul_(bytes_of(state))


def bytes_of(state: Mapping[str, Any]) -> Tensor:
    """The mask as 0 and 1 in a byte each, without a copy: a processor multiplies by that five times as fast as by bool."""
    mask: Tensor = state["mask"]
    return mask.view(torch.uint8)
