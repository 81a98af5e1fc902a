"""One step of all gates: each θ along its estimate, the guard of groups that must not empty, who stays, what is told."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from parsinet import gates
from parsinet.methods.blocking import SLOWER
from parsinet.methods.gating import GateBank
from parsinet.methods.pricing import Pricing


def walk(
    bank: GateBank, estimates: Mapping[str, Tensor], pricing: Pricing, fall_steps: int, clamp: float | None, *, absorbing: bool
) -> None:
    """Move every θ that the estimates speak of, and its average of usefulness: all in one row if they speak of all.

    estimates: ĝ per group; a bank that doubts follows their averages. fall_steps, clamp, absorbing: as in `gates.theta_step_`; gates of
    blocks fall `SLOWER` times as slowly. An estimate that is no finite number, from a batch that a loop may well have skipped, moves no θ
    and enters no average of estimates: the unit counts as worth its price.
    """
    if not estimates:
        return
    if len(estimates) == len(bank.sizes) and not bank.blocks:
        estimate = torch.cat([estimates[name] for name in bank.sizes])
        rows = [("", bank.theta, bank.usefulness, estimate, pricing.row())]
    else:
        heard = [row for row in bank.rows() if row[0] in estimates]
        rows = [(name, theta, use, estimates[name], pricing.of(name)) for name, theta, use in heard]
    for name, theta, usefulness, gradient, price in rows:
        fall = fall_steps * (SLOWER if name in bank.blocks else 1)
        known = gradient.isfinite()
        gradient = torch.where(known, gradient, -price)
        gates.ema_(usefulness, -gradient)
        gates.theta_step_(theta, bank.follow(name, gradient, price, known), price, fall, clamp, absorbing=absorbing)


def guard(bank: GateBank) -> None:
    """Hold the most useful unit of every group open where all are closing; blocks may go as a whole."""
    for name, theta, usefulness in bank.rows():
        if name not in bank.blocks:
            gates.pin_best_(theta, usefulness)


def staying(bank: GateBank, pricing: Pricing, threshold: float) -> dict[str, Tensor]:
    """Per group a mask of the units that do not leave yet, see `gates.dead_units`."""
    return {
        name: ~gates.dead_units(theta, usefulness, pricing.of(name), threshold, may_empty=name in bank.blocks)
        for name, theta, usefulness in bank.rows()
    }


def told(bank: GateBank, pricing: Pricing, threshold: float, steps: int) -> dict[str, dict[str, Any]]:
    """For the record, per group, after so many steps: θ of every unit, its sum, the share of gates neither open nor closed, the mean price
    of a unit, mean usefulness over price."""
    whole = gates.ema_weight(steps)
    return {
        name: {
            "theta": [round(value, 4) for value in theta.tolist()],
            "sum": float(theta.sum()),
            "interior": float(((theta > threshold) & (theta < 1 - threshold)).float().mean()),
            "price": float(torch.as_tensor(pricing.of(name)).mean()),
            "usefulness": float((usefulness / pricing.of(name)).mean()) / whole,
        }
        for name, theta, usefulness in bank.rows()
    }
