"""Pruning at the start by connection sensitivity, as SNIP does, from the gradients of the first steps."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Unpack

from torch import Tensor

from parsinet import topology
from parsinet.methods import Budget, MaskedTraining, MaskOptions
from parsinet.methods.options import check_whole
from parsinet.topology import Masks, Window


class SNIP(MaskedTraining):
    """Single-shot pruning by |w·g|.

    After the first `batches` steps the round(N (1 − s*)) weights of largest |Σ w g| stay, for good, g being the gradients of those steps
    and w the weights they belong to. With one batch this is the paper's score at initialisation; the step itself is still dense, and with
    more batches the weights move a little between them. Other options: `MaskedTraining`.
    Source: N. Lee, T. Ajanthan, P. H. S. Torr 2019, arXiv 1810.02340.
    """

    name = "snip"
    unscaled = True

    def __init__(
        self,
        *,
        sparsity: float | None = None,
        distribution: str = "global",
        batches: int = 1,
        **options: Unpack[MaskOptions],
    ) -> None:
        check_whole(self.name, "batches", batches)
        self.batches = batches
        self._sensitivity: dict[str, Tensor] = {}
        super().__init__(sparsity=sparsity, distribution=distribution, begin=0.0, end=0.0, interval=1, **options)

    def state_dict(self) -> dict[str, Any]:
        """The masks' state and the sensitivities so far, in the order of the weights."""
        return {**super().state_dict(), "sensitivity": [value.clone() for value in self._sensitivity.values()]}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue where `state_dict` was taken."""
        super().load_state_dict(state)
        self._sensitivity = self._beside(state["sensitivity"])

    def _start(self, masks: Masks) -> None:
        return None

    def _score(self, step: int) -> topology.Score:
        return topology.saliency

    def _follow(self, masks: Masks) -> None:
        if not self.settled and (caught := masks.caught()):
            self._sensitivity = {name: self._sensitivity[name] + value if self._sensitivity else value for name, value in caught.items()}

    def _update(self, masks: Masks, step: int) -> dict[str, Tensor] | None:
        return self._finish(masks)

    def _finish(self, masks: Masks) -> dict[str, Tensor] | None:
        """Without any gradient nothing is known and all stay."""
        sensitivity, self._sensitivity = self._sensitivity, {}
        if not sensitivity:
            return None
        return topology.prune(topology.magnitudes(sensitivity), masks.masks, self._wanted(self.sparsity))

    def _schedule(self, budget: Budget) -> Window:
        return Window(self.batches, self.batches, 1)
