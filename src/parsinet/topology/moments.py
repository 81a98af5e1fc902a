"""What optimizers remember of weights that leave or come back: nothing, unless an optimizer offers to decide by itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor, nn

BEGINNINGS: tuple[tuple[type[torch.optim.Optimizer], str, str], ...] = (
    (torch.optim.Rprop, "step_size", "lr"),
    (torch.optim.Adagrad, "sum", "initial_accumulator_value"),
)
"""State that does not begin at zero: of which optimizer, under which key, and the option of its groups that it begins at."""


@runtime_checkable
class MaskAware(Protocol):
    """An optimizer that is told of masks and answers for hidden weights: their state, and the value with which they come back."""

    def set_masks(self, masks: Mapping[Tensor, Tensor]) -> None:
        """Masks (bool, of the parameter's shape, True active) of some of its parameters, all of them new from now on."""


def forget_(optimizers: Sequence[torch.optim.Optimizer], weight: nn.Parameter, stayed: Tensor) -> None:
    """Every moment of the weight as it begins but where it stayed (1, elsewhere 0): state of the weight's shape, wherever an optimizer
    keeps it."""
    for optimizer in optimizers:
        if weight in optimizer.state:
            for key, value in optimizer.state[weight].items():
                if isinstance(value, Tensor) and value.shape == weight.shape and value.is_floating_point():
                    value.mul_(stayed)
                    if beginning := _beginning(optimizer, weight, key):
                        value.add_(1 - stayed, alpha=beginning)


def _beginning(optimizer: torch.optim.Optimizer, weight: nn.Parameter, key: str) -> float:
    options = [option for kind, name, option in BEGINNINGS if isinstance(optimizer, kind) and name == key]
    groups = (group for group in optimizer.param_groups if any(parameter is weight for parameter in group["params"]))
    return float(next(groups)[options[0]]) if options else 0.0


def tell(optimizers: Sequence[torch.optim.Optimizer], weights: Mapping[str, nn.Parameter], masks: Mapping[str, Tensor]) -> set[str]:
    """Give the masks to the optimizers that want them; returns the names of the weights they answer for."""
    answered: set[str] = set()
    for optimizer in optimizers:
        if isinstance(optimizer, MaskAware):
            held = {id(parameter) for group in optimizer.param_groups for parameter in group["params"]}
            own = [name for name, weight in weights.items() if id(weight) in held]
            optimizer.set_masks({weights[name]: masks[name] for name in own})
            answered.update(own)
    return answered
