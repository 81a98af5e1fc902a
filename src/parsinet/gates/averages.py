"""Averages of a gate's estimates with their standard errors: how sure it is of what it is worth."""

import math

import torch
from torch import Tensor

from parsinet.errors import UsageError
from parsinet.gates.update import PRICE_FLOOR

ROWS = 4
"""Sums over steps, newer ones counting more: of weights, of squared weights, of ĝ and of ĝ², weighted."""
DECAY = 0.98
"""Of the weights per step: the estimates of some 50 steps are averaged."""
BEGUN = 0.5
"""Sum of the weights, which tends to 1, below which too few estimates have come to say how much they differ; `FIRST` steps."""
FIRST = math.ceil(math.log(1 - BEGUN) / math.log(DECAY))
"""35."""


def average_(rows: Tensor, estimate: Tensor, decay: float = DECAY) -> Tensor:
    """Take a step's estimates in, in place.

    rows: [4, n], zeros before the first step. estimate: ĝ [n]. decay in [0, 1). Returns rows.
    Raises UsageError for a decay out of range or shapes that do not fit.
    """
    if not 0 <= decay < 1:
        raise UsageError(f"average_: decay must be in [0, 1), got {decay}.")
    if rows.shape != (ROWS, len(estimate)):
        raise UsageError(f"average_: rows must be [{ROWS}, {len(estimate)}] to fit the estimates, got {list(rows.shape)}.")
    weight = 1 - decay
    rows.mul_(decay)
    rows[1].mul_(decay)
    rows[0].add_(weight)
    rows[1].add_(weight**2)
    rows[2].add_(estimate, alpha=weight)
    rows[3].add_(estimate.square(), alpha=weight)
    return rows


def doubted(rows: Tensor, price: Tensor | float, errors: float) -> Tensor:
    """The estimate to follow where averages are doubted: ĝ' with ĝ' + ρ = ρ·(ḡ + ρ)/max(ρ, z·SE).

    ḡ is the average, SE its standard error, √(variance·Σw²)/Σw as for independent steps. Where z·SE is below the price, the noise is no
    matter and ĝ' = ḡ; else a gate that is z standard errors from being worth its price feels a force of one price, one that is less sure
    a smaller one. Before `BEGUN` none: ĝ' = −ρ.

    rows: [4, n] of `average_`. price: ρ in nats per example, a float or [n]. errors: z > 0. Returns [n], nats per example.
    Raises UsageError for z ≤ 0. Source: ours.
    """
    if errors <= 0:
        raise UsageError(f"doubted: errors must be > 0, got {errors}.")
    weights, squares, sums, powers = rows
    whole = weights.clamp(min=torch.finfo(rows.dtype).tiny)
    mean = sums / whole
    error = (powers / whole - mean.square()).clamp(min=0).mul(squares).sqrt() / whole
    floor = price.clamp(min=PRICE_FLOOR) if isinstance(price, Tensor) else max(price, PRICE_FLOOR)
    force = (mean + price) / torch.clamp(errors * error / floor, min=1)
    return torch.where(weights < BEGUN, 0.0, force) - price
