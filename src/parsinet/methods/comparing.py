"""Losses of one batch under gates of one's choice, without a trace in the model; and what an antithetic pair of them tells of θ."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from parsinet.errors import UsageError
from parsinet.gates import PairEstimator, antithetic
from parsinet.methods.gating import GateBank
from parsinet.methods.undisturbed import undisturbed

WITHOUT_GRAPH = "does not require grad"
"""In what torch says of `autograd.grad` under no_grad."""

EDGE = 0.05
"""Pairs are drawn with θ at least so far from 0 and 1: a gate that stands there would never be seen in its other state."""


def under_gates(loss: Callable[[], Tensor], model: nn.Module, bank: GateBank) -> Callable[[Tensor], Tensor]:
    """A function of ξ, all groups in one row: the batch's mean loss, a float64 scalar on the CPU.

    loss: evaluates the model on the batch. Running statistics and random numbers (dropout, a coin of Python's) are the same in each
    evaluation, and afterwards as they were. The function raises UsageError if `loss` returns anything but one number.
    """

    def evaluated(xi: Tensor) -> Tensor:
        with bank.holding(xi), undisturbed(model, bank.around):
            value = one_number(_value(loss, model, bank))
        return value.detach().float().cpu().double().reshape(())

    return evaluated


def _value(loss: Callable[[], Tensor], model: nn.Module, bank: GateBank) -> Tensor:
    """The loss, without a graph unless it holds gradients of the network; UsageError where it leaves gradients in the parameters."""
    if not bank.hearing.differentiated:
        try:
            with torch.no_grad():
                return loss()
        except RuntimeError as error:
            if WITHOUT_GRAPH not in str(error):
                raise
    parameters = list(model.parameters())
    gradients = [parameter.grad for parameter in parameters]
    try:
        for parameter in parameters:
            parameter.grad = None
        with torch.enable_grad():
            value = loss()
        if any(parameter.grad is not None for parameter in parameters):
            raise UsageError("Pruner: the closure given to step must not call backward(): it returns the loss, which is only looked at.")
    finally:
        for parameter, gradient in zip(parameters, gradients, strict=True):
            parameter.grad = gradient
    bank.hearing.differentiated = True
    return value


class Pairs:
    """Estimates of ∂C/∂θ by two evaluations of the loss per step, one pair of antithetic masks for the whole batch.

    θ is held inside [`EDGE`, 1 − `EDGE`] for the draw. C is affine in each θ_i alone: the estimate is that of ∂C/∂θ_i at the network whose
    *other* gates are so held, whatever θ_i itself is, and a gate at 0 or 1 can come back.
    """

    def __init__(self, estimator: PairEstimator) -> None:
        self._estimator = estimator
        self._found: Tensor | None = None

    def compare(self, loss: Callable[[], Tensor], model: nn.Module, bank: GateBank) -> None:
        """Draw a pair and evaluate it; of several ranks each its own on its own rows, and the estimate is their mean."""
        theta, uniform = bank.theta.clamp(EDGE, 1 - EDGE), bank.uniform()
        value = under_gates(loss, model, bank)
        first, second = (value(xi) for xi in antithetic(uniform, theta))
        difference = (first - second).to(theta)
        self._found = bank.ranks.mean([self._estimator(difference, uniform, theta)])[0]

    def take(self) -> Tensor | None:
        """ĝ of all gates in one row, and forget it; None without a comparison since the last take."""
        found, self._found = self._found, None
        return found


def one_number(value: Any) -> Tensor:
    """What a closure has returned. UsageError for anything but one number in a tensor."""
    if not isinstance(value, Tensor) or value.numel() != 1:
        raise UsageError("Pruner: the closure given to step must return the batch's mean loss, one number in a tensor.")
    return value
