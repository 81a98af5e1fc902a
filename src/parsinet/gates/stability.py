"""When a unit is doomed: the box test and the full inner region of attraction of the closed state."""

import torch
from torch import Tensor

from parsinet.errors import UsageError


def box(theta: Tensor | float, s: Tensor | float, G: Tensor | float, lam: Tensor | float, rho: Tensor | float) -> Tensor:
    """The box test: inside it a unit can only close and its weights can only decay.

    θ < λ/G and s < ρ/G, forward-invariant under the mean-field dynamics; θ reaches 0 within θ/(ρ − Gs), then s decays as e^{−2λt}.

    theta: gate probability. s: ½(‖a‖² + ‖b‖²), incoming weights with bias and outgoing weights. G: bound on mean_n ‖δ_n‖·‖x_n‖ for the
    layer, nats per example. lam: weight decay λ. rho: price ρ, nats per example. All floats or tensors that broadcast. Returns bool.
    Raises UsageError for θ outside [0, 1], s or λ < 0, G or ρ ≤ 0.
    Source: derived in our specification (positively homogeneous activations); the method is Guenter & Sideris, arXiv 2205.04650.
    """
    t, size, bound, decay, cost = _numbers("box", theta, s, G, lam, rho)
    return (t * bound < decay) & (size * bound < cost)


def attracted(theta: Tensor | float, s: Tensor | float, G: Tensor | float, lam: Tensor | float, rho: Tensor | float) -> Tensor:
    """The full inner region: True where the comparison dynamics end at (s, θ) = 0, so that the unit is doomed while G stays a valid bound.

    s′ = 2s(Gθ − λ), θ′ = Gs − ρ projected on [0, 1]. With u = Gs/ρ, θ* = λ/G and r = √((ρ/G)(u − 1 − ln u)):
    θ < θ* + r for u < 1, θ < θ* − r for u ≥ 1. For λ > G weights decay at every θ ≤ 1 and all states are attracted.

    Arguments, units and errors as in `box`, which is a part of this region. Returns bool.
    Source: derived in our specification; the method is Guenter & Sideris, arXiv 2205.04650.
    """
    t, size, bound, decay, cost = _numbers("attracted", theta, s, G, lam, rho)
    u = bound * size / cost
    radius = torch.sqrt((cost / bound) * (u - 1 - torch.log(u)).clamp(min=0))
    edge = decay / bound + torch.where(u < 1, radius, -radius)
    return (t < edge) | (decay > bound)


def _numbers(who: str, *values: Tensor | float) -> tuple[Tensor, ...]:
    names = ("theta", "s", "G", "lam", "rho")
    given = tuple(torch.as_tensor(value, dtype=torch.float64) for value in values)
    for name, value, positive in zip(names, given, (False, False, True, False, True), strict=True):
        if not bool((value > 0 if positive else value >= 0).all()):
            raise UsageError(f"{who}: {name} must be {'>' if positive else '≥'} 0, got {value.min().item()}.")
    if not bool((given[0] <= 1).all()):
        raise UsageError(f"{who}: theta must lie in [0, 1], got {given[0].max().item()}.")
    return given
