"""The passes of one step through the network, over one batch or several, and the same loss evaluated again."""

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial

from torch import Tensor

from parsinet.distributed import Ranks
from parsinet.errors import UsageError
from parsinet.training.compiled import Compiled
from parsinet.training.objective import mistakes
from parsinet.training.precision import Precision
from parsinet.training.state import CountedBatches, EpochBatches, LoopState
from parsinet.training.teacher import Teacher

Objective = Callable[[Tensor, Tensor], Tensor]
Batch = tuple[Tensor, Tensor]
Taught = Callable[[Tensor, Tensor], Tensor]
"""(loss, logits) → what is minimised on a batch."""


def grouped(batches: EpochBatches, size: int) -> Iterator[list[Batch]]:
    """The batches that are left in this epoch, `size` for each step, the rest of the epoch for its last.

    Errors: UsageError for several batches per step of something that does not say how many there are.
    """
    iterator = iter(batches)
    if size == 1:
        yield from ([batch] for batch in iterator)
        return
    if not isinstance(batches, CountedBatches):
        raise UsageError("fit: accumulate > 1 needs batches with a length and a position, such as data.Batches.")
    while left := len(batches) - batches.position:
        yield list(itertools.islice(iterator, min(size, left)))
    next(iterator, None)  # the epoch is over only when its iterator says so


@dataclass(frozen=True, eq=False)
class Passed:
    """What the passes of one step tell. loss: mean over the examples, without penalty. wrong: targets missed, of `targets`.

    again: evaluates what was minimised, without penalty, on the same batches.
    """

    loss: Tensor
    wrong: Tensor
    targets: int
    examples: int
    again: Callable[[], Tensor]


@dataclass(eq=False)
class Passes:
    """Forward and backward passes; gradients of several batches add up to that of the mean over all their examples."""

    state: LoopState
    objective: Objective
    teacher: Teacher | None
    precision: Precision
    compiled: Compiled | None

    def __call__(self, batches: Sequence[Batch]) -> Passed:
        """One step's passes; the gradients are left in the parameters."""
        examples = sum(len(targets) for _, targets in batches)
        shares = [len(targets) / examples for _, targets in batches]
        losses, wrong, again = zip(*[self._pass(*batch, share) for batch, share in zip(batches, shares, strict=True)], strict=True)
        own = Passed(
            loss=_mean(losses, shares),
            wrong=sum(wrong[1:], start=wrong[0]),
            targets=sum(targets.numel() for _, targets in batches),
            examples=examples,
            again=lambda: _mean([evaluate() for evaluate in again], shares),
        )
        return own if self.state.ranks.size == 1 else _of_all(own, self.state.ranks)

    def _pass(self, inputs: Tensor, targets: Tensor, share: float) -> tuple[Tensor, Tensor, Callable[[], Tensor]]:
        pruner = self.state.pruner
        with self.precision.autocast():
            logits = self.state.forward(inputs) if self.compiled is None else self.compiled(inputs)
            loss = self.objective(logits, targets)
            taught = self._taught(inputs, targets)
            total = taught(loss, logits)
        penalty = pruner.penalty() if pruner is not None else 0.0
        if not isinstance(penalty, float) or penalty != 0:
            total = total + penalty
        self.precision.backward(total if share == 1 else total * share)
        return loss.detach(), mistakes(logits, targets), partial(self._again, inputs, targets, taught)

    def _taught(self, inputs: Tensor, targets: Tensor) -> Taught:
        """What makes of loss and logits that which is minimised on this batch; the teacher runs once."""
        teacher = self.teacher
        if teacher is None:
            return lambda loss, logits: loss
        if targets.is_floating_point():
            raise UsageError(
                f"fit: a teacher compares distributions over classes, but the targets are numbers ({targets.dtype}). Leave it out."
            )
        told = teacher(inputs)
        return lambda loss, logits: teacher.loss(loss, logits, told)

    def _again(self, inputs: Tensor, targets: Tensor, taught: Taught) -> Tensor:
        """Comparisons run the plain network, which a compiler need not see with other gates and without gradients."""
        self.state.again += len(targets) * self.state.ranks.size
        with self.precision.autocast():
            logits = self.state.model(inputs)
            return taught(self.objective(logits, targets), logits)


def _of_all(own: Passed, ranks: Ranks) -> Passed:
    """What the passes of all ranks tell together; each has equally many examples."""
    loss, wrong = ranks.mean([own.loss.double(), own.wrong.double()])
    missed = (wrong * ranks.size).round().to(own.wrong.dtype)
    return replace(own, loss=loss, wrong=missed, targets=own.targets * ranks.size, examples=own.examples * ranks.size)


def _mean(values: Sequence[Tensor], shares: Sequence[float]) -> Tensor:
    """Σ share · value; a single value as it is."""
    if len(values) == 1:
        return values[0]
    terms = [share * value for share, value in zip(shares, values, strict=True)]
    return sum(terms[1:], start=terms[0])
