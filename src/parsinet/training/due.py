"""When a checkpoint is due."""

import time
from collections.abc import Callable

from parsinet.errors import UsageError
from parsinet.training.recipe_checkpoint import CheckpointPart


class Due:
    """Tells after a step and after an epoch whether a checkpoint is due; `saved` says that one was written, which starts the minutes anew.

    steps: of the whole run. clock: seconds from any origin.

    Errors: UsageError for a number of steps that the run never reaches.
    """

    def __init__(self, part: CheckpointPart, *, epochs: int, steps: int, clock: Callable[[], float] = time.monotonic) -> None:
        every = part.every
        if every.steps is not None and every.steps > steps:
            raise UsageError(f"Recipe: checkpoint.every.steps is {every.steps:,}, but the whole run has {steps:,} steps.")
        self.best, self.last, self.epochs, self.steps = part.best, epochs, every.epochs, every.steps
        self.seconds = None if every.minutes is None else 60 * every.minutes
        self.clock = clock
        self._since = clock()

    def after_step(self, step: int) -> bool:
        """Whether to save after step `step`, 1-based."""
        if self.steps is not None and step % self.steps == 0:
            return True
        return self.seconds is not None and self.clock() - self._since >= self.seconds

    def after_epoch(self, epoch: int, error: float | None, lowest: Callable[[], float | None]) -> bool:
        """Whether to save after epoch `epoch`, 1-based: on its turn, as the last one, or as the best one.

        error: on the validation split. lowest: that of the checkpoints there are, None if none has one; asked only where it matters.
        """
        if epoch == self.last or (self.epochs is not None and epoch % self.epochs == 0):
            return True
        if not self.best or error is None:
            return False
        before = lowest()
        return before is None or error < before

    def saved(self) -> None:
        """A checkpoint was written just now."""
        self._since = self.clock()
