"""What a method with random factors on units says of them: how they start, are drawn and tested, what they cost, who is dead."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping

import torch
from torch import Tensor

from parsinet.errors import UsageError
from parsinet.methods import Budget
from parsinet.methods.given import Remembering
from parsinet.structure import Structure


class Distribution(Remembering, ABC):
    """A family of factors, one per unit. `values` are its trained numbers by name, one row [units] each."""

    name: str
    precision: torch.dtype | None = None
    """Of the numbers; None for that of the network."""

    @abstractmethod
    def _start(self, units: int) -> dict[str, Tensor]:
        """The distributions' numbers at the start, one row per name."""

    @abstractmethod
    def _draw(self, values: Mapping[str, Tensor], shape: tuple[int, ...]) -> Tensor:
        """Factors [*shape, units], differentiable in the values."""

    @abstractmethod
    def _test(self, values: Mapping[str, Tensor]) -> Tensor:
        """What stands for the factor in evaluation, [units]."""

    @abstractmethod
    def _worth(self, values: Mapping[str, Tensor]) -> Tensor:
        """How much a unit deserves to stay, [units]."""

    @abstractmethod
    def _dead(self, values: Mapping[str, Tensor]) -> Tensor:
        """Which units may leave, bool [units]."""

    @abstractmethod
    def _cost(self, values: Mapping[str, Tensor]) -> Tensor:
        """What is added to a mean loss, a scalar."""

    def _bound_(self, values: Mapping[str, Tensor]) -> None:  # some need no bounds
        """Hold the numbers where their formulas hold, in place."""

    def _weigh(self, structure: Structure) -> None:  # some weigh all units alike
        """Look at the structure, at the start and after every removal."""

    def _seen(self, group: str, h: Tensor) -> None:  # most costs do not depend on the inputs
        """Look at what a reader of the group is given."""

    def _checked(self, budget: Budget) -> int:
        """The number of training examples, which the cost is divided by."""
        if budget.examples is None:
            raise UsageError(f"{self.name}: its penalty is divided by the number of training examples; give Pruner(..., examples=N).")
        return budget.examples
