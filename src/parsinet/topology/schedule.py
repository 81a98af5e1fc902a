"""When masks change and how far: the window of updates, the cubic count controller, the falling drop rate, the bang-bang controller."""

from __future__ import annotations

from dataclasses import dataclass
from math import cos, pi

from parsinet.errors import UsageError


@dataclass(frozen=True)
class Window:
    """The steps (1-based, counted when they are over) after which masks are updated: multiples of `interval` from begin on, and end.

    Raises UsageError unless 1 ≤ begin ≤ end and interval ≥ 1.
    """

    begin: int
    end: int
    interval: int

    def __post_init__(self) -> None:
        if not 1 <= self.begin <= self.end or self.interval < 1:
            raise UsageError(f"Window: needs 1 ≤ begin ≤ end and interval ≥ 1, got {self.begin}, {self.end} and {self.interval}.")

    def due(self, step: int) -> bool:
        """Whether the masks change after this step."""
        return step == self.end or (self.begin <= step < self.end and step % self.interval == 0)

    def progress(self, step: int) -> float:
        """u in [0, 1]: 0 up to begin, 1 from end on."""
        if step >= self.end:
            return 1.0
        return 0.0 if step <= self.begin else (step - self.begin) / (self.end - self.begin)


def cubic_sparsity(progress: float, final: float, initial: float = 0.0, ramp: float = 1.0) -> float:
    """s = s* + (s0 − s*)(1 − u)³, u = min(progress/ramp, 1): fast at first, then ever slower.

    ramp: the share of the window in which the sparsity moves; masks may still change in the rest.
    Source: M. Zhu and S. Gupta 2017, arXiv 1710.01878, equation 1.
    """
    u = min(progress / ramp, 1.0)
    return final + (initial - final) * (1 - u) ** 3


def cosine_rate(progress: float, initial: float) -> float:
    """d = d0 (1 + cos πu)/2: the share of weights exchanged per update falls from d0 to 0.

    Source: U. Evci et al. 2020, arXiv 1911.11134, section 3 (after T. Dettmers and L. Zettlemoyer, arXiv 1907.04840).
    """
    return initial * (1 + cos(pi * progress)) / 2


@dataclass(frozen=True)
class BangBang:
    """Steers sparsity by the share f of dropped weights that are replaced, as the authors' code of arXiv 2103.16013 does.

    f = (1 − δ) s/s* while s < s*(1 − d/2), so that s rises, else (1 + δ) s/s*. It hovers below the target: equilibrium at s*/(1 + δ)
    for a constant drop rate d > 2δ/(1 + δ) (derived). `cubic_sparsity` meets the target exactly.
    """

    target: float
    delta: float = 0.05

    def replaced_share(self, sparsity: float, rate: float) -> float:
        """f for the next update, from the present sparsity and drop rate."""
        sign = -1 if sparsity < self.target * (1 - rate / 2) else 1
        return (1 + sign * self.delta) * sparsity / self.target
