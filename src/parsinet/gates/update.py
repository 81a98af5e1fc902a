"""What happens to the gate probabilities after a step: the projected step, the guard, and who is dead."""

from torch import Tensor

from parsinet.errors import UsageError

EMA_DECAY = 0.998
"""Of the moving average of usefulness, per step."""
PRICE_FLOOR = 1e-12
"""Nats per example: a price below counts as this where something is divided by it."""


def theta_step_(
    theta: Tensor,
    gradient: Tensor,
    price: Tensor | float,
    fall_steps: float,
    clamp: float | None = 10.0,
    *,
    price_floor: float = PRICE_FLOOR,
    absorbing: bool = False,
) -> Tensor:
    """One projected gradient step on the gate probabilities, in place.

    θ ← clip01( θ − η·clamp(ĝ + ρ, ±clamp·ρ) ) with η = 1/(ρ·T_fall): under the price alone θ falls from 1 to 0 in T_fall steps,
    whatever ρ is. In η and in the bound of the clamp, ρ is replaced by max(ρ, price_floor).

    theta: [n], changed. gradient: ĝ [n], nats per example, negative where the unit is useful. price: ρ in nats per example, a float or
    [n]. fall_steps: T_fall > 0, in steps; larger is a smaller step. clamp: bound on the step in units of ρ, None for none (the clamp
    limits mini-batch noise but biases the step: never combine it with sampled flips scaled up). price_floor: > 0, nats per example.
    absorbing: gates that stand at 0 or 1 stay there.
    Returns theta. Raises UsageError for numbers out of range or shapes that do not fit.
    Source: derived in our specification; the method is Guenter & Sideris, arXiv 2205.04650.
    """
    if fall_steps <= 0 or price_floor <= 0 or (clamp is not None and clamp <= 0):
        raise UsageError(
            "theta_step_: fall_steps, clamp and price_floor must be > 0, "
            f"got fall_steps={fall_steps}, clamp={clamp}, price_floor={price_floor}."
        )
    _same_shape("theta_step_: gradient", gradient, theta)
    move = gradient + price
    if isinstance(price, Tensor):
        move.div_(price.clamp(min=price_floor))
        bound, rate = clamp, 1 / fall_steps
    else:
        floored = max(price, price_floor)
        bound, rate = clamp and clamp * floored, 1 / (floored * fall_steps)
    if bound is not None:
        move.clamp_(-bound, bound)
    if absorbing:
        move.masked_fill_((theta <= 0) | (theta >= 1), 0)
    return theta.sub_(move, alpha=rate).clamp_(0, 1)


def pin_best_(theta: Tensor, usefulness: Tensor) -> bool:
    """The guard of a group that must not empty: if every θ is below ½, open the most useful unit fully, in place.

    theta: [n], changed. usefulness: [n], Δ̂ = −ĝ, higher is more useful (its moving average, not one step's). Returns True if it had to
    act. Raises UsageError for shapes that do not fit or an empty group. Source: our specification.
    """
    _same_shape("pin_best_: usefulness", usefulness, theta)
    if bool(theta.max() >= 0.5):
        return False
    theta[usefulness.argmax()] = 1
    return True


def open_units(theta: Tensor, usefulness: Tensor, *, may_empty: bool = False) -> Tensor:
    """The gates rounded: open at θ ≥ ½; where none is, the most useful unit.

    theta: [n]. usefulness: [n], Δ̂ = −ĝ, higher is more useful. may_empty: the group may close whole, as a residual branch does.
    Returns a bool mask [n], without may_empty with at least one True.
    Raises UsageError for shapes that do not fit or an empty group. Source: our specification.
    """
    _same_shape("open_units: usefulness", usefulness, theta)
    mask = theta >= 0.5
    if not may_empty:
        mask[usefulness.argmax()] |= ~mask.any()
    return mask


def dead_units(theta: Tensor, usefulness_ema: Tensor, price: Tensor | float, threshold: float = 0.02, *, may_empty: bool = False) -> Tensor:
    """The units that may leave: closed, and not about to open again.

    dead = θ ≤ threshold and (Δ̂ < ρ or θ = 0), where Δ̂ is minus the moving average of ĝ. If all are dead the most useful one stays, unless
    the group may_empty.

    theta: [n]. usefulness_ema: [n], moving average of Δ̂ = −ĝ in nats per example, higher is more useful. price: ρ in nats per example,
    float or [n]. threshold: in [0, 1). Returns a bool mask [n], True where dead.
    Raises UsageError for a threshold out of range, shapes that do not fit or an empty group. Source: our specification.
    """
    _same_shape("dead_units: usefulness_ema", usefulness_ema, theta)
    if not 0 <= threshold < 1:
        raise UsageError(f"dead_units: threshold must be in [0, 1), got {threshold}.")
    dead = (theta <= threshold) & ((usefulness_ema < price) | (theta == 0))
    if not may_empty and bool(dead.all()):
        dead[usefulness_ema.argmax()] = False
    return dead


def ema_weight(steps: int, decay: float = EMA_DECAY) -> float:
    """1 − decay^steps, the sum of the weights of a moving average that began at 0, after so many steps, at least 1: divided by it, it is an
    average of what it was given."""
    return 1 - decay ** max(1, steps)


def ema_(average: Tensor, value: Tensor, decay: float = EMA_DECAY) -> Tensor:
    """Exponential moving average in place: average ← decay·average + (1−decay)·value.

    average, value: same shape; decay in [0, 1). Starts where the caller starts it, without correction (`ema_weight`). Returns average.
    Raises UsageError for a decay out of range or shapes that do not fit.
    """
    if not 0 <= decay < 1:
        raise UsageError(f"ema_: decay must be in [0, 1), got {decay}.")
    _same_shape("ema_: value", value, average)
    return average.lerp_(value.to(average.dtype), 1 - decay)


def _same_shape(what: str, value: Tensor, theta: Tensor) -> None:
    if value.shape != theta.shape or theta.numel() == 0:
        raise UsageError(f"{what} must have one entry per unit, {list(theta.shape)} and not empty, got {list(value.shape)}.")
