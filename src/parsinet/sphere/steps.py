"""One step of LpSGD on the tensors of one group: constrained ones on their spheres, free ones by SGD or Adam, hidden entries kept at 0."""

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.optim.adamw import adamw

from parsinet.sphere import foreach, update
from parsinet.sphere.blocks import Scratch, as_rows
from parsinet.sphere.geometry import working
from parsinet.sphere.hidden import bytes_of, effective, hide_
from parsinet.sphere.state import counted, enter_, uses_dual

Group = dict[str, Any]
State = dict[str, Any]


def on_spheres(parameters: list[Tensor], states: list[State], group: Group, scratch: Scratch) -> None:
    """One step of constrained tensors; the masked ones in a round of their own, so that the others pay nothing for them."""
    for parameter, state in zip(parameters, states, strict=True):
        enter_(parameter, state, group)
    for masked in (False, True):
        chosen = [(p, s) for p, s in zip(parameters, states, strict=True) if ("mask" in s) == masked]
        if chosen:
            move = _in_dual_coordinates if uses_dual(group) else _by_frank_wolfe
            some, theirs = [p for p, _ in chosen], [s for _, s in chosen]
            wide = _wide(some, theirs)
            directions = _directions(wide, some, theirs, group, constrained=True)
            if float(group["lr"]) != 0:
                move(wide, theirs, directions, group, masked, scratch)
                if masked and group["norm_over"] == "active":
                    _bound(theirs)
                _narrow(some, wide, theirs)


def _bound(states: Iterable[State]) -> None:
    """Hidden entries, which the norm of the visible ones does not hold, no larger than any entry of a unit can be."""
    for state in states:
        state["dual" if "dual" in state else "primal"].clamp_(-1, 1)


def _in_dual_coordinates(
    wide: list[Tensor], states: list[State], directions: list[Tensor], group: Group, masked: bool, scratch: Scratch
) -> None:
    eta, p, place, g_min = float(group["lr"]), group["p"], group["unit_dim"], group["g_min"]
    masks = [[bytes_of(state) for state in states]] if masked else []
    columns = [wide, [state["dual"] for state in states], directions, *masks]
    fast, slow = _sorted(columns, place, group["foreach"] and p <= 2)
    active, hollow = group["norm_over"] == "active", group["regrow"] == "hard"
    foreach.dual_steps_(scratch, fast[0], fast[1], fast[2], eta, p, g_min, fast[3] if masked else None, active, hollow)
    for w, v, g, *mask in zip(*slow, strict=True):
        over = mask[0].view(torch.bool) if mask and active else None
        for target, value in zip((w, v), update.dual_step(w, v, g, eta, p, place, g_min, over), strict=True):
            target.copy_(value)
        if mask:
            w.mul_(mask[0])


def _by_frank_wolfe(
    wide: list[Tensor], states: list[State], directions: list[Tensor], group: Group, masked: bool, scratch: Scratch
) -> None:
    eta, p, place, g_min = float(group["lr"]), group["p"], group["unit_dim"], group["g_min"]
    over = [counted(state, group) for state in states]
    masks = [[mask.view(torch.uint8) for mask in over if mask is not None]] if over[0] is not None else []
    fast, slow = _sorted([wide, directions, *masks], place, group["foreach"])
    foreach.frank_wolfe_steps_(scratch, fast[0], fast[1], eta, p, g_min, fast[2] if masks else None)
    for w, g, *mask in zip(*slow, strict=True):
        w.copy_(update.frank_wolfe_step(w, g, eta, p, place, g_min, mask[0].view(torch.bool) if mask else None))


def by_sgd(parameters: list[Tensor], states: list[State], group: Group) -> None:
    """One step of free tensors: w ← w − lr·G."""
    wide = _wide(parameters, states)
    directions = _directions(wide, parameters, states, group, constrained=False)
    if group["foreach"]:
        torch._foreach_add_(wide, directions, alpha=-float(group["lr"]))
    else:
        for w, g in zip(wide, directions, strict=True):
            w.sub_(g, alpha=float(group["lr"]))
    _narrow(parameters, wide, states)


def by_adam(parameters: list[Tensor], states: list[State], group: Group) -> None:
    """One step of free tensors by torch's own AdamW: weight decay is lr·weight_decay·w beside the step, state as torch names it."""
    wide = _wide(parameters, states)
    for w, state in zip(wide, states, strict=True):
        if "exp_avg" not in state:
            state |= {"step": torch.tensor(0.0), "exp_avg": torch.zeros_like(w), "exp_avg_sq": torch.zeros_like(w)}
    adamw(
        wide,
        effective(_gradients(parameters), states, group, constrained=False),
        [state["exp_avg"] for state in states],
        [state["exp_avg_sq"] for state in states],
        [],
        [state["step"] for state in states],
        foreach=bool(group["foreach"]),
        amsgrad=False,
        beta1=group["betas"][0],
        beta2=group["betas"][1],
        lr=float(group["lr"]),
        weight_decay=group["weight_decay"],
        eps=group["eps"],
        maximize=False,
    )
    _narrow(parameters, wide, states)


def _gradients(parameters: Iterable[Tensor]) -> list[Tensor]:
    return [working(parameter.grad) for parameter in parameters if parameter.grad is not None]


def _directions(wide: list[Tensor], parameters: list[Tensor], states: list[State], group: Group, constrained: bool) -> list[Tensor]:
    """G of every tensor; brings the momentum buffers up to date. The gradients themselves stay as they are, dense."""
    mu, damp, decay = group["momentum"], group["dampening"], group["weight_decay"]
    gradients = _gradients(parameters)
    if decay:
        gradients = [g.add(w, alpha=decay) for g, w in zip(gradients, wide, strict=True)]
    gradients = effective(gradients, states, group, constrained)
    if mu == 0:
        return gradients
    old = [(state, g) for state, g in zip(states, gradients, strict=True) if "momentum_buffer" in state]
    if group["foreach"] and old:
        foreach.momentum_([state["momentum_buffer"] for state, _ in old], [g for _, g in old], mu, damp)
    elif old:
        for state, g in old:
            state["momentum_buffer"] = update.averaged(g, state["momentum_buffer"], mu, damp)
    for state, g in zip(states, gradients, strict=True):
        if "momentum_buffer" not in state:
            state["momentum_buffer"] = update.averaged(g, None, mu, damp)
    buffers = [state["momentum_buffer"] for state in states]
    return list(torch._foreach_add(gradients, buffers, alpha=mu)) if group["nesterov"] else buffers


def _sorted(columns: list[list[Tensor]], unit_dim: int, wanted: bool) -> tuple[list[list[Tensor]], list[list[Tensor]]]:
    """The columns' tensors as matrices of rows for the fast path, where all of a line share a layout; the rest as they are."""
    fast: list[list[Tensor]] = [[] for _ in columns]
    slow: list[list[Tensor]] = [[] for _ in columns]
    for line in zip(*columns, strict=True):
        kinds = {line[0].dtype, torch.uint8}
        alike = wanted and all(tensor.stride() == line[0].stride() and tensor.dtype in kinds for tensor in line)
        matrices = [as_rows(tensor, unit_dim) for tensor in line] if alike else [None]
        matching = [matrix for matrix in matrices if matrix is not None]
        chosen, entries = (fast, matching) if len(matching) == len(line) else (slow, list(line))
        for column, tensor in zip(chosen, entries, strict=True):
            column.append(tensor)
    return fast, slow


def _wide(parameters: list[Tensor], states: list[State]) -> list[Tensor]:
    """The weights a step changes: the parameter itself, or its unrounded or unmasked twin in the state."""
    for parameter, state in zip(parameters, states, strict=True):
        if working(parameter) is not parameter and "primal" not in state:
            state["primal"] = working(parameter).clone()
    return [state.get("primal", parameter) for parameter, state in zip(parameters, states, strict=True)]


def _narrow(parameters: Sequence[Tensor], wide: Sequence[Tensor], states: Sequence[State]) -> None:
    """The parameters as their twins, where they have one, with hidden entries 0."""
    for parameter, full, state in zip(parameters, wide, states, strict=True):
        if full is not parameter:
            parameter.copy_(full)
            hide_(parameter, state)
