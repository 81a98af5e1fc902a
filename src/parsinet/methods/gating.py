"""Gates in a network: where they sit, what they draw, and with which gates each forward pass runs."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from parsinet.distributed import ALONE, Ranks, own, pooled
from parsinet.errors import RunError, StructureError
from parsinet.gates import Estimator, Owner, average_, doubted, gate, open_units
from parsinet.gates.averages import ROWS
from parsinet.gates.backward import check_first, in_backward
from parsinet.methods.blocking import place_blocks
from parsinet.methods.drawing import BATCH, check_examples, examples_in
from parsinet.methods.hearing import Draw, Hearing
from parsinet.methods.placing import Handle, place
from parsinet.methods.undisturbed import Surroundings
from parsinet.methods.weighing import WholeSink, weigh
from parsinet.structure import Structure

Given = Callable[[tuple[Any, ...], Mapping[str, Any]], Mapping[str, Tensor]]
"""What makes the gates of a forward pass from the model's arguments, where they are not those of training."""


def check_graph(group: str) -> None:
    """RunError where gates cannot be differentiated: the network runs without a graph, and again in the backward pass."""
    if not torch.is_grad_enabled():
        raise RunError(
            f"Gates: backward passes are differentiated again (create_graph=True), and a reader of {group} runs under gradient "
            "checkpointing with use_reentrant=True. Use use_reentrant=False there."
        )


class GateBank:
    """One gate per unit of every group, in front of every module that reads the units.

    What a reader sees is ξ·h: exactly what removal leaves of a unit at ξ = 0, whatever stands between producer and reader.
    In training mode ξ is drawn anew for every forward pass of the model, one row for the whole batch or, with draws="example", one per
    example; in evaluation mode it is 1[θ ≥ ½] (`open_units`). Without an estimator the gates hear nothing of backward passes.
    theta, usefulness (moving average of Δ̂ = −ĝ, nats per example): one entry per unit, all groups in one row. blocks: those of the groups
    that are residual branches: one gate each, behind the module that makes what is added, and it may close. ranks: processes that train
    together; each draws ξ for itself, and estimates are means over all of them. doubt: z of `gates.doubted`, 0 for none; with it averages
    [4, units] are kept.
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
        *,
        doubt: float = 0.0,
    ) -> None:
        self.sizes = dict(sizes)
        self.ranks = ranks
        self.blocks = frozenset(blocks)
        self.around = Surroundings()
        self.hearing, self._draws = Hearing(estimator), draws
        self.theta = theta.to(device)
        self.usefulness = torch.zeros_like(self.theta)
        self.doubt = doubt
        self.averages = torch.zeros(ROWS if doubt else 0, len(self.theta), device=device)
        self._random = random
        self._draw = Draw(self.split(torch.ones_like(self.theta)))
        self._handles: list[Handle] = []
        self._given: Given | None = None
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
        self.hearing.forget()

    def estimates(self) -> dict[str, Tensor]:
        """ĝ per group from the backward passes since the last call, of all ranks; groups no pass went through are missing.

        One all-reduce where several ranks train: the mean of their estimates is the estimate of the whole batch.
        """
        return pooled(self.hearing.estimates(), self.split(self.theta), self.ranks)

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
        self.theta, self.usefulness, self.averages = self.theta[mask], self.usefulness[mask], self.averages[:, mask]
        self._draw = Draw(self.split(torch.ones_like(self.theta)))
        self.hearing.forget()

    def follow(self, name: str, estimate: Tensor, price: Tensor | float, known: Tensor) -> Tensor:
        """What a group's θ follow, "" for all in one row: its estimates, or with doubt their averages as far as these are sure. Where an
        estimate is not known, averages stay as they are, and θ follows the estimate in its place."""
        if not self.doubt:
            return estimate
        rows = self.split(self.averages)[name] if name else self.averages
        rows.copy_(torch.where(known, average_(rows.clone(), estimate), rows))
        return torch.where(known, doubted(rows, price, self.doubt), estimate)

    def state_dict(self) -> dict[str, dict[str, Tensor]]:
        """θ and usefulness per group, with doubt the averages of estimates."""
        rows = self.rows()
        averages = {"averages": {name: row.clone() for name, row in self.split(self.averages).items()}} if self.doubt else {}
        return {
            "theta": {name: theta.clone() for name, theta, _ in rows},
            "usefulness": {name: usefulness.clone() for name, _, usefulness in rows},
            **averages,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue where the state was taken. Raises StructureError, with nothing changed, if it is of other gates."""
        for key in ("theta", "usefulness", *(("averages",) if self.doubt else ())):
            found = {name: row.shape[-1] for name, row in state.get(key, {}).items()}
            if found != self.sizes:
                raise StructureError(f"The saved gates ({key}) are of groups {found}; here are {self.sizes}.")
        for name, theta, usefulness in self.rows():
            theta.copy_(state["theta"][name])
            usefulness.copy_(state["usefulness"][name])
        for name, row in self.split(self.averages).items() if self.doubt else ():
            row.copy_(state["averages"][name])

    def multiply(self, h: Tensor, group: str, axis: int, owner: Owner | None) -> Tensor:
        """h through the group's gates of the running forward pass."""
        if self._given is None and in_backward():
            self.hearing.check_again(self._draw)
        sink = self._draw.sinks.get(group)
        xi = self._draw.xi[group]
        check_examples(xi, h, group)
        if isinstance(sink, WholeSink):
            check_graph(group)
            return gate(h, xi, axis, None, owner)
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
        return self.random(shape)

    def random(self, shape: Sequence[int]) -> Tensor:
        """Random numbers in [0, 1); on every rank others."""
        return torch.rand(shape, generator=own(self._random, self.ranks)).to(self.theta.device)

    def holding(self, xi: Tensor) -> AbstractContextManager[None]:
        """Within, every forward pass runs with these gates, all groups in one row, and none is learned from."""
        return self._giving(lambda args, kwargs: self.split(xi))

    @contextmanager
    def followed(self) -> Iterator[list[dict[str, Tensor]]]:
        """Within, gates are drawn for every forward pass as in training, in tensors that a loss can be differentiated by.

        Gives these, for every forward pass: per group [B, n], a row for each example, or [n] where the group is gated in weights.
        """
        passes: list[dict[str, Tensor]] = []

        def given(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Mapping[str, Tensor]:
            examples = examples_in(args, kwargs)
            rows = self._drawn(args, kwargs).expand(examples, -1)
            xi = {group: row[0] if group in self._weighed else row for group, row in self.split(rows).items()}
            passes.append({group: row.clone().requires_grad_() for group, row in xi.items()})
            return passes[-1]

        with self._giving(given):
            yield passes

    @contextmanager
    def _giving(self, given: Given) -> Iterator[None]:
        self._given = given
        try:
            yield
        finally:
            self._given = None

    def _drawn(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Tensor:
        """The gates of a forward pass in training, one row or one per example."""
        return self.draw() if self._draws == BATCH else self.draw(examples_in(args, kwargs))

    def _open_and_close(self, model: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        if self._given is not None:
            self._draw = Draw(self._given(args, kwargs))
        elif model.training:
            check_first("Gates")
            self._draw = self.hearing.listen(self.split(self._drawn(args, kwargs)), self._weighed, self.theta.device)
        else:
            self._draw = Draw({name: self.rounded(name, theta, use).to(theta.dtype) for name, theta, use in self.rows()})
