"""Static sparse training: a random mask, drawn once before the first step."""

from __future__ import annotations

from typing import Unpack

from torch import Tensor

from parsinet import topology
from parsinet.errors import UsageError
from parsinet.methods import Budget, MaskedTraining, MaskOptions
from parsinet.topology import Masks, Window


class RandomMask(MaskedTraining):
    """A random mask that never changes, per tensor as many weights as the distribution says.

    Options: `MaskedTraining`. Raises UsageError for the distribution "global", which says nothing where nothing competes.
    Source: the static baseline of U. Evci et al. 2020, arXiv 1911.11134; S. Liu et al. 2022, arXiv 2202.02643.
    """

    name = "random-mask"

    def __init__(self, *, sparsity: float | None = None, distribution: str = "erk", **options: Unpack[MaskOptions]) -> None:
        dealt_out(self.name, distribution)
        super().__init__(sparsity=sparsity, distribution=distribution, begin=0.0, end=0.0, interval=1, **options)

    def _start(self, masks: Masks) -> dict[str, Tensor]:
        lots = masks.lots()
        return self._filled(topology.scatter(masks.masks, self._wanted(self.sparsity), lots), lots, None, self.sparsity)

    def _update(self, masks: Masks, step: int) -> None:
        return None

    def _schedule(self, budget: Budget) -> Window:
        return Window(1, 1, 1)


def dealt_out(name: str, distribution: str) -> None:
    """UsageError for a method whose tensors do not compete, asked to let them."""
    if distribution == "global":
        raise UsageError(f"{name}: distribution must be 'erk' or 'uniform', got 'global': its tensors do not compete for weights.")
