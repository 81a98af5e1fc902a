"""Gates in a network: where they sit, what they draw, what the backward pass tells them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from parsinet.errors import RunError
from parsinet.gates import Estimator, Owner, QSink, gate
from parsinet.structure import Structure


@dataclass(frozen=True)
class Draw:
    """The gates of one forward pass, per group, and what its backward pass tells of them; without sinks nothing is learned."""

    xi: Mapping[str, Tensor]
    sinks: Mapping[str, QSink]


class GateBank:
    """One gate per unit of every group, in front of every module that reads the units.

    What a reader sees is ξ·h: exactly what removal leaves of a unit at ξ = 0, whatever stands between producer and reader.
    In training mode ξ is drawn anew for every forward pass of the model; in evaluation mode it is 1[θ ≥ ½].
    theta, usefulness (moving average of Δ̂ = −ĝ, nats per example): one entry per unit, all groups in one row.
    """

    def __init__(self, sizes: Mapping[str, int], theta: float, device: torch.device, estimator: Estimator, random: torch.Generator) -> None:
        self.sizes = dict(sizes)
        self._estimator = estimator
        self.theta = torch.full((sum(sizes.values()),), theta, device=device)
        self.usefulness = torch.zeros_like(self.theta)
        self._random = random
        self._draw = Draw(self.split(torch.ones_like(self.theta)), {})
        self._pending: list[Draw] = []
        self._handles: list[RemovableHandle] = []

    def split(self, row: Tensor) -> dict[str, Tensor]:
        """A row over all units as one view per group."""
        return dict(zip(self.sizes, torch.split(row, list(self.sizes.values())), strict=True))

    def place(self, model: nn.Module, structure: Structure) -> None:
        """Put the gates in front of the readers; called again after a removal, they move to the new indices."""
        self.leave()
        self._handles.append(model.register_forward_pre_hook(self._open_and_close))
        for group, size in self.sizes.items():
            for reader in structure.readers(group):
                owners = reader.owners.to(self.theta.device)
                identity = torch.equal(owners, torch.arange(size, device=owners.device))
                hook = self._hook(group, reader.axis, None if identity else Owner.of(owners, size))
                self._handles.append(model.get_submodule(reader.module).register_forward_pre_hook(hook, with_kwargs=True))

    def leave(self) -> None:
        """Take all gates out of the network."""
        for handle in self._handles:
            handle.remove()
        self._handles.clear()
        self._pending.clear()

    def estimates(self) -> dict[str, Tensor]:
        """ĝ per group, averaged over the backward passes since the last call; groups no pass went through are missing."""
        found: dict[str, list[Tensor]] = {}
        for draw in self._pending:
            for group, sink in draw.sinks.items():
                if not sink.empty:
                    found.setdefault(group, []).append(sink.take())
        self._pending.clear()
        return {group: each[0] if len(each) == 1 else torch.stack(each).mean(0) for group, each in found.items()}

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
        self._draw = Draw(self.split(torch.ones_like(self.theta)), {})
        self._pending.clear()

    def _open_and_close(self, model: nn.Module, args: tuple[Any, ...]) -> None:
        if not model.training:
            self._draw = Draw(self.split((self.theta >= 0.5).to(self.theta.dtype)), {})
            return
        uniform = torch.rand(len(self.theta), generator=self._random).to(self.theta.device)
        xi = self.split((uniform < self.theta).to(self.theta.dtype))
        self._draw = Draw(xi, {group: QSink(partial(_estimate, self._estimator, xi[group])) for group in self.sizes})
        if torch.is_grad_enabled():
            self._pending.append(self._draw)

    def _hook(self, group: str, axis: int, owner: Owner | None) -> Any:
        def multiply(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
            xi, sink = self._draw.xi[group], self._draw.sinks.get(group)
            if args and isinstance(args[0], Tensor):
                return (gate(args[0], xi, axis, sink, owner), *args[1:]), kwargs
            if isinstance(kwargs.get("input"), Tensor):
                return args, {**kwargs, "input": gate(kwargs["input"], xi, axis, sink, owner)}
            raise RunError(f"The gates of {group} cannot find the input of {type(module).__name__}: pass it as the first argument.")

        return multiply


def _estimate(estimator: Estimator, xi: Tensor, q: Tensor) -> Tensor:
    """From the derivatives of a mean loss over B examples: B·q is each example's own."""
    return estimator(q.mul_(len(q)), xi)
