"""Batches of a split in an order that depends on the seed and the epoch alone, so that a run can be resumed bitwise."""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from parsinet.data.augment import Augmentation
from parsinet.data.dataset import Split
from parsinet.errors import ArgumentTypeError, UsageError

ORDER, AUGMENT = 0, 1


class Batches:
    """Iterates over (inputs, targets); each `iter()` gives one epoch, or the rest of the one that was begun.

    The order of epoch e depends on (seed, e), the augmentation of its batch k on (seed, e, k), never on what was done before.
    `position` counts the batches handed out: it is k after the k-th was yielded. When an epoch is exhausted, `epoch` goes up by one
    and `position` to 0; a loop left early goes on where it stopped. The whole split is moved to `device` once; random numbers
    are drawn on the CPU, so the order is the same on every device. Every batch is a copy and may be changed in place.

    rank, world_size: for several processes that train together, each with its own `Batches`. batch_size is that of all of them, and rank r
    takes rows r, r + world_size, … of every batch: order, augmentation, number of batches and `state_dict` do not depend on the number of
    processes, so that a run resumes on another. All ranks get equally many rows; a last batch that cannot be shared out is filled up with
    its own first rows.

    Raises UsageError for a batch size below 1 or one that the processes cannot share, a negative seed, no full batch with drop_last,
    augmentation of inputs other than [n, c, h, w]; ArgumentTypeError for numbers that are not whole.
    """

    def __init__(
        self,
        split: Split,
        batch_size: int,
        *,
        seed: int = 0,
        shuffle: bool = True,
        drop_last: bool = False,
        augment: Augmentation | None = None,
        device: str | torch.device = "cpu",
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        _check_whole("batch_size", batch_size, 1)
        _check_shares(batch_size, rank, world_size)
        _check_whole("seed", seed, 0)
        if drop_last and len(split) < batch_size:
            raise UsageError(f"Batches: drop_last with batch_size {batch_size} leaves no batch of {len(split)} examples.")
        if augment is not None:
            if split.inputs.dim() != 4:
                raise UsageError(f"Batches: only images [n, c, h, w] can be augmented, got inputs {list(split.inputs.shape)}.")
            augment.check(*split.inputs.shape[2:])
        self.batch_size = batch_size
        self.seed = seed
        self.shuffle = shuffle
        self.drop_last = drop_last
        self.augment = augment
        self.rank, self.world_size = rank, world_size
        self.epoch = 0
        self.position = 0
        self._inputs = split.inputs.to(device)
        self._targets = split.targets.to(device)

    def __len__(self) -> int:
        """Batches per epoch; the last one may be smaller unless drop_last."""
        full, rest = divmod(len(self._inputs), self.batch_size)
        return full + bool(rest and not self.drop_last)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        inputs, targets, augment = self._inputs, self._targets, self.augment
        indices = torch.split(self._order(), self.batch_size)[: len(self)]
        for whole in indices[self.position :]:
            rows = self._own(len(whole)).to(whole.device)
            index = whole.index_select(0, rows)
            batch = inputs.index_select(0, index)
            if augment is not None:
                batch = augment(batch, self._generator(AUGMENT, self.epoch, self.position), rows=rows, batch=len(whole))
            self.position += 1
            yield batch, targets.index_select(0, index)
        self.epoch += 1
        self.position = 0

    def state_dict(self) -> dict[str, int]:
        """Where the iteration stands: seed, epoch (0-based), position (batches handed out in this epoch)."""
        return {"seed": self.seed, "epoch": self.epoch, "position": self.position}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on where `state` was taken, seed included; counts for the next `iter()`. UsageError where the state does not fit."""
        if sorted(state) != ["epoch", "position", "seed"]:
            raise UsageError(f"Batches: a state has seed, epoch and position, got {', '.join(map(str, state)) or 'nothing'}.")
        for name in ("seed", "epoch", "position"):
            _check_whole(name, state[name], 0)
        if state["position"] > len(self):
            raise UsageError(
                f"Batches: position {state['position']} is beyond the {len(self)} batches of an epoch; was batch_size changed?"
            )
        self.seed, self.epoch, self.position = state["seed"], state["epoch"], state["position"]

    def _own(self, count: int) -> Tensor:
        """Which rows of a batch of `count` are this rank's."""
        filled = -(-count // self.world_size) * self.world_size
        return torch.arange(self.rank, filled, self.world_size) % count

    def _order(self) -> Tensor:
        count = len(self._inputs)
        order = torch.randperm(count, generator=self._generator(ORDER, self.epoch)) if self.shuffle else torch.arange(count)
        return order.to(self._inputs.device)

    def _generator(self, *purpose: int) -> torch.Generator:
        """A fresh CPU generator for one purpose; numpy's SeedSequence mixes the numbers so that neighbours are unrelated."""
        words = np.random.SeedSequence([self.seed, *purpose]).generate_state(1, np.uint64)
        return torch.Generator().manual_seed(int(words[0]))


def _check_shares(batch_size: int, rank: int, world_size: int) -> None:
    _check_whole("world_size", world_size, 1)
    _check_whole("rank", rank, 0)
    if rank >= world_size:
        raise UsageError(f"Batches: rank must be below world_size {world_size}, got {rank}.")
    if batch_size % world_size:
        raise UsageError(
            f"Batches: batch_size {batch_size} is that of all processes together, and {world_size} cannot share it evenly. "
            f"Take a multiple of {world_size}."
        )


def _check_whole(name: str, value: object, least: int) -> None:
    if not isinstance(value, int) or isinstance(value, bool):
        raise ArgumentTypeError(f"Batches: {name} must be a whole number, got {value!r}.")
    if value < least:
        raise UsageError(f"Batches: {name} must be ≥ {least}, got {value}.")
