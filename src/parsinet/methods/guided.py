"""How many units may leave before a metric falls too far."""

from __future__ import annotations

import math
import numbers
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from parsinet.distributed import ALONE, Ranks
from parsinet.errors import UsageError
from parsinet.measure.examples import evaluating
from parsinet.methods.undisturbed import undisturbed
from parsinet.structure import Structure, silence

STEP = 0.05
"""Of the units, more and more of which are tried."""


@dataclass(frozen=True)
class Borne:
    """How much a metric bears. share: of the units; whole: the metric of the whole network; left: of the network without them."""

    share: float
    whole: float
    left: float


def largest_share(
    who: str,
    model: nn.Module,
    structure: Structure,
    masks: Callable[[float], Mapping[str, Tensor]],
    metric: Callable[[], float],
    max_fall: float,
    limit: float = 1.0,
    step: float = STEP,
    ranks: Ranks = ALONE,
) -> Borne:
    """The last of the shares step, 2·step, … limit before the one at which the metric has fallen by more than max_fall of itself.

    masks: share → the units that stay. metric: judges the model as it stands, larger is better; it is asked in evaluation mode with the
    units silenced, and the model is left as it was, modes, buffers and torch's random numbers with it. The share is 0 if already the first
    is too much. ranks: processes that train together; the mean over them decides. Raises UsageError for a metric that is no number, or not
    above zero for the whole network.
    Source: the metric-guided search of SpectralTools, which steps back by a fixed 5 whatever its step is; this one returns the last share
    that held.
    """
    whole = ranks.mean_number(_judged(who, model, metric))
    if not 0 < whole < math.inf:
        raise UsageError(f"{who}: the metric of the whole network is {whole}; a fall relative to it needs a positive, finite one.")
    held, count = Borne(0.0, whole, whole), 1
    while held.share < limit:
        share = min(limit, count * step)
        with silence(model, structure.plan(masks(share))):
            left = ranks.mean_number(_judged(who, model, metric))
        if not (whole - left) / whole <= max_fall:  # nor where it is no number
            return held
        held, count = Borne(share, whole, left), count + 1
    return held


def _judged(who: str, model: nn.Module, metric: Callable[[], float]) -> float:
    with evaluating(model), undisturbed(model):
        found: Any = metric()
    if isinstance(found, Tensor) and found.numel() == 1:
        return float(found)
    if not isinstance(found, numbers.Real):
        raise UsageError(f"{who}: metric must return a number that judges the network, larger is better; it returned {found!r}.")
    return float(found)
