"""What a training really did, seen from outside of it: steps, examples in their order, multiply-adds, and whether it met the test split."""

from __future__ import annotations

import functools
import hashlib
import time
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.optimizer import register_optimizer_step_post_hook
from torch.utils.hooks import RemovableHandle

from parsinet import measure
from parsinet.data import Dataset, Split
from parsinet.methods import Removal
from parsinet.training.state import Callback, LoopState

ODD = 6364136223846793005
AGAIN = 20
"""Times of looking again."""


class Watch(Callback):
    """Watches every forward pass of a model and every optimizer that changes it.

    steps: optimizer steps over parameters of the model, whoever took them. examples: those that passed in training mode, a batch that
    passes again at once (to compare losses) counted once. order: a digest of them. met: passes of examples that only the test split
    holds. macs: multiply-adds of all forward passes; counted: those per example, for a network that cannot be counted while it trains.
    seconds, cpu_seconds: of the training, without what watching took.
    """

    def __init__(self, dataset: Dataset) -> None:
        known = [fingerprints(split.inputs) for split in (dataset.train, dataset.validation) if split is not None]
        test = fingerprints(dataset.test.inputs)
        self.secret = set(test.tolist()) - set(torch.cat(known).tolist())
        self.example = dataset.train.inputs[:1]
        self.steps = self.examples = self.met = self.macs = 0
        self.seconds = self.cpu_seconds = 0.0
        self._order = hashlib.blake2b(digest_size=16)
        self._last: Tensor | None = None
        self._model: nn.Module | None = None
        self._hooks: list[RemovableHandle] = []
        self.counted: int | None = None
        self._each = self._looks = 0
        self._batch: Tensor | None = None

    def __deepcopy__(self, memo: dict[int, Any]) -> Watch:
        """Copies of the model are watched by the same eyes."""
        return self

    @property
    def order(self) -> str:
        """Digest of the training examples in the order in which they passed."""
        return self._order.hexdigest()

    def on_start(self, state: LoopState) -> None:
        """Begin to look."""
        self._model = state.model
        self._measure()
        self._hooks = [state.model.register_forward_pre_hook(self._passes), register_optimizer_step_post_hook(self._stepped)]
        self._since = (time.perf_counter(), time.process_time())

    def on_removal(self, state: LoopState, removal: Removal) -> None:
        """Count the smaller network's operations from here on."""
        begin, processor = time.perf_counter(), time.process_time()
        self._measure()
        self.seconds -= time.perf_counter() - begin
        self.cpu_seconds -= time.process_time() - processor

    def on_end(self, state: LoopState) -> None:
        """Stop looking."""
        self.seconds += time.perf_counter() - self._since[0]
        self.cpu_seconds += time.process_time() - self._since[1] - self._own_share()
        self.leave()

    def leave(self) -> None:
        """Take the hooks away, also after a training that broke off."""
        for hook in self._hooks:
            hook.remove()

    def _measure(self) -> None:
        assert self._model is not None
        self._each = measure.macs(self._model, self.example) if self.counted is None else self.counted
        self._last = None

    def _passes(self, module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        begin = time.perf_counter()
        seen, numbers = self._look(inputs[0])
        self.macs += len(numbers) * self._each
        self.met += sum(number in self.secret for number in numbers)
        if module.training and torch.is_grad_enabled() and not (self._last is not None and torch.equal(seen, self._last)):
            self._last = seen
            self.examples += len(numbers)
            self._order.update(seen.numpy().tobytes())
        self._looks, self._batch = self._looks + 1, inputs[0]
        self.seconds -= time.perf_counter() - begin

    def _look(self, inputs: Tensor) -> tuple[Tensor, list[int]]:
        seen = fingerprints(inputs)
        return seen, seen.tolist()

    def _stepped(self, optimizer: torch.optim.Optimizer, args: Any, kwargs: Any) -> None:
        assert self._model is not None
        own = {id(parameter) for parameter in self._model.parameters()}
        self.steps += any(id(parameter) in own for group in optimizer.param_groups for parameter in group["params"])

    def _own_share(self) -> float:
        """Processor seconds that looking took, from looking again: a processor clock is too slow to be read in every pass."""
        looks, self._looks = self._looks, 0
        if self._batch is None:
            return 0.0
        begin = time.process_time()
        for _ in range(AGAIN):
            self._look(self._batch)
        return looks * (time.process_time() - begin) / AGAIN


def fingerprints(inputs: Tensor) -> Tensor:
    """One whole number per example, int64 [n], the same wherever it passes: Σ bits_j · odd^j modulo 2⁶⁴ over its entries."""
    flat = inputs.detach().reshape(len(inputs), -1)
    bits = flat.contiguous().view(torch.int32).long() if flat.dtype == torch.float32 else flat.double().contiguous().view(torch.int64)
    return (bits * _powers(flat.shape[1])).sum(1)


@functools.cache
def _powers(count: int) -> Tensor:
    return torch.full((count,), ODD).cumprod(0)


def blind(dataset: Dataset) -> Dataset:
    """The data set as a training may hold it: its training split stands where the test split was."""
    return Dataset(**{**dataset.__dict__, "test": Split(dataset.train.inputs, dataset.train.targets)})
