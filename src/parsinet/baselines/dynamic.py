"""Dynamic sparse training: a random sparse network whose weights are exchanged while it trains, SET and RigL."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from parsinet import topology
from parsinet.baselines.random_mask import dealt_out
from parsinet.errors import UsageError
from parsinet.methods import GrowingTraining, MaskedTraining
from parsinet.methods.base import Budget
from parsinet.topology import Masks, Window


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
        target: str | None = None,
        distribution: str = "erk",
        zeta: float = 0.3,
        begin: float = 0.0,
        end: float = 0.9,
        interval: int | None = None,
        exclude: Sequence[str] = (),
        remove_units: bool = True,
        seed: int = 0,
    ) -> None:
        dealt_out(self.name, distribution)
        self.zeta = _rate(self.name, "zeta", zeta)
        super().__init__(
            sparsity=sparsity,
            target=target,
            distribution=distribution,
            begin=begin,
            end=end,
            interval=interval,
            exclude=exclude,
            remove_units=remove_units,
            seed=seed,
        )

    def _start(self, masks: Masks) -> dict[str, Tensor]:
        return topology.scatter(masks.masks, self._wanted(self.sparsity), masks.lots())

    def _update(self, masks: Masks, step: int) -> dict[str, Tensor]:
        return topology.exchange(masks.weights, masks.masks, masks.lots(), self.zeta, by_sign=True)

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
        target: str | None = None,
        distribution: str = "erk",
        alpha: float = 0.3,
        growth: str = "gradient",
        begin: float = 0.0,
        end: float = 0.75,
        interval: int | None = None,
        exclude: Sequence[str] = (),
        remove_units: bool = True,
        seed: int = 0,
    ) -> None:
        dealt_out(self.name, distribution)
        self.alpha = _rate(self.name, "alpha", alpha)
        super().__init__(
            growth=growth,
            sparsity=sparsity,
            target=target,
            distribution=distribution,
            begin=begin,
            end=end,
            interval=interval,
            exclude=exclude,
            remove_units=remove_units,
            seed=seed,
        )

    def _start(self, masks: Masks) -> dict[str, Tensor]:
        return topology.scatter(masks.masks, self._wanted(self.sparsity), masks.lots())

    def _update(self, masks: Masks, step: int) -> dict[str, Tensor] | None:
        rate = topology.cosine_rate(self._window.progress(step), self.alpha)
        scores = topology.magnitudes(self._growth(masks))
        return topology.exchange(masks.weights, masks.masks, scores, rate) if scores else None


def _rate(name: str, option: str, value: float) -> float:
    if not 0 < value < 1:
        raise UsageError(f"{name}: {option} is a share of the active weights and must be > 0 and < 1, got {value}.")
    return value
