"""Dynamic sparse training: a random sparse network whose weights are exchanged while it trains, SET and RigL."""

from __future__ import annotations

from typing import Unpack

from torch import Tensor

from parsinet import topology
from parsinet.baselines.random_mask import dealt_out
from parsinet.methods import Budget, GrowingTraining, MaskedTraining, MaskOptions
from parsinet.methods.options import check_number
from parsinet.topology import Masks, Window

ACTIVE = "a share of the active weights"


class SET(MaskedTraining):
    """Sparse evolutionary training.

    At every update each tensor drops the share ζ of its positive weights and of its negative ones that is nearest to zero, and activates
    as many others at random, starting at 0. interval: default a twentieth of the run; the paper takes one epoch. end: default .9, so
    that the last arrivals are trained. Other options: `MaskedTraining`; distribution "erk" or "uniform".
    Source: D. C. Mocanu et al. 2018, arXiv 1707.04780 (ζ = .3).
    """

    name = "set"
    regrows = True

    def __init__(
        self,
        *,
        sparsity: float | None = None,
        distribution: str = "erk",
        zeta: float = 0.3,
        begin: float = 0.0,
        end: float = 0.9,
        interval: int | None = None,
        **options: Unpack[MaskOptions],
    ) -> None:
        dealt_out(self.name, distribution)
        check_number(self.name, "zeta", zeta, ACTIVE, above=0, below=1)
        self.zeta = zeta
        super().__init__(sparsity=sparsity, distribution=distribution, begin=begin, end=end, interval=interval, **options)

    def _start(self, masks: Masks) -> dict[str, Tensor]:
        return topology.scatter(masks.masks, self._wanted(self.sparsity), masks.lots())

    def _update(self, masks: Masks, step: int) -> dict[str, Tensor]:
        lots = masks.lots()
        chosen = topology.exchange(masks.weights, masks.masks, lots, self.zeta, by_sign=True)
        return self._filled(chosen, lots, None, self.sparsity) if self.settled else chosen

    def _schedule(self, budget: Budget) -> Window:
        window = super()._schedule(budget)
        return window if self.interval or not budget.steps else Window(window.begin, window.end, max(1, budget.steps // 20))


class RigL(GrowingTraining):
    """Rigged lottery.

    At every update each tensor drops the share d of its active weights of smallest |w|, d = α (1 + cos πu)/2 with the progress u, and
    activates as many others of largest |g|, starting at 0; g is the dense gradient of the step before the update, taken from its own
    backward pass. growth: see `GrowingTraining`. Other options: `MaskedTraining`; distribution "erk" or "uniform".
    Source: U. Evci et al. 2020, arXiv 1911.11134 (α = .3, every 100 steps, end .75); momentum: arXiv 1907.04840.
    """

    name = "rigl"

    def __init__(
        self,
        *,
        sparsity: float | None = None,
        distribution: str = "erk",
        alpha: float = 0.3,
        growth: str = "gradient",
        begin: float = 0.0,
        end: float = 0.75,
        interval: int | None = None,
        **options: Unpack[MaskOptions],
    ) -> None:
        dealt_out(self.name, distribution)
        check_number(self.name, "alpha", alpha, ACTIVE, above=0, below=1)
        self.alpha = alpha
        super().__init__(growth=growth, sparsity=sparsity, distribution=distribution, begin=begin, end=end, interval=interval, **options)

    def _start(self, masks: Masks) -> dict[str, Tensor]:
        return topology.scatter(masks.masks, self._wanted(self.sparsity), masks.lots())

    def _update(self, masks: Masks, step: int) -> dict[str, Tensor] | None:
        rate = topology.cosine_rate(self._window.progress(step), self.alpha)
        scores = topology.magnitudes(self._growth(masks))
        if not scores:
            return None
        chosen = topology.exchange(masks.weights, masks.masks, scores, rate)
        return self._filled(chosen, scores, None, self.sparsity) if self.settled else chosen
