"""Where a training stands, and who may watch it."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from parsinet.distributed import ALONE, Ranks, Replicas
from parsinet.methods import Pruner, Removal
from parsinet.training.tally import Tally


class EpochBatches(Protocol):
    """What the loop needs of its batches: one epoch per iteration; `epoch` (0-based) is the one that runs or comes next."""

    epoch: int

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        """The batches that are left in this epoch."""


@runtime_checkable
class CountedBatches(EpochBatches, Protocol):
    """Batches that say how many there are in an epoch and how many of them were given; several of them can make one step."""

    position: int

    def __len__(self) -> int:
        """Batches per epoch."""


@dataclass(frozen=True)
class EpochResult:
    """One epoch (1-based) on the batches as they were seen: mean loss per target without the penalty, fraction of targets missed."""

    epoch: int
    loss: float
    error: float


@dataclass
class LoopState:
    """Where a training stands.

    step: optimizer steps taken, those a scaler has left out included. examples: examples seen so far. again: examples in forward passes
    that only compare losses. epoch: 1-based, the running one. stop: set it to end
    after the current step. tally: this epoch's sums. Counters and sums are those of all ranks together. replicas: of the model, which may
    also be given in its place, where several processes train.
    """

    model: nn.Module
    optimizer: torch.optim.Optimizer
    batches: EpochBatches
    epochs: int
    pruner: Pruner | None = None
    step: int = 0
    examples: int = 0
    again: int = 0
    stop: bool = False
    settled: bool = False
    tally: Tally = field(default_factory=Tally)
    replicas: Replicas | None = None

    def __post_init__(self) -> None:
        if isinstance(self.model, Replicas):
            self.replicas = self.model
            self.model = self.model.module

    @property
    def forward(self) -> nn.Module:
        """What a training pass calls: the model, or what keeps it in step with those of other ranks."""
        return self.model if self.replicas is None else self.replicas

    @property
    def ranks(self) -> Ranks:
        """The processes that train together."""
        return ALONE if self.replicas is None else self.replicas.ranks

    @property
    def epoch(self) -> int:
        """The running epoch, 1-based."""
        return self.batches.epoch + 1

    def state_dict(self) -> dict[str, Any]:
        """The counters, as plain values. Call it after a reading, as callbacks are."""
        tally = {"loss_sum": self.tally.loss_sum, "wrong": self.tally.wrong, "seen": self.tally.seen}
        return {"step": self.step, "examples": self.examples, "again": self.again, "settled": self.settled, "tally": tally}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue counting where `state_dict` was taken."""
        self.step, self.examples, self.settled = state["step"], state["examples"], state["settled"]
        self.again = state.get("again", 0)
        self.tally = Tally(**state["tally"])


class Callback:
    """Watches a training; every hook does nothing here and may be overridden. Only an overridden `on_step` costs time in a step."""

    def on_start(self, state: LoopState) -> None:
        """Before the first step of this call of `fit`."""

    def on_step(self, state: LoopState) -> None:
        """After every step; keep it under a few microseconds and read no tensor."""

    def on_removal(self, state: LoopState, removal: Removal) -> None:
        """Units have left the model."""

    def on_settled(self, state: LoopState) -> None:
        """The structure is fixed from here on."""

    def on_epoch(self, state: LoopState, result: EpochResult) -> None:
        """An epoch is over."""

    def on_end(self, state: LoopState) -> None:
        """After the last step; `state.stop` tells whether it came early."""
