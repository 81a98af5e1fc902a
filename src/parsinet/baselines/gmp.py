"""Gradual magnitude pruning: the smallest weights leave for good while the network trains, on a cubic schedule."""

from __future__ import annotations

from typing import Unpack

from torch import Tensor

from parsinet import topology
from parsinet.methods import MaskedTraining, MaskOptions
from parsinet.topology import Masks


class GMP(MaskedTraining):
    """Gradual magnitude pruning.

    s_t = s* (1 − (1 − u)³), u the progress from begin to end; of the active weights the round(N (1 − s_t)) of largest |w| stay. Nothing
    comes back. distribution: "global" pools all tensors; "uniform" and "erk" give each tensor its number. Other options:
    `MaskedTraining`.
    Source: M. Zhu and S. Gupta 2017, arXiv 1710.01878 (uniform); pooled: usual since T. Gale et al. 2019, arXiv 1902.09574.
    """

    name = "gmp"

    def __init__(
        self,
        *,
        sparsity: float | None = None,
        distribution: str = "global",
        begin: float = 0.1,
        end: float = 0.75,
        interval: int | None = None,
        **options: Unpack[MaskOptions],
    ) -> None:
        super().__init__(sparsity=sparsity, distribution=distribution, begin=begin, end=end, interval=interval, **options)

    def _start(self, masks: Masks) -> None:
        return None

    def _update(self, masks: Masks, step: int) -> dict[str, Tensor]:
        return self._pruned(topology.magnitudes(masks.weights), topology.cubic_sparsity(self._window.progress(step), self.sparsity))

    def _finish(self, masks: Masks) -> dict[str, Tensor]:
        return self._pruned(topology.magnitudes(masks.weights), self.sparsity)
