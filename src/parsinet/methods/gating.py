"""Gates in a network: where they sit, what they draw, what the backward pass tells them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from parsinet.distributed import ALONE, Ranks, own, pooled
from parsinet.errors import StructureError
from parsinet.gates import Estimator, Owner, QSink, gate, open_units
from parsinet.methods.blocking import place_blocks
from parsinet.methods.drawing import BATCH, check_examples, examples_in
from parsinet.methods.placing import Handle, place
from parsinet.methods.scaling import inverse
from parsinet.methods.weighing import WholeSink, weigh
from parsinet.structure import Structure


@dataclass(frozen=True, eq=False)
class Draw:
    """The gates of one forward pass, per group, and what its backward pass tells of them; without sinks nothing is learned.

    examples: per group, the derivative of each example's own loss in ξ [B, n], as far as a backward pass has come.
    """

    xi: Mapping[str, Tensor]
    sinks: Mapping[str, QSink | WholeSink] = field(default_factory=dict)
    examples: dict[str, Tensor] = field(default_factory=dict)


class GateBank:
    """One gate per unit of every group, in front of every module that reads the units.

    What a reader sees is ξ·h: exactly what removal leaves of a unit at ξ = 0, whatever stands between producer and reader.
    In training mode ξ is drawn anew for every forward pass of the model, one row for the whole batch or, with draws="example", one per
    example; in evaluation mode it is 1[θ ≥ ½] (`open_units`). Without an estimator the gates hear nothing of backward passes.
    theta, usefulness (moving average of Δ̂ = −ĝ, nats per example): one entry per unit, all groups in one row. blocks: those of the groups
    that are residual branches: one gate each, behind the module that makes what is added, and it may close. ranks: processes that train
    together; each draws ξ for itself, and estimates are means over all of them.
    """

    def __init__(
        self,
        sizes: Mapping[str, int],
        theta: Tensor,
        device: torch.device,
        estimator: Estimator | None,
        random: torch.Generator,
        blocks: Collection[str] = (),
        ranks: Ranks = ALONE,
        draws: str = BATCH,
    ) -> None:
        self.sizes = dict(sizes)
        self.ranks = ranks
        self.blocks = frozenset(blocks)
        self._estimator, self._draws = estimator, draws
        self.theta = theta.to(device)
        self.usefulness = torch.zeros_like(self.theta)
        self._random = random
        self._draw = Draw(self.split(torch.ones_like(self.theta)))
        self._pending: list[Draw] = []
        self._handles: list[Handle] = []
        self._held: Tensor | None = None
        self.scaler: torch.amp.GradScaler | None = None
        """What scales the loss: derivatives are divided by its scale as they come."""
        self._weighed: frozenset[str] = frozenset()
        """Groups gated in the weights that read them, where only the derivative of the whole batch is known."""

    def split(self, row: Tensor) -> dict[str, Tensor]:
        """A row over all units, or rows [B, n], as one view per group."""
        return dict(zip(self.sizes, torch.split(row, list(self.sizes.values()), dim=-1), strict=True))

    def rows(self) -> list[tuple[str, Tensor, Tensor]]:
        """Per group its name and views of θ and usefulness."""
        theta, usefulness = self.split(self.theta), self.split(self.usefulness)
        return [(name, theta[name], usefulness[name]) for name in self.sizes]

    def place(self, model: nn.Module, structure: Structure) -> None:
        """Put the gates in front of the readers; called again after a removal, they move to the new indices."""
        self.leave()
        self._handles.append(model.register_forward_pre_hook(self._open_and_close, with_kwargs=True))
        self._weighed = frozenset(group for group in self.sizes if group not in self.blocks and not structure.gateable(group))
        in_front = {group: size for group, size in self.sizes.items() if group not in self._weighed | self.blocks}
        within = {group: size for group, size in self.sizes.items() if group in self._weighed}
        self._handles.extend(place(self, model, structure, in_front, self.theta.device))
        self._handles.extend(place_blocks(self, model, structure, [group for group in self.sizes if group in self.blocks]))
        self._handles.extend(weigh(self, model, structure, within, self.theta.device))

    def leave(self) -> None:
        """Take all gates out of the network."""
        for handle in self._handles:
            handle.remove()
        self._handles.clear()
        self._pending.clear()

    def estimates(self) -> dict[str, Tensor]:
        """ĝ per group from the backward passes since the last call, of all ranks; groups no pass went through are missing.

        One all-reduce where several ranks train: the mean of their estimates is the estimate of the whole batch.
        """
        return pooled(self._heard(), self.split(self.theta), self.ranks)

    def _heard(self) -> dict[str, Tensor]:
        """ĝ per group from the backward passes of this process.

        Several passes are read as the optimizer reads them: the sum of their losses is the mean loss of all their examples. With B of
        them in all the derivative of an example's own loss is B·q, and ĝ is the mean over examples, so that micro-batches tell what one
        batch tells.
        """
        found: list[tuple[Draw, dict[str, Tensor]]] = []
        for draw in self._pending:
            heard = {group: sink.take() for group, sink in draw.sinks.items() if not sink.empty}
            if heard:
                found.append((draw, heard))
        self._pending.clear()
        if len(found) == 1:
            return found[0][1]
        count: Counter[str] = Counter()
        for draw, _ in found:
            count.update({group: len(q) for group, q in draw.examples.items()})
        total: dict[str, Tensor] = {}
        for draw, heard in found:
            for group in heard:
                estimate = self._share(draw, heard, group, count[group])
                total[group] = total[group] + estimate if group in total else estimate
        return total

    def _share(self, draw: Draw, heard: Mapping[str, Tensor], group: str, count: int) -> Tensor:
        """What one of several passes over `count` examples adds to ĝ; derivatives of whole batches add up as the passes' losses do."""
        if group in self._weighed:
            return heard[group]
        assert self._estimator is not None, "gates that hear nothing leave nothing to read"
        share = len(draw.examples[group]) / count
        return self._estimator(draw.examples[group] / share, draw.xi[group]) * share

    def forget(self) -> None:
        """Drop what the backward passes since the last call told."""
        self._pending.clear()

    def rounded(self, group: str, theta: Tensor, usefulness: Tensor) -> Tensor:
        """Which units are open at θ ≥ ½; only a block may be left without."""
        return open_units(theta, usefulness, may_empty=group in self.blocks)

    def keep(self, alive: Mapping[str, Tensor]) -> None:
        """Follow a removal: only the units under the masks remain."""
        device = self.theta.device
        mask = torch.cat(
            [
                alive[group].to(device) if group in alive else torch.ones(size, dtype=torch.bool, device=device)
                for group, size in self.sizes.items()
            ]
        )
        self.sizes.update({group: int(alive[group].sum()) for group in self.sizes if group in alive})
        self.sizes = {group: size for group, size in self.sizes.items() if size}
        self.theta, self.usefulness = self.theta[mask], self.usefulness[mask]
        self._draw = Draw(self.split(torch.ones_like(self.theta)))
        self._pending.clear()

    def state_dict(self) -> dict[str, dict[str, Tensor]]:
        """θ and usefulness per group."""
        rows = self.rows()
        return {
            "theta": {name: theta.clone() for name, theta, _ in rows},
            "usefulness": {name: usefulness.clone() for name, _, usefulness in rows},
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue where the state was taken. Raises StructureError, with nothing changed, if it is of other gates."""
        for key in ("theta", "usefulness"):
            found = {name: len(row) for name, row in state[key].items()}
            if found != self.sizes:
                raise StructureError(f"The saved gates ({key}) are of groups {found}; here are {self.sizes}.")
        for name, theta, usefulness in self.rows():
            theta.copy_(state["theta"][name])
            usefulness.copy_(state["usefulness"][name])

    def multiply(self, h: Tensor, group: str, axis: int, owner: Owner | None) -> Tensor:
        """h through the group's gates of the running forward pass."""
        sink = self._draw.sinks.get(group)
        assert not isinstance(sink, WholeSink), "groups gated in their weights have no gates in front of readers"
        xi = self._draw.xi[group]
        check_examples(xi, h, group)
        return gate(h, xi, axis, sink, owner)

    def factor(self, group: str) -> Tensor:
        """The group's gates of the running forward pass."""
        return self._draw.xi[group]

    def draw(self, examples: int | None = None) -> Tensor:
        """ξ ~ Bernoulli(θ) for all units in one row, or one such row for each of so many examples; on every rank others."""
        return (self.uniform(examples) < self.theta).to(self.theta.dtype)

    def uniform(self, examples: int | None = None) -> Tensor:
        """The random numbers of a draw, in [0, 1)."""
        shape = (len(self.theta),) if examples is None else (examples, len(self.theta))
        return torch.rand(shape, generator=own(self._random, self.ranks)).to(self.theta.device)

    @contextmanager
    def holding(self, xi: Tensor) -> Iterator[None]:
        """Within, every forward pass runs with these gates, all groups in one row, and none is learned from."""
        self._held = xi
        try:
            yield
        finally:
            self._held = None

    def _open_and_close(self, model: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        if self._held is not None:
            self._draw = Draw(self.split(self._held))
            return
        if not model.training:
            self._draw = Draw({name: self.rounded(name, theta, use).to(theta.dtype) for name, theta, use in self.rows()})
            return
        xi = self.split(self.draw() if self._draws == BATCH else self.draw(examples_in(args, kwargs)))
        heard = self._estimator if torch.is_grad_enabled() else None
        self._draw = Draw(xi) if heard is None else self._listening(xi, heard)

    def _listening(self, xi: dict[str, Tensor], estimator: Estimator) -> Draw:
        """The gates of a forward pass whose backward pass is to be learned from."""
        examples: dict[str, Tensor] = {}
        unscale = inverse(self.scaler, self.theta.device)
        sinks: dict[str, QSink | WholeSink] = {
            group: QSink(partial(_estimate, estimator, xi[group], examples, group, unscale))
            for group in self.sizes
            if group not in self._weighed
        }
        for group in self._weighed:
            sinks[group] = sink = WholeSink(unscale)
            xi[group] = xi[group].clone().requires_grad_()
            xi[group].register_hook(sink.add)  # type: ignore[no-untyped-call]
        draw = Draw(xi, sinks, examples)
        self._pending.append(draw)
        return draw


def _estimate(estimator: Estimator, xi: Tensor, examples: dict[str, Tensor], group: str, unscale: Tensor | None, q: Tensor) -> Tensor:
    """From the derivatives of a mean loss over B examples: B·q is each example's own, which is kept in `examples`.

    unscale: one over the scale of the loss that was differentiated, None where it was not scaled.
    """
    examples[group] = q.mul_(len(q)) if unscale is None else q.mul_(len(q) * unscale)
    return estimator(q, xi)
