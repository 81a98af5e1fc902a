"""Step sizes η as pure functions of progress: a step on the sphere does not shrink with the gradient, so η has to."""

import itertools
import math
from collections.abc import Sequence

from parsinet.errors import UsageError

AUTHORS_VALUES = (0.04 / 256, 2 / 256, 0.5 / 256, 0.004 / 256, 0.0002 / 256)
"""η at the authors' five knots (Fashion-MNIST demo)."""


def piecewise_linear(progress: float, knots: Sequence[float], values: Sequence[float]) -> float:
    """The value at `progress` of straight lines through (knot, value), constant outside.

    progress: share of the run done, in [0, 1]. knots: rising, at least one. Raises UsageError for anything else.
    """
    _check("piecewise_linear", progress)
    if len(knots) != len(values) or not knots or any(right <= left for left, right in itertools.pairwise(knots)):
        raise UsageError(f"piecewise_linear: knots must rise and be as many as values, got {list(knots)} and {list(values)}.")
    if progress <= knots[0]:
        return values[0]
    for (left, right), (low, high) in zip(itertools.pairwise(knots), itertools.pairwise(values), strict=True):
        if progress <= right:
            return low + (high - low) * (progress - left) / (right - left)
    return values[-1]


def authors(progress: float, epochs: int = 50) -> float:
    """The authors' η: up to 7.8e-3 in the first sixth of the run, 2e-3 at a third, 1.6e-5 three epochs before the end, 7.8e-7 at it.

    Knots at epochs 0, E/6, E/3, E − 3, E; values (0.04, 2, 0.5, 0.004, 0.0002)/256.

    progress: share of the run done, in [0, 1]. epochs: E ≥ 5, so that the knots rise. Raises UsageError otherwise.
    Source: demo in the authors' code for arXiv 2103.16013.
    """
    if epochs < 5:
        raise UsageError(f"authors: epochs must be ≥ 5 for the knots 0, E/6, E/3, E − 3, E to rise, got {epochs}.")
    return piecewise_linear(progress, (0, 1 / 6, 1 / 3, 1 - 3 / epochs, 1), AUTHORS_VALUES)


def linear(progress: float, peak: float, final: float = 0.0, warmup: float = 0.0) -> float:
    """η from 0 to `peak` over the first `warmup` share of the run, then in a straight line to `final` at its end.

    progress in [0, 1], warmup in [0, 1), peak and final ≥ 0. Raises UsageError otherwise.
    """
    rising, descent = _phases("linear", progress, peak, final, warmup)
    return peak * rising if rising < 1 else peak + (final - peak) * descent


def cosine(progress: float, peak: float, final: float = 0.0, warmup: float = 0.0) -> float:
    """As `linear`, but down along half a cosine: final + (peak − final)·(1 + cos πu)/2, u the share of the descent done."""
    rising, descent = _phases("cosine", progress, peak, final, warmup)
    return peak * rising if rising < 1 else final + (peak - final) * (1 + math.cos(math.pi * descent)) / 2


def _phases(who: str, progress: float, peak: float, final: float, warmup: float) -> tuple[float, float]:
    """(share of the warm-up done, share of the descent done)."""
    _check(who, progress)
    if not 0 <= warmup < 1:
        raise UsageError(f"{who}: warmup must be in [0, 1), got {warmup}.")
    if not (0 <= peak < math.inf and 0 <= final < math.inf):
        raise UsageError(f"{who}: peak and final must be ≥ 0, got {peak} and {final}.")
    if progress < warmup:
        return progress / warmup, 0.0
    return 1.0, (progress - warmup) / (1 - warmup)


def _check(who: str, progress: float) -> None:
    if not 0 <= progress <= 1:
        raise UsageError(f"{who}: progress must be in [0, 1], got {progress}.")
