"""How many units may leave before a metric falls too far."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from torch import Tensor, nn

from parsinet.errors import UsageError
from parsinet.structure import Structure, silence


def largest_share(
    who: str,
    model: nn.Module,
    structure: Structure,
    masks: Callable[[float], Mapping[str, Tensor]],
    metric: Callable[[], float],
    max_fall: float,
    limit: float = 1.0,
    step: float = 0.05,
) -> float:
    """The last of the shares step, 2·step, … limit before the one at which the metric has fallen by more than max_fall of itself.

    masks: share → the units that stay. metric: judges the model as it stands, larger is better; it is asked with the units silenced, and
    the model is left as it was. Returns 0.0 if already the first share is too much.
    Source: the metric-guided search of SpectralTools, which steps back by a fixed 5 whatever its step is; this one returns the last share
    that held.
    """
    whole = metric()
    if not whole > 0:
        raise UsageError(f"{who}: the metric of the whole network is {whole}; a fall relative to it needs a positive one.")
    held, count = 0.0, 1
    while held < limit:
        share = min(limit, count * step)
        with silence(model, structure.plan(masks(share))):
            fallen = (whole - metric()) / whole
        if not fallen <= max_fall:  # nor where it is no number
            return held
        held, count = share, count + 1
    return held
