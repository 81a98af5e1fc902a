"""What backward passes tell of gates: each forward pass has its draw and its sinks, and several are read as the optimizer reads them."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from functools import partial

import torch
from torch import Tensor
from torch._C._functorch import TransformType, peek_interpreter_stack

from parsinet.errors import ParsinetWarning, RunError
from parsinet.gates import Estimator, QSink
from parsinet.methods.clearing import Clearing
from parsinet.methods.scaling import inverse
from parsinet.methods.weighing import WholeSink


def _transformed() -> bool:
    """Whether the network runs under a transform of torch.func that differentiates or maps."""
    transform = peek_interpreter_stack()
    return transform is not None and transform.key() != TransformType.Functionalize


@dataclass(frozen=True, eq=False)
class Draw:
    """The gates of one forward pass, per group, and what its backward pass tells of them; without sinks nothing is learned.

    examples: per group, the derivative of each example's own loss in ξ [B, n], as far as a backward pass has come.
    """

    xi: Mapping[str, Tensor]
    sinks: Mapping[str, QSink | WholeSink] = field(default_factory=dict)
    examples: dict[str, Tensor] = field(default_factory=dict)

    @property
    def heard(self) -> bool:
        """Whether a backward pass has gone through its gates."""
        return any(not sink.empty for sink in self.sinks.values())


class Hearing:
    """The forward passes since the last reading, and what an estimator makes of their backward passes; without one nothing is heard."""

    def __init__(self, estimator: Estimator | None) -> None:
        self._estimator = estimator
        self.scaler: torch.amp.GradScaler | None = None
        """What scales the loss: derivatives are divided by its scale as they come."""
        self.pending: list[Draw] = []
        self.differentiated = False
        """Whether the loss holds gradients of the network (an equation's residual, a gradient penalty): it depends on gates by ways that
        no derivative of one example tells of, and the whole batch's derivative is asked of autograd."""
        self._weighed: Collection[str] = ()
        self._unheard = False
        self.clearing = Clearing()
        """Drops passes that were another network's."""

    def listen(self, xi: Mapping[str, Tensor], weighed: Collection[str], device: torch.device) -> Draw:
        """The gates of a forward pass, whose backward pass is learned from if there is to be one.

        weighed: groups gated in the weights that read them, where only the derivative of the whole batch is known.
        """
        if self._estimator is None or not torch.is_grad_enabled():
            return Draw(xi)
        if _transformed():
            raise RunError(
                "Gates: torch.func.grad and vmap keep derivatives to themselves, and gates learn from them. Train with loss.backward(), "
                'or let gates learn from losses alone: estimator="disarm".'
            )
        self.clearing.sift(self.pending)
        self._weighed = weighed = tuple(xi) if self.differentiated else weighed
        gates = dict(xi)
        examples: dict[str, Tensor] = {}
        unscale = inverse(self.scaler, device)
        sinks: dict[str, QSink | WholeSink] = {
            group: QSink(partial(_estimate, self._estimator, row, examples, group, unscale), self._nested)
            for group, row in xi.items()
            if group not in weighed
        }
        for group in weighed:
            sinks[group] = sink = WholeSink(unscale)
            gates[group] = gates[group].clone().requires_grad_()
            gates[group].register_hook(sink.add)  # type: ignore[no-untyped-call]
        draw = Draw(gates, sinks, examples)
        self.pending.append(draw)
        return draw

    def estimates(self) -> dict[str, Tensor]:
        """ĝ per group from the backward passes of this process since the last call; groups no pass went through are missing.

        Several passes are read as the optimizer reads them: the sum of their losses is the mean loss of all their examples. With B of
        them in all the derivative of an example's own loss is B·q, and ĝ is the mean over examples, so that micro-batches tell what one
        batch tells.
        """
        found: list[tuple[Draw, dict[str, Tensor]]] = []
        if self._unheard:
            self.forget()
        for draw in self.pending:
            heard = {group: sink.take() for group, sink in draw.sinks.items() if not sink.empty}
            if heard:
                found.append((draw, heard))
        self.forget()
        if len(found) == 1:
            return found[0][1]
        count: Counter[str] = Counter()
        for draw, _ in found:
            count.update({group: len(q) for group, q in draw.examples.items()})
        total: dict[str, Tensor] = {}
        for draw, heard in found:
            for group in heard:
                if group in draw.examples and not len(draw.examples[group]):
                    continue
                estimate = self._share(draw, heard, group, count[group])
                total[group] = total[group] + estimate if group in total else estimate
        return total

    def check_again(self, draw: Draw) -> None:
        """Before a part of the network runs again in a backward pass, with `draw`: RunError if that may be another forward pass' own."""
        others = [other for other in self.pending if other is not draw]
        if len(others) == len(self.pending) or not all(other.heard for other in others):
            raise RunError(
                "Gates: with gradient checkpointing parts of the model run again in the backward pass, and which of several forward passes "
                "that is cannot be told: gates are drawn for each. Call backward() after every forward pass, before the next one."
            )

    def forget(self) -> None:
        """Drop what the backward passes since the last call told."""
        self.pending.clear()
        self.clearing.forget()
        self._unheard = False

    def _nested(self) -> None:
        """Gradients are part of the loss, as it seems: from the next forward pass on the whole batch's derivative is heard."""
        if not self.differentiated:
            warnings.warn(
                "Gates: backward passes are differentiated again (create_graph=True), so gates learn from the derivative of the whole "
                "batch, without a correction for curvature.",
                ParsinetWarning,
                stacklevel=2,
            )
        self.differentiated = self._unheard = True

    def _share(self, draw: Draw, heard: Mapping[str, Tensor], group: str, count: int) -> Tensor:
        """What one of several passes over `count` examples adds to ĝ; derivatives of whole batches add up as the passes' losses do."""
        if group in self._weighed:
            return heard[group]
        assert self._estimator is not None, "gates that hear nothing leave nothing to read"
        share = len(draw.examples[group]) / count
        return self._estimator(draw.examples[group] / share, draw.xi[group]) * share


def _estimate(estimator: Estimator, xi: Tensor, examples: dict[str, Tensor], group: str, unscale: Tensor | None, q: Tensor) -> Tensor:
    """From the derivatives of a mean loss over B examples: B·q is each example's own, which is kept in `examples`.

    unscale: one over the scale of the loss that was differentiated, None where it was not scaled. A batch without examples tells nothing.
    """
    examples[group] = q.mul_(len(q)) if unscale is None else q.mul_(len(q) * unscale)
    return estimator(q, xi) if len(q) else q.new_full(q.shape[1:], torch.nan)
