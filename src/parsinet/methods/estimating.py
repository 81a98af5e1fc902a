"""Which estimator tells gates what they are worth, and what it asks for: the backward passes of training, or the loss once more."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from torch import Tensor, nn

from parsinet.gates import ESTIMATORS, LABEL_ESTIMATORS, PAIR_ESTIMATORS, Estimator
from parsinet.methods.comparing import Pairs
from parsinet.methods.gating import GateBank
from parsinet.methods.options import check_known
from parsinet.methods.relabelling import Relabelled


class Estimating:
    """An estimator by the name a recipe uses. Raises UsageError for a name that is none."""

    def __init__(self, name: str) -> None:
        check_known("Gates", "estimator", name, [*ESTIMATORS, *LABEL_ESTIMATORS, *PAIR_ESTIMATORS])
        self.name = name
        self._asking: Pairs | Relabelled | None = None
        if name in PAIR_ESTIMATORS:
            self._asking = Pairs(PAIR_ESTIMATORS[name])
        elif name in LABEL_ESTIMATORS:
            self._asking = Relabelled(LABEL_ESTIMATORS[name])

    @property
    def heard(self) -> Estimator | None:
        """What is made of the derivatives of training's backward passes; None if they are not asked."""
        return ESTIMATORS.get(self.name)

    @property
    def asks(self) -> bool:
        """Whether the loss must be evaluated again."""
        return self._asking is not None

    def probe(self, loss: Callable[[], Tensor], model: nn.Module, bank: GateBank) -> None:
        """Evaluate the loss of the present batch, if the estimator asks for it."""
        if self._asking is not None:
            self._asking.compare(loss, model, bank)

    def estimates(self, bank: GateBank) -> Mapping[str, Tensor]:
        """ĝ per group since the last step; empty if there was nothing to learn from."""
        if self._asking is None:
            return bank.estimates()
        found = self._asking.take()
        return {} if found is None else bank.split(found)
