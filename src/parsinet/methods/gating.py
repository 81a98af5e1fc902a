"""Gates in a network: where they sit, what they draw, what the backward pass tells them."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from parsinet.errors import RunError
from parsinet.gates import Estimator, Owner, QSink, gate
from parsinet.structure import Structure


class GroupGate:
    """One gate per unit of a group, in front of every module that reads the units.

    What a reader sees is ξ·h: exactly what removal leaves of a unit at ξ = 0, whatever stands between producer and reader.
    In training mode ξ is drawn anew for every forward pass of the model; in evaluation mode it is 1[θ ≥ ½].
    theta, usefulness (moving average of Δ̂ = −ĝ, nats per example): one entry per unit.
    """

    def __init__(self, name: str, theta: Tensor) -> None:
        self.name = name
        self.theta = theta
        self.usefulness = torch.zeros_like(theta)
        self._xi = torch.ones_like(theta)
        self._sink: QSink | None = None
        self._collected = QSink()
        self._gradient: Tensor | None = None
        self._passes = 0
        self._handles: list[RemovableHandle] = []

    def place(self, model: nn.Module, structure: Structure) -> None:
        """Put the gate in front of every reader of the group; called again after a removal, it moves to the new indices."""
        self.leave()
        for reader in structure.readers(self.name):
            owners = reader.owners.to(self.theta.device)
            identity = torch.equal(owners, torch.arange(len(self.theta), device=owners.device))
            hook = self._hook(reader.axis, None if identity else Owner.of(owners, len(self.theta)))
            self._handles.append(model.get_submodule(reader.module).register_forward_pre_hook(hook, with_kwargs=True))

    def leave(self) -> None:
        """Take the gate out of the network."""
        for handle in self._handles:
            handle.remove()
        self._handles.clear()

    def draw(self, estimator: Estimator, generator: torch.Generator) -> None:
        """Open and close units at random for the coming forward pass."""
        self.collect(estimator)
        uniform = torch.rand(len(self.theta), generator=generator).to(self.theta.device)
        self._xi = (uniform < self.theta).to(self.theta.dtype)
        self._sink = self._collected

    def decide(self, estimator: Estimator) -> None:
        """Open and close units by 1[θ ≥ ½]; nothing is learned from the coming passes."""
        self.collect(estimator)
        self._xi = (self.theta >= 0.5).to(self.theta.dtype)
        self._sink = None

    def collect(self, estimator: Estimator) -> None:
        """Turn what the last backward pass left into an estimate of ∂C/∂θ; it is kept until taken."""
        if self._collected.empty:
            return
        q = self._collected.take()
        estimate = estimator(q.mul_(len(q)), self._xi)
        self._gradient = estimate if self._gradient is None else self._gradient + estimate
        self._passes += 1

    def take_gradient(self) -> Tensor | None:
        """The estimate averaged over the backward passes since the last call; None if there was none."""
        gradient, passes = self._gradient, self._passes
        self._gradient, self._passes = None, 0
        return gradient / passes if gradient is not None and passes > 1 else gradient

    def keep(self, mask: Tensor) -> None:
        """Follow a removal: only the units under `mask` remain."""
        mask = mask.to(self.theta.device)
        self.theta, self.usefulness, self._xi = self.theta[mask], self.usefulness[mask], self._xi[mask]

    def _hook(self, axis: int, owner: Owner | None) -> Any:
        def multiply(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
            if args and isinstance(args[0], Tensor):
                return (gate(args[0], self._xi, axis, self._sink, owner), *args[1:]), kwargs
            if isinstance(kwargs.get("input"), Tensor):
                return args, {**kwargs, "input": gate(kwargs["input"], self._xi, axis, self._sink, owner)}
            raise RunError(f"The gates of {self.name} cannot find the input of {type(module).__name__}: pass it as the first argument.")

        return multiply
