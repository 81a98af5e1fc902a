"""Gates in a network: where they sit, what they draw, what the backward pass tells them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from parsinet.errors import RunError
from parsinet.gates import Estimator, Owner, QSink, gate, open_units
from parsinet.structure import Structure


@dataclass(frozen=True, eq=False)
class Draw:
    """The gates of one forward pass, per group, and what its backward pass tells of them; without sinks nothing is learned.

    examples: per group, the derivative of each example's own loss in ξ [B, n], as far as a backward pass has come.
    """

    xi: Mapping[str, Tensor]
    sinks: Mapping[str, QSink] = field(default_factory=dict)
    examples: dict[str, Tensor] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class _Hook:
    """Multiplies a reader's input by its gates. An object, not a function, so that a deep copy of the model has gates of its own."""

    bank: GateBank
    group: str
    axis: int
    owner: Owner | None

    def __call__(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        if args and isinstance(args[0], Tensor):
            return (self.bank.multiply(args[0], self.group, self.axis, self.owner), *args[1:]), kwargs
        if isinstance(kwargs.get("input"), Tensor):
            return args, {**kwargs, "input": self.bank.multiply(kwargs["input"], self.group, self.axis, self.owner)}
        raise RunError(f"The gates of {self.group} cannot find the input of {type(module).__name__}: pass it as the first argument.")


class GateBank:
    """One gate per unit of every group, in front of every module that reads the units.

    What a reader sees is ξ·h: exactly what removal leaves of a unit at ξ = 0, whatever stands between producer and reader.
    In training mode ξ is drawn anew for every forward pass of the model; in evaluation mode it is 1[θ ≥ ½] (`open_units`).
    theta, usefulness (moving average of Δ̂ = −ĝ, nats per example): one entry per unit, all groups in one row.
    """

    def __init__(self, sizes: Mapping[str, int], theta: float, device: torch.device, estimator: Estimator, random: torch.Generator) -> None:
        self.sizes = dict(sizes)
        self._estimator = estimator
        self.theta = torch.full((sum(sizes.values()),), theta, device=device)
        self.usefulness = torch.zeros_like(self.theta)
        self._random = random
        self._draw = Draw(self.split(torch.ones_like(self.theta)))
        self._pending: list[Draw] = []
        self._handles: list[RemovableHandle] = []

    def split(self, row: Tensor) -> dict[str, Tensor]:
        """A row over all units as one view per group."""
        return dict(zip(self.sizes, torch.split(row, list(self.sizes.values())), strict=True))

    def rows(self) -> list[tuple[str, Tensor, Tensor]]:
        """Per group its name and views of θ and usefulness."""
        theta, usefulness = self.split(self.theta), self.split(self.usefulness)
        return [(name, theta[name], usefulness[name]) for name in self.sizes]

    def place(self, model: nn.Module, structure: Structure) -> None:
        """Put the gates in front of the readers; called again after a removal, they move to the new indices."""
        self.leave()
        self._handles.append(model.register_forward_pre_hook(self._open_and_close))
        for group, size in self.sizes.items():
            for reader in structure.readers(group):
                owners = reader.owners.to(self.theta.device)
                identity = torch.equal(owners, torch.arange(size, device=owners.device))
                hook = _Hook(self, group, reader.axis, None if identity else Owner.of(owners, size))
                self._handles.append(model.get_submodule(reader.module).register_forward_pre_hook(hook, with_kwargs=True))

    def leave(self) -> None:
        """Take all gates out of the network."""
        for handle in self._handles:
            handle.remove()
        self._handles.clear()
        self._pending.clear()

    def estimates(self) -> dict[str, Tensor]:
        """ĝ per group from the backward passes since the last call; groups no pass went through are missing.

        Several passes are read as the optimizer reads them: the sum of their losses is one mean loss. With k passes the derivative of
        an example's own loss is k·B·q, and ĝ is the mean of the passes' estimates, so that k micro-batches with their losses divided by
        k tell what one batch tells.
        """
        found: list[tuple[Draw, dict[str, Tensor]]] = []
        for draw in self._pending:
            heard = {group: sink.take() for group, sink in draw.sinks.items() if not sink.empty}
            if heard:
                found.append((draw, heard))
        self._pending.clear()
        if len(found) == 1:
            return found[0][1]
        total: dict[str, Tensor] = {}
        for draw, heard in found:
            for group in heard:
                estimate = self._estimator(draw.examples[group] * len(found), draw.xi[group]) / len(found)
                total[group] = total[group] + estimate if group in total else estimate
        return total

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
        self.theta, self.usefulness = self.theta[mask], self.usefulness[mask]
        self._draw = Draw(self.split(torch.ones_like(self.theta)))
        self._pending.clear()

    def multiply(self, h: Tensor, group: str, axis: int, owner: Owner | None) -> Tensor:
        """h through the group's gates of the running forward pass."""
        return gate(h, self._draw.xi[group], axis, self._draw.sinks.get(group), owner)

    def _open_and_close(self, model: nn.Module, args: tuple[Any, ...]) -> None:
        if not model.training:
            self._draw = Draw({group: open_units(theta, use).to(theta.dtype) for group, theta, use in self.rows()})
            return
        uniform = torch.rand(len(self.theta), generator=self._random).to(self.theta.device)
        xi = self.split((uniform < self.theta).to(self.theta.dtype))
        if not torch.is_grad_enabled():
            self._draw = Draw(xi)
            return
        examples: dict[str, Tensor] = {}
        sinks = {group: QSink(partial(_estimate, self._estimator, xi[group], examples, group)) for group in self.sizes}
        self._draw = Draw(xi, sinks, examples)
        self._pending.append(self._draw)


def _estimate(estimator: Estimator, xi: Tensor, examples: dict[str, Tensor], group: str, q: Tensor) -> Tensor:
    """From the derivatives of a mean loss over B examples: B·q is each example's own, which is kept in `examples`."""
    examples[group] = q.mul_(len(q))
    return estimator(q, xi)
