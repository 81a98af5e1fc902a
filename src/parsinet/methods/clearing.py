"""Backward passes that were not this network's own: their gradients in its weights are cleared before an optimizer takes them."""

from __future__ import annotations

import weakref
from collections.abc import Hashable, Iterable, MutableSequence, Sequence
from typing import Any, Protocol

from torch import Tensor, nn
from torch.optim import Optimizer
from torch.utils.hooks import RemovableHandle

from parsinet.structure.optimizers import with_wrapped


class Pass(Hashable, Protocol):
    """A forward pass that is learned from."""

    @property
    def heard(self) -> object:
        """True, or not empty, once a backward pass has come."""


class Clearing:
    """Drops passes that have been thrown away.

    In a GAN the generator's loss goes through the discriminator, and `zero_grad` drops what it leaves in the discriminator's weights; so it
    is with the search for an adversarial example, and with the first of SAM's two passes. A gradient tensor that has been dropped
    (`set_to_none=True`, torch's default) is another one in the next pass; one that is there has what that pass adds. Afterwards it may be
    another one all the same (DDP puts its own in the place of what was accumulated). Until weights are watched nothing counts as thrown
    away.
    """

    def __init__(self) -> None:
        self._parameters: Sequence[nn.Parameter] = ()
        self._gradients: dict[Pass, tuple[nn.Parameter, weakref.ref[Tensor]] | None] = {}
        self._taken: set[Pass] = set()
        self._handles: list[RemovableHandle] = []
        self._growing: dict[nn.Parameter, RemovableHandle] = {}

    def watch(self, model: nn.Module, optimizers: Iterable[Optimizer], passes: MutableSequence[Any]) -> None:
        """From now on passes count only if their gradients in the model's weights are there when an optimizer steps.

        passes: those since the last reading, each a `Pass`; the others leave it.
        """
        self.leave()
        self._parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]

        def stepping(*_: object) -> None:
            self.sift(passes)
            self._taken.update(one for one in passes if one.heard)

        for optimizer in with_wrapped(optimizers):
            if hasattr(optimizer, "_optimizer_step_pre_hooks"):  # those that only pass a step on have none
                self._handles.append(optimizer.register_step_pre_hook(stepping))

    def leave(self) -> None:
        """Take the hooks out of the optimizers."""
        for handle in self._handles:
            handle.remove()
        for handle in self._growing.values():
            handle.remove()
        self._handles.clear()
        self._growing.clear()

    def sift(self, passes: MutableSequence[Any]) -> None:
        """Drop those that were thrown away; to be called before each further pass."""
        passes[:] = [one for one in passes if not one.heard or one in self._taken or not self._cleared(one)]

    def forget(self) -> None:
        """Begin again with the next pass."""
        self._gradients.clear()
        self._taken.clear()

    def __getstate__(self) -> dict[str, Any]:
        """A copy watches no optimizer."""
        return Clearing().__dict__

    def _cleared(self, one: Pass) -> bool:
        if not self._parameters:
            return False
        if one not in self._gradients:
            self._gradients[one] = self._left()
        left = self._gradients[one]
        return left is None or left[0].grad is None or left[0].grad is not left[1]()

    def _left(self) -> tuple[nn.Parameter, weakref.ref[Tensor]] | None:
        """A weight and its gradient; None where no weight has one."""
        for parameter in self._parameters:
            if parameter.grad is not None:
                if parameter not in self._growing:
                    self._growing[parameter] = parameter.register_post_accumulate_grad_hook(self._grow)  # type: ignore[no-untyped-call]
                return parameter, weakref.ref(parameter.grad)
        return None

    def _grow(self, parameter: Tensor) -> None:
        """A pass has added to the gradient that others left in a weight: it holds theirs too, and they are found where it is now."""
        held = [one for one, left in self._gradients.items() if left and left[0] is parameter and parameter.grad is left[1]()]
        for one in held:
            del self._gradients[one]
