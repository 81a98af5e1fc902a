"""LpSGD: gradient descent that keeps the incoming weights of every unit on the unit Lp sphere; free tensors get SGD beside it."""

from collections.abc import Callable, Iterable
from itertools import chain
from typing import Any, overload

import torch
from torch import Tensor
from torch.optim.optimizer import Optimizer, ParamsT

from parsinet.errors import UsageError
from parsinet.sphere import foreach, update
from parsinet.sphere.geometry import working
from parsinet.sphere.options import check
from parsinet.sphere.state import enter_, has_sphere, project_, uses_dual

Group = dict[str, Any]
State = dict[str, Any]


class LpSGD(Optimizer):
    """Keeps ‖w_r‖_p = 1 for every unit r of its constrained tensors; p sets how sparse the units become, smaller being sparser.

    d = g + weight_decay·w;  b ← d at first, then μ·b + (1 − dampening)·d;  G = d + μ·b (Nesterov), b, or d (μ = 0); per unit
      dual form (1 < p ≤ 2)      v ← (1−η)v − η·G/‖G‖_q, v ← v/‖v‖_q, w ← sp(v, 1/(p−1)),  q = p/(p−1), sp(x, k) = sign(x)|x|^k
      Frank–Wolfe form (p > 2)   w ← (1−η)w − η·sp(G/‖G‖_q, q−1), w ← w/‖w‖_p
      free tensors               w ← w − lr·G
    η = lr is a pure number: the length of a constrained step does not shrink with the gradient, so lr must fall towards 0 over the run
    (`parsinet.sphere.schedule`). Units whose gradient is nowhere above `g_min` stay bit for bit where they are.

    params: tensors or groups; every keyword below may differ per group, see `parsinet.sphere.param_groups`. Constrained tensors are put on
    their spheres here and now. lr: in [0, 1) for constrained groups. p: > 1, 1.02 … 2 recommended. unit_dim: dimension that counts units, 1
    for transposed convolutions. constrained: False for a free group; vectors and tensors with one entry per unit have no sphere and are
    free in any group. form: "auto", "dual" or "frank-wolfe". weight_decay: not along the normal of the sphere unless p = 2, so it is
    0 and warns otherwise. foreach: False for the slow twin, one tensor at a time.
    State (float32 or wider whatever the parameter): `dual` v, `momentum_buffer` b, `primal`, the unrounded weights of parameters narrower
    than float32, and `p`, `fan_in` for which v holds: if either has changed (a schedule of p; inputs removed by `parsinet.shrink`), the
    next step first puts the remaining v back on its sphere.
    Raises UsageError or ArgumentTypeError for options out of range, complex parameters and sparse gradients.
    Source: W. Li et al. 2021, arXiv 2103.16013 (abstract) and its authors' code; numerics, zero rows and mixed precision are ours.
    """

    def __init__(
        self,
        params: ParamsT,
        lr: float = 1e-2,
        p: float = 1.2,
        momentum: float = 0.9,
        nesterov: bool = False,
        *,
        dampening: float = 0.0,
        weight_decay: float = 0.0,
        unit_dim: int = 0,
        constrained: bool = True,
        form: str = "auto",
        g_min: float = 1e-12,
        foreach: bool = True,
    ) -> None:
        defaults: Group = {
            "lr": lr,
            "p": p,
            "momentum": momentum,
            "nesterov": nesterov,
            "dampening": dampening,
            "weight_decay": weight_decay,
        }
        defaults |= {"unit_dim": unit_dim, "constrained": constrained, "form": form, "g_min": g_min, "foreach": foreach}
        super().__init__(params, defaults)

    def add_param_group(self, param_group: Group) -> None:
        """Add a group, as in `torch.optim.Optimizer`, and put its constrained tensors on their spheres. Raises as the constructor does."""
        options = {**self.defaults, **param_group}
        check(options)
        super().add_param_group(param_group)
        try:
            for parameter in self.param_groups[-1]["params"]:
                if parameter.is_complex():
                    raise UsageError(f"LpSGD: parameters must be real, got one of {parameter.dtype}.")
                if has_sphere(parameter, options):
                    project_(parameter, options)
        except Exception:
            del self.param_groups[-1]
            raise

    @torch.no_grad()
    def project_(self) -> None:
        """Put every constrained tensor, with its state, back on its spheres now, as the next step would: after a removal, for instance."""
        for group in self.param_groups:
            for parameter in group["params"]:
                if has_sphere(parameter, group):
                    if parameter in self.state:
                        enter_(parameter, self.state[parameter], group)
                    project_(parameter, group)

    @overload
    def step(self, closure: None = None) -> None: ...

    @overload
    def step(self, closure: Callable[[], float]) -> float: ...

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:
        """One step on every parameter that has a gradient. closure: re-evaluates the model and returns the loss, which is returned."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            check(group, quiet=True)
            ready = [parameter for parameter in group["params"] if parameter.grad is not None]
            if any(parameter.grad.is_sparse for parameter in ready):
                raise UsageError("LpSGD: sparse gradients are not supported; build the embedding with sparse=False.")
            for chosen, advance in ((True, _move), (False, _slide)):
                parameters = [parameter for parameter in ready if has_sphere(parameter, group) == chosen]
                if parameters:
                    advance(parameters, [self.state[parameter] for parameter in parameters], group)
        return loss

    def load_state_dict(self, state_dict: State) -> None:
        """As `torch.optim.Optimizer.load_state_dict`, but the state is copied and keeps its precision: torch shares it, and rounds it
        to the parameter's dtype."""
        super().load_state_dict(state_dict)
        saved = chain.from_iterable(group["params"] for group in state_dict["param_groups"])
        for number, parameter in zip(saved, chain.from_iterable(group["params"] for group in self.param_groups), strict=True):
            for key, value in state_dict["state"].get(number, {}).items():
                if isinstance(value, Tensor):
                    self.state[parameter][key] = value.detach().to(parameter.device, copy=True)


def _move(parameters: list[Tensor], states: list[State], group: Group) -> None:
    """One step of constrained tensors."""
    for parameter, state in zip(parameters, states, strict=True):
        enter_(parameter, state, group)
    wide = _wide(parameters, states)
    directions = _directions(wide, parameters, states, group)
    eta, p, place, g_min = float(group["lr"]), group["p"], group["unit_dim"], group["g_min"]
    if eta == 0:
        return
    duals = [state["dual"] for state in states] if uses_dual(group) else None
    columns: list[list[Tensor]] = [wide, directions] if duals is None else [wide, duals, directions]
    fast, slow = _sorted(columns, place, group["foreach"] and (duals is None or p <= 2))
    if duals is None:
        foreach.frank_wolfe_steps_(fast[0], fast[1], eta, p, g_min)
        for w, g in zip(*slow, strict=True):
            w.copy_(update.frank_wolfe_step(w, g, eta, p, place, g_min))
    else:
        foreach.dual_steps_(fast[0], fast[1], fast[2], eta, p, g_min)
        for w, v, g in zip(*slow, strict=True):
            for target, value in zip((w, v), update.dual_step(w, v, g, eta, p, place, g_min), strict=True):
                target.copy_(value)
    _narrow(parameters, wide)


def _slide(parameters: list[Tensor], states: list[State], group: Group) -> None:
    """One step of free tensors: SGD with momentum."""
    wide = _wide(parameters, states)
    directions = _directions(wide, parameters, states, group)
    if group["foreach"]:
        torch._foreach_add_(wide, directions, alpha=-float(group["lr"]))
    else:
        for w, g in zip(wide, directions, strict=True):
            w.sub_(g, alpha=float(group["lr"]))
    _narrow(parameters, wide)


def _sorted(columns: list[list[Tensor]], unit_dim: int, wanted: bool) -> tuple[list[list[Tensor]], list[list[Tensor]]]:
    """The columns' tensors as matrices of rows for the fast path, where all of a line share a layout; the rest as they are."""
    fast: list[list[Tensor]] = [[] for _ in columns]
    slow: list[list[Tensor]] = [[] for _ in columns]
    for line in zip(*columns, strict=True):
        alike = wanted and all(tensor.stride() == line[0].stride() and tensor.dtype == line[0].dtype for tensor in line)
        matrices = [foreach.as_rows(tensor, unit_dim) for tensor in line] if alike else [None]
        matching = [matrix for matrix in matrices if matrix is not None]
        chosen, entries = (fast, matching) if len(matching) == len(line) else (slow, list(line))
        for column, tensor in zip(chosen, entries, strict=True):
            column.append(tensor)
    return fast, slow


def _directions(wide: list[Tensor], parameters: list[Tensor], states: list[State], group: Group) -> list[Tensor]:
    """G of every tensor; brings the momentum buffers up to date."""
    mu, damp, decay = group["momentum"], group["dampening"], group["weight_decay"]
    gradients = [working(parameter.grad) for parameter in parameters if parameter.grad is not None]
    if decay:
        gradients = [g.add(w, alpha=decay) for g, w in zip(gradients, wide, strict=True)]
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


def _wide(parameters: list[Tensor], states: list[State]) -> list[Tensor]:
    """The weights a step changes: the parameter itself, or its unrounded twin in the state if it is narrower than float32."""
    for parameter, state in zip(parameters, states, strict=True):
        if working(parameter) is not parameter and "primal" not in state:
            state["primal"] = working(parameter).clone()
    return [state.get("primal", parameter) for parameter, state in zip(parameters, states, strict=True)]


def _narrow(parameters: Iterable[Tensor], wide: Iterable[Tensor]) -> None:
    for parameter, full in zip(parameters, wide, strict=True):
        if full is not parameter:
            parameter.copy_(full)
