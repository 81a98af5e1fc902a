"""Estimators of ∂C/∂θ, the derivative of the expected loss in each gate's probability, from one backward pass or by flipping."""

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType

import torch
from torch import Tensor

from parsinet.errors import UsageError

Estimator = Callable[[Tensor, Tensor], Tensor]
"""(q, xi) → ĝ: per-example derivatives [B, n] and the drawn gates [n] or [B, n] to one estimate per unit [n]."""


def straight_through(q: Tensor, xi: Tensor) -> Tensor:
    """The derivative at the drawn gate, taken for the difference between open and closed.

    ĝ_i = mean_n q_{n,i}. Free; for a loss of curvature c in ξ_i its mean is −Δ_i + c(θ_i − ½) instead of −Δ_i.

    q: [B, n] per-example derivative of the example's loss in ξ_i (B·Σ δz·h for a mean loss, in nats); xi: [n] or [B, n].
    Returns [n], nats per example. Raises UsageError for shapes that do not fit.
    Source: bias derived in our specification; the method is Guenter & Sideris, arXiv 2205.04650.
    """
    _check("straight_through", q, xi)
    return q.mean(0)


def curvature_corrected(q: Tensor, xi: Tensor) -> Tensor:
    """Straight-through with half the empirical-Fisher curvature as second-order term; the default.

    ĝ_i = mean_n [ q_{n,i} + (½ − ξ_{n,i})·q_{n,i}² ]. With one ξ per batch the factor ½ − ξ_i leaves the mean. If mean_n q² = κc for a
    loss of curvature c, the mean of ĝ_i is −Δ_i + (1−κ)c(θ_i − ½): less bias than straight-through for 0 < κ < 2.

    q: [B, n] per-example derivative of the example's loss in ξ_i (B·Σ δz·h for a mean loss, in nats); all positions and uses of the gate
    must be summed before. xi: [n] or [B, n], the drawn gates. Returns [n], nats per example. Raises UsageError for shapes that do not fit.
    Source: derived in our specification; the method is Guenter & Sideris, arXiv 2205.04650.
    """
    _check("curvature_corrected", q, xi)
    if xi.dim() == 1:
        squares: Tensor = torch.linalg.vecdot(q, q, dim=0)
        return torch.addcmul(q.mean(0), 0.5 - xi, squares, value=1 / len(q))
    total: Tensor = torch.linalg.vecdot((0.5 - xi).mul_(q).add_(1), q, dim=0)
    return total / len(q)


ESTIMATORS: Mapping[str, Estimator] = MappingProxyType({"straight-through": straight_through, "curvature": curvature_corrected})
"""Estimators by the name a recipe uses."""


@torch.no_grad()
def exact_flip(loss: Callable[[Tensor], Tensor], xi: Tensor, unit: int) -> Tensor:
    """The unbiased estimate for one unit by two evaluations of the loss: the oracle for tests and for late decisions.

    ĝ_i = C(ξ with ξ_i = 1) − C(ξ with ξ_i = 0), which is ±[C(ξ with i flipped) − C(ξ)], + if the flip turns i on.

    loss: closure ξ → scalar mean loss in nats per example, deterministic. xi: [n] or [B, n] (then the unit is set for all examples at
    once). unit: index in 0 … n−1. Returns a scalar. Raises UsageError for a unit that does not exist. Source: derived in our specification.
    """
    if not 0 <= unit < xi.shape[-1]:
        raise UsageError(f"exact_flip: unit must be in 0 … {xi.shape[-1] - 1}, got {unit}.")
    opened, closed = xi.clone(), xi.clone()
    opened[..., unit], closed[..., unit] = 1, 0
    return loss(opened) - loss(closed)


@torch.no_grad()
def exact_flips(loss: Callable[[Tensor], Tensor], xi: Tensor, units: Sequence[int] | None = None) -> Tensor:
    """`exact_flip` for several units with one evaluation each and one for ξ itself, where ξ is one 0/1 draw for the whole batch.

    ĝ_i = (1 − 2ξ_i)·[C(ξ with i flipped) − C(ξ)].

    loss: closure ξ → scalar mean loss in nats per example, deterministic. xi: [n], only 0 and 1. units: indices, None for all.
    Returns [len(units)]. Raises UsageError for a ξ of another form or a unit that does not exist. Source: derived in our specification.
    """
    if xi.dim() != 1 or not bool(((xi == 0) | (xi == 1)).all()):
        raise UsageError(f"exact_flips: xi must be one row of 0 and 1, got shape {tuple(xi.shape)}. Use exact_flip for a draw per example.")
    chosen = range(len(xi)) if units is None else units
    wrong = [unit for unit in chosen if not 0 <= unit < len(xi)]
    if wrong:
        raise UsageError(f"exact_flips: units must be in 0 … {len(xi) - 1}, got {wrong}.")
    here = loss(xi)
    result = here.new_empty(len(chosen))
    for place, unit in enumerate(chosen):
        flipped = xi.clone()
        flipped[unit] = 1 - xi[unit]
        result[place] = (1 - 2 * xi[unit]) * (loss(flipped) - here)
    return result


def _check(who: str, q: Tensor, xi: Tensor) -> None:
    if q.dim() != 2 or len(q) == 0:
        raise UsageError(f"{who}: q must be [batch, units] with at least one example, got shape {tuple(q.shape)}.")
    if xi.shape != q.shape[-xi.dim() :]:
        raise UsageError(f"{who}: xi must be {list(q.shape[1:])} or {list(q.shape)} to fit q, got {list(xi.shape)}.")
