"""Pruning at the start by connection sensitivity, as SNIP does, from the gradients of the first steps."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any, Unpack

from torch import Tensor

from parsinet import topology
from parsinet.errors import ParsinetWarning, UsageError
from parsinet.methods import Budget, MaskedTraining, MaskOptions
from parsinet.methods.options import check_whole
from parsinet.topology import Masks, Window


class SNIP(MaskedTraining):
    """Single-shot pruning by |w·g|.

    After the first `batches` steps the round(N (1 − s*)) weights of largest |Σ w g| stay, for good, g being the gradients of those steps
    and w the weights they belong to. With one batch this is the paper's score at initialisation; the step itself is still dense, and with
    more batches the weights move a little between them. Steps without a gradient, or with one that is not finite, do not count. Other
    options: `MaskedTraining`.
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
        self._waited = 0
        super().__init__(sparsity=sparsity, distribution=distribution, begin=0.0, end=0.0, interval=1, **options)

    def state_dict(self) -> dict[str, Any]:
        """The masks' state, the sensitivities so far, in the order of the weights, and how many steps have told nothing."""
        sensitivity = [value.clone() for value in self._sensitivity.values()]
        return {**super().state_dict(), "sensitivity": sensitivity, "waited": self._waited}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue where `state_dict` was taken."""
        super().load_state_dict(state)
        self._sensitivity = self._beside(state["sensitivity"])
        self._wait(int(state["waited"]))

    def _start(self, masks: Masks) -> None:
        return None

    def _score(self, step: int) -> topology.Score:
        return topology.saliency

    def _follow(self, masks: Masks) -> None:
        if self.settled:
            return
        caught = masks.caught()
        if not caught:
            self._wait(self._waited + 1)
        else:
            self._sensitivity = {name: self._sensitivity[name] + value if self._sensitivity else value for name, value in caught.items()}

    def _update(self, masks: Masks, step: int) -> dict[str, Tensor] | None:
        return self._finish(masks)

    def _finish(self, masks: Masks) -> dict[str, Tensor] | None:
        """Without any gradient nothing is known and all stay."""
        sensitivity, self._sensitivity = self._sensitivity, {}
        if not sensitivity:
            warnings.warn(f"snip: none of {self._steps} steps had a finite gradient, so all weights stay.", ParsinetWarning, stacklevel=4)
            return None
        return self._pruned(topology.magnitudes(sensitivity), self.sparsity)

    def _judge_sparsity(self) -> None:
        """That all weights stay has been said."""
        if self.masks.active < self.masks.total:
            super()._judge_sparsity()

    def _schedule(self, budget: Budget) -> Window:
        if budget.steps is not None and self.batches >= budget.steps:
            raise UsageError(
                f"snip: batches={self.batches} of a run of {budget.steps} steps leaves none to train the sparse network. Give fewer."
            )
        return Window(self.batches, self.batches, 1)

    def _wait(self, steps: int) -> None:
        """So many steps have told nothing: the masks are made as many later."""
        self._waited = steps
        self._window = Window(self.batches + steps, self.batches + steps, 1)
