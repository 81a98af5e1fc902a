"""What several processes must have in common when units leave: the decision before, everything that trains after."""

from __future__ import annotations

from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn

from parsinet.distributed import Together, digest

WEIGHTS, OPTIMIZERS, METHOD = "the weights", "the optimizer's state", "the method's state"
FOLLOWERS = "the followers' weights"


class Agreement:
    """Compares what the processes of a network have in common by digests; with one process it does nothing.

    state: what must be bitwise the same on all ranks, by the name a message gives it. followers: networks that lose the same units, whose
    buffers become those of rank 0 before a removal, as the network's own do.
    Errors of all methods: ReplicaError, on every rank, where replicas differ or a process is gone.
    """

    def __init__(self, together: Together | None, state: Callable[[], Mapping[str, Any]], followers: Sequence[nn.Module] = ()) -> None:
        self._together, self._state, self._followers = together, state, followers
        self._over = False

    def check(self, when: str, *, only: Container[str] | None = None) -> None:
        """Compare the state. when: for the message, as "after step 7". only: these parts of it, None for all."""
        if self._together is not None:
            parts = {name: digest(value) for name, value in self._state().items() if only is None or name in only}
            self._together.ranks.compare(parts, when)

    def decided(self, masks: Mapping[str, Tensor] | None, settled: bool, step: int) -> None:
        """Compare what each rank has decided after a step: which units stay (None: all), and whether the structure is fixed.

        Once all have said that it is fixed, nothing is sent any more.
        """
        if self._together is not None and not (self._over and masks is None):
            decision = {"the masks of what stays": digest(masks), "the end of all decisions": int(settled)}
            self._together.ranks.compare(decision, f"in step {step}")
            self._over = settled

    @contextmanager
    def removal(self, step: int) -> Iterator[None]:
        """Units leave inside: no wrapper holds the parameters meanwhile, and the same remains everywhere."""
        if self._together is None:
            yield
            return
        self._together.align(*self._followers)
        with self._together.loosened():
            yield
            self.check(f"after the removal of step {step}")
