"""Curvature from labels drawn from the model: per step one more forward pass, and two backward passes to the gates."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from parsinet.errors import UsageError
from parsinet.gates import LabelEstimator, draw_labels, is_cross_entropy
from parsinet.methods.comparing import one_number
from parsinet.methods.gating import GateBank
from parsinet.methods.undisturbed import undisturbed

Passes = list[dict[str, Tensor]]
"""Per forward pass and group, its gates, or a derivative in them: [B, n], or [n] where the group is gated in weights."""


class Relabelled:
    """Estimates of ∂C/∂θ by one evaluation of the loss per step, differentiated at the batch's labels and at labels drawn from its outputs.

    The closure is read for the model's outputs, which must be logits [B, K], or [B, T, K] at T positions, and its loss must be their mean
    cross-entropy, whatever the targets: p − N ∂loss/∂logits then holds distributions, and if not, it is refused. Groups that are gated in
    weights have no derivative per example and learn straight-through.
    """

    def __init__(self, estimator: LabelEstimator) -> None:
        self._estimator = estimator
        self._found: Tensor | None = None

    def compare(self, loss: Callable[[], Tensor], model: nn.Module, bank: GateBank) -> None:
        """Evaluate once, differentiate twice; no gradient reaches a weight. Of several ranks each its own rows; the estimate is their mean.

        Raises UsageError where the loss is no mean cross-entropy of the outputs, or cannot be differentiated.
        """
        with torch.enable_grad(), undisturbed(model, bank.around), bank.followed() as gates, _outputs(model) as outputs:
            value = one_number(loss())
            _check(value, outputs)
            examples = sum(len(logits) for logits in outputs)
            own = _derivatives(value * examples, gates, keep=True)
            drawn = _derivatives(_surprise(outputs, bank), gates)
        self._found = bank.ranks.mean([self._estimates(own, drawn, gates, bank, examples)])[0]

    def take(self) -> Tensor | None:
        """ĝ of all gates in one row, and forget it; None without an evaluation since the last take."""
        found, self._found = self._found, None
        return found

    def _estimates(self, own: Passes, drawn: Passes, gates: Passes, bank: GateBank, examples: int) -> Tensor:
        rows = []
        for group in bank.sizes:
            q, s, xi = ([each[group].detach() for each in passes] for passes in (own, drawn, gates))
            whole = xi[0].dim() == 1
            rows.append(torch.stack(q).sum(0) / examples if whole else self._estimator(torch.cat(q), torch.cat(s), torch.cat(xi)))
        return torch.cat(rows)


@contextmanager
def _outputs(model: nn.Module) -> Iterator[list[Tensor]]:
    """Within, what the model returns in each forward pass: a tensor, or the `logits` of what it returns."""
    found: list[Tensor] = []

    def keep(module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
        logits = output if isinstance(output, Tensor) else getattr(output, "logits", None)
        if not isinstance(logits, Tensor) or logits.dim() < 2 or not logits.is_floating_point():
            what = f"a tensor of shape {list(logits.shape)}" if isinstance(logits, Tensor) else f"a {type(output).__name__}"
            raise _refusal(f"the model returned {what}")
        found.append(logits)

    handle = model.register_forward_hook(keep)
    try:
        yield found
    finally:
        handle.remove()


def _check(value: Tensor, outputs: list[Tensor]) -> None:
    """UsageError unless the value is a mean cross-entropy of the outputs."""
    if not outputs:
        raise _refusal("the closure did not call the model")
    if not value.requires_grad:
        raise _refusal("the closure's loss cannot be differentiated: is it under no_grad, or detached")
    gradients = torch.autograd.grad(value, outputs, retain_graph=True, allow_unused=True, materialize_grads=True)
    shapes = {logits.shape[1:] for logits in outputs}
    logits, gradient = (torch.cat([each.flatten(0, -2) for each in parts]) for parts in (outputs, gradients))
    if len(shapes) > 1 or not is_cross_entropy(logits.detach(), gradient):
        raise _refusal("the closure's loss is no mean cross-entropy of the model's outputs")


def _surprise(outputs: list[Tensor], bank: GateBank) -> Tensor:
    """−log p of a drawn label, summed over all examples and positions, over √T: the square of its derivative in one example's gate is the
    curvature of that example's mean over T positions."""
    logits = torch.cat([each.flatten(0, -2) for each in outputs]).float()
    labels = draw_labels(logits.detach(), bank.random((len(logits),)))
    positions = len(logits) / sum(len(each) for each in outputs)
    total: Tensor = functional.cross_entropy(logits, labels, reduction="sum")
    return total / math.sqrt(positions)


def _derivatives(value: Tensor, gates: Passes, *, keep: bool = False) -> Passes:
    leaves = [row for each in gates for row in each.values()]
    found = iter(torch.autograd.grad(value, leaves, retain_graph=keep, allow_unused=True, materialize_grads=True))
    return [{group: next(found) for group in each} for each in gates]


def _refusal(why: str) -> UsageError:
    return UsageError(
        f'Gates: estimator="drawn-labels" draws labels from the model: its outputs must be logits, classes last, and the closure\'s loss '
        f'their mean cross-entropy (no teacher, no weights of classes); here {why}. Use estimator="curvature".'
    )
