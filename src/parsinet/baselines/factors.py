"""Differentiable factors in front of the modules that read units: one set per forward pass, shared by all readers of a group."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks

from parsinet.errors import RunError
from parsinet.gates import Owner
from parsinet.gates.backward import check_first, in_backward
from parsinet.methods.clearing import Clearing
from parsinet.methods.placing import Handle, place
from parsinet.structure import Structure


@dataclass(frozen=True, eq=False)
class _Pass:
    """The factors of one forward pass. training: whether they are drawn, not their test values. followed: whether autograd follows.

    drawn: per group, the factors with the graph of their draw. used: the same values as leaves, that the network is multiplied by.
    """

    training: bool = False
    followed: bool = False
    drawn: dict[str, Tensor] = field(default_factory=dict)
    used: dict[str, Tensor] = field(default_factory=dict)

    @property
    def learned(self) -> bool:
        """Whether its backward pass is to be learned from."""
        return self.training and self.followed

    @property
    def heard(self) -> list[str]:
        """The groups whose factors a backward pass has reached."""
        return [group for group, leaf in self.used.items() if leaf.grad is not None]


class Factors:
    """Multiplies what is read of a group's units by what `draw(group, input)` gives at the first use of a forward pass.

    draw: returns [units], or [B, units] with a factor per example. What backward passes say of the factors is kept until `learn` hands it
    on to what they were drawn from: a part of the network that runs again in a backward pass (gradient checkpointing) reads the factors
    that it had, and draws none.
    """

    def __init__(self, draw: Callable[[str, Tensor], Tensor]) -> None:
        self._draw = draw
        self._pass = _Pass()
        self._pending: list[_Pass] = []
        self._handles: list[Handle] = []
        self._clearing = Clearing()

    def watch(self, model: nn.Module, optimizers: Iterable[torch.optim.Optimizer]) -> None:
        """Learn of no pass whose gradients in the weights are cleared before an optimizer takes them: it was another network's."""
        self._clearing.watch(model, optimizers, self._pending)

    def place(self, model: nn.Module, structure: Structure, sizes: Mapping[str, int], device: torch.device) -> None:
        """Put the factors in front of the readers of the groups; called again after a removal, they move to the new indices."""
        self.leave()
        self._handles.append(model.register_forward_pre_hook(self._begin))
        self._handles.extend(place(self, model, structure, sizes, device))

    def leave(self) -> None:
        """Take all factors out of the network."""
        for handle in self._handles:
            handle.remove()
        self._handles.clear()
        self._pass = _Pass()
        self._forget()

    def unwatch(self) -> None:
        """Take the hooks out of the optimizers."""
        self._clearing.leave()

    def learn(self) -> None:
        """Add the derivatives since the last call to the gradients of what the factors were drawn from."""
        for each in self._pending:
            if each.heard:
                torch.autograd.backward([each.drawn[group] for group in each.heard], [each.used[group].grad for group in each.heard])
        self._forget()

    def multiply(self, h: Tensor, group: str, axis: int, owner: Owner | None) -> Tensor:
        """h through the group's factors of the running forward pass. axis: of the units, counted from the end."""
        z = self._of(group, h)
        shape = [1] * h.dim()
        shape[axis] = h.shape[axis]
        if z.dim() == 2:
            if len(z) != len(h):
                raise RunError(f"Readers of {group} see {len(z)} and {len(h)} examples in one pass; use draws='batch'.")
            shape[0] = len(h)
        values = (z if owner is None else owner.spread(z)).to(h.dtype)
        return h * values.view(shape)

    def __getstate__(self) -> dict[str, Any]:
        """A copy is in no forward pass."""
        return {**self.__dict__, "_pass": _Pass(), "_pending": [], "_clearing": Clearing()}

    def _forget(self) -> None:
        self._pending.clear()
        self._clearing.forget()

    def _begin(self, model: nn.Module, args: tuple[Any, ...]) -> None:
        if model.training:
            check_first("The factors of this method")
        self._pass = _Pass(model.training, torch.is_grad_enabled())
        if self._pass.learned:
            self._clearing.sift(self._pending)
            self._pending.append(self._pass)

    def _of(self, group: str, h: Tensor) -> Tensor:
        running = self._pass
        if in_backward():
            self._check_again()
        if group not in running.used:
            with torch.set_grad_enabled(running.learned), saved_tensors_hooks(_itself, _itself):
                running.drawn[group] = self._draw(group, h)
            running.used[group] = running.drawn[group].detach().requires_grad_(running.learned)
        return running.used[group]

    def _check_again(self) -> None:
        """Before a part of the network runs again in a backward pass: RunError if that may be the part of another forward pass."""
        if self._pass.followed and not self._pass.training:
            return
        if self._pass not in self._pending or not all(other.heard for other in self._pending if other is not self._pass):
            raise RunError(
                "With gradient checkpointing parts of the model run again in the backward pass, and which of several forward passes that "
                "is cannot be told: factors are drawn for each. Call backward() after every forward pass, before the next one."
            )


def _itself(tensor: Tensor) -> Tensor:
    """What a draw keeps for its derivatives is no business of who watches the network: checkpointing counts what it keeps."""
    return tensor
