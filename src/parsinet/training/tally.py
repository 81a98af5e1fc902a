"""Loss and errors of the running epoch, gathered without waiting for any tensor."""

import math
from dataclasses import dataclass, field

import torch
from torch import Tensor


@dataclass
class Tally:
    """Loss and errors of the running epoch. Tensors are only gathered in a step and read every so many steps, so no step waits.

    Sums are Python floats added in the order of the steps: their value does not depend on when they were read.
    """

    loss_sum: float = 0.0
    wrong: int = 0
    seen: int = 0
    _losses: list[Tensor] = field(default_factory=list)
    _wrong: list[Tensor] = field(default_factory=list)
    _counts: list[int] = field(default_factory=list)

    @property
    def loss(self) -> float:
        """Mean loss per target up to the last reading; NaN before the first."""
        return self.loss_sum / self.seen if self.seen else math.nan

    @property
    def error(self) -> float:
        """Fraction of targets missed up to the last reading; NaN before the first."""
        return self.wrong / self.seen if self.seen else math.nan

    def add(self, loss: Tensor, wrong: Tensor, count: int) -> int:
        """Gather one step; returns how many are waiting to be read."""
        self._losses.append(loss)
        self._wrong.append(wrong)
        self._counts.append(count)
        return len(self._losses)

    def read(self) -> int | None:
        """Add what was gathered to the sums; returns how many steps ago the loss ceased to be finite, None if it did not."""
        if not self._losses:
            return None
        losses = torch.stack(self._losses).tolist()
        for loss, count in zip(losses, self._counts, strict=True):
            self.loss_sum += loss * count
        self.wrong += int(torch.stack(self._wrong).sum())
        self.seen += sum(self._counts)
        self._losses, self._wrong, self._counts = [], [], []
        return next((len(losses) - 1 - k for k, loss in enumerate(losses) if not math.isfinite(loss)), None)
