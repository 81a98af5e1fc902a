"""LpSGD: gradient descent that keeps the incoming weights of every unit on the unit Lp sphere; free tensors get SGD or Adam beside it."""

from collections.abc import Callable, Iterable, Mapping
from itertools import chain
from typing import overload

import torch
from torch import Tensor
from torch.optim.optimizer import Optimizer, ParamsT

from parsinet.errors import UsageError
from parsinet.sphere.blocks import Scratch
from parsinet.sphere.hidden import check_mask, set_mask_
from parsinet.sphere.options import check
from parsinet.sphere.state import enter_, has_sphere, project_, shows
from parsinet.sphere.steps import Group, State, by_adam, by_sgd, on_spheres


class LpSGD(Optimizer):
    """Keeps ‖w_r‖_p = 1 for every unit r of its constrained tensors; p sets how sparse the units become, smaller being sparser.

    d = g + weight_decay·w;  b ← d at first, then μ·b + (1 − dampening)·d;  G = d + μ·b (Nesterov), b, or d (μ = 0); per unit
      dual form (1 < p ≤ 2)      v ← (1−η)v − η·G/‖G‖_q, v ← v/‖v‖_q, w ← sp(v, 1/(p−1)),  q = p/(p−1), sp(x, k) = sign(x)|x|^k
      Frank–Wolfe form (p > 2)   w ← (1−η)w − η·sp(G/‖G‖_q, q−1), w ← w/‖w‖_p
      free tensors               w ← w − lr·G, or torch's AdamW for rule="adam"
    η = lr is a pure number: the length of a constrained step does not shrink with the gradient, so lr must fall towards 0 over the run
    (`parsinet.sphere.schedule`). Units whose gradient is nowhere above `g_min` stay bit for bit where they are.

    params: tensors or groups; every keyword below may differ per group, see `parsinet.sphere.param_groups`. Constrained tensors are put on
    their spheres here and now. lr: in [0, 1) for constrained groups. p: > 1, 1.02 … 2 recommended. unit_dim: dimension that counts units, 1
    for transposed convolutions. constrained: False for a free group; vectors and tensors with one entry per unit have no sphere and are
    free in any group. form: "auto", "dual" or "frank-wolfe". weight_decay: not along the normal of the sphere unless p = 2, so it is
    0 and warns otherwise. foreach: False for the slow twin, one tensor at a time.
    rule, betas, eps: free tensors by "sgd" or "adam"; Adam takes lr, betas, eps and a decoupled weight_decay, and no momentum option.
    regrow, norm_over: what becomes of weights a mask hides, see `set_masks`.
    State (float32 or wider whatever the parameter): `dual` v, `momentum_buffer` b, `primal`, the unrounded weights of parameters narrower
    than float32 and the unmasked ones of masked parameters in the Frank–Wolfe form, `mask`, Adam's `step`, `exp_avg`, `exp_avg_sq`, and
    `p`, `fan_in`, `over_active` (norm_over) for which v holds: if one has changed (a schedule of p; inputs removed by a shrink), the next
    step first puts the remaining v back on its sphere.
    Raises UsageError or ArgumentTypeError for options out of range, complex parameters and sparse gradients.
    Source: W. Li et al. 2021, arXiv 2103.16013 (abstract) and its authors' code; numerics, zero rows and mixed precision are ours.
    """

    entrywise = frozenset({"dual", "primal", "mask"})
    """State with one entry per weight, which a removal cuts as it cuts the weight."""

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
        rule: str = "sgd",
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        regrow: str = "semi",
        norm_over: str = "all",
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
        defaults |= {"rule": rule, "betas": betas, "eps": eps, "regrow": regrow, "norm_over": norm_over}
        self._scratch = Scratch()
        self._before: dict[Tensor, Tensor] = {}
        """Until the first step, what was moved onto its spheres, as it was: masked weights are rightly off them, no mask is known yet."""
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
                    before = parameter.detach().clone()
                    project_(parameter, {}, options)
                    if not torch.equal(before, parameter):
                        self._before[parameter] = before
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
                    project_(parameter, self.state.get(parameter, {}), group)

    @torch.no_grad()
    def set_masks(self, masks: Mapping[Tensor, Tensor | None]) -> None:
        """Hide the weights where a parameter's mask is False, and show those where it is True; None shows all. Others stay as they are.

        A hidden weight is exactly 0, its gradient does not count, `.grad` itself stays dense. On spheres v of a hidden weight is kept, and
        the group's `regrow` says how: "semi", v only shares the rescaling of its unit, and the weight comes back as sp(v, 1/(p−1)) at once;
        "hard", v = 0 and the weight comes back as 0; "dense", v goes on with the dense gradient. `norm_over`: "all", ‖v_r‖_q = 1 with the
        hidden entries; "active", ‖w_r‖_p = 1 as the forward pass sees it. Free weights are hard: they come back as 0. Moments of hidden
        weights are 0, in "dense" on spheres cleared once. Masks are copied, and kept in the state.
        Raises UsageError or ArgumentTypeError for parameters not of this optimizer, other shapes, and masks that are not bool; then nothing
        has changed. Source: hidden weights that keep v are in the authors' code; the modes and `norm_over` are ours.
        """
        groups = {parameter: group for group in self.param_groups for parameter in group["params"]}
        for parameter, mask in masks.items():
            if parameter not in groups:
                raise UsageError("set_masks: a parameter is not one of this optimizer's; pass the optimizer's own tensors as keys.")
            check_mask(parameter, mask)
        for parameter, mask in masks.items():
            if mask is not None or "mask" in self.state[parameter]:
                set_mask_(parameter, self.state[parameter], groups[parameter], mask)

    def mask(self, parameter: Tensor) -> Tensor | None:
        """The parameter's mask, True where it is active; None if nothing is hidden. Not a copy: change it by `set_masks`."""
        found: Tensor | None = self.state[parameter].get("mask") if parameter in self.state else None
        return found

    @torch.no_grad()
    def adopt(self, parameters: Iterable[Tensor]) -> None:
        """Take constrained parameters as they are now, put them on their spheres and build v from them anew; moments and masks stay.

        For weights written by hand. Writing into a parameter without this has no effect: the next step writes what v says.
        """
        groups = {parameter: group for group in self.param_groups for parameter in group["params"]}
        for parameter in parameters:
            if parameter not in groups:
                raise UsageError("adopt: a parameter is not one of this optimizer's; pass the optimizer's own tensors.")
            for key in ("dual", "primal", "p"):
                self.state[parameter].pop(key, None)
            if has_sphere(parameter, groups[parameter]):
                enter_(parameter, self.state[parameter], groups[parameter])

    @overload
    def step(self, closure: None = None) -> None: ...

    @overload
    def step(self, closure: Callable[[], float]) -> float: ...

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:
        """One step on every parameter that has a gradient. closure: re-evaluates the model and returns the loss, which is returned."""
        loss = None
        self._before.clear()
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            check(group, quiet=True)
            ready = [parameter for parameter in group["params"] if parameter.grad is not None]
            if any(parameter.grad.is_sparse for parameter in ready):
                raise UsageError("LpSGD: sparse gradients are not supported; build the embedding with sparse=False.")
            constrained = [parameter for parameter in ready if has_sphere(parameter, group)]
            free = [parameter for parameter in ready if not has_sphere(parameter, group)]
            if constrained:
                on_spheres(constrained, [self.state[parameter] for parameter in constrained], group, self._scratch)
            if free:
                (by_adam if group["rule"] == "adam" else by_sgd)(free, [self.state[parameter] for parameter in free], group)
        return loss

    def __setstate__(self, state: State) -> None:
        """Groups stored by an earlier version get the options it did not know; torch adds "differentiable" to the defaults here."""
        super().__setstate__(state)
        self._scratch, self._before = Scratch(), {}
        for group in self.param_groups:
            for name, value in self.defaults.items():
                if name != "differentiable":
                    group.setdefault(name, value)

    @torch.no_grad()
    def load_state_dict(self, state_dict: State) -> None:
        """As `torch.optim.Optimizer.load_state_dict`, but the state is copied and keeps its precision: torch shares it, and rounds it
        to the parameter's dtype. Masked weights that were loaded before this optimizer was built are again what they were."""
        before = self._before
        super().load_state_dict(state_dict)
        saved = chain.from_iterable(group["params"] for group in state_dict["param_groups"])
        for number, parameter in zip(saved, chain.from_iterable(group["params"] for group in self.param_groups), strict=True):
            for key, value in state_dict["state"].get(number, {}).items():
                if isinstance(value, Tensor):
                    device = value.device if key == "step" else parameter.device
                    self.state[parameter][key] = value.detach().to(device, copy=True)
            if parameter in before and shows(self.state[parameter], before[parameter]):
                parameter.copy_(before[parameter])
