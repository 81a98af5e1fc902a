"""What optimizers remember of weights that leave or come back: nothing, unless an optimizer offers to decide by itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor, nn

STILL = (
    torch.optim.SGD,
    torch.optim.Adam,
    torch.optim.AdamW,
    torch.optim.Adamax,
    torch.optim.NAdam,
    torch.optim.RAdam,
    torch.optim.RMSprop,
    torch.optim.Adagrad,
    torch.optim.Adadelta,
)
"""Optimizers that work entry by entry: a weight of zero whose moments and gradient are zero stays exactly zero."""


@runtime_checkable
class MaskAware(Protocol):
    """An optimizer that is told of masks and answers for hidden weights: their state, and the value with which they come back."""

    def set_masks(self, masks: Mapping[Tensor, Tensor]) -> None:
        """Masks (bool, of the parameter's shape, True active) of some of its parameters, all of them new from now on."""


def forget_(optimizers: Sequence[torch.optim.Optimizer], weight: nn.Parameter, stayed: Tensor) -> None:
    """Zero every moment of the weight but where it stayed (1, elsewhere 0): state of the weight's shape, wherever an optimizer keeps it."""
    for optimizer in optimizers:
        if weight in optimizer.state:
            for value in optimizer.state[weight].values():
                if isinstance(value, Tensor) and value.shape == weight.shape and value.is_floating_point():
                    value.mul_(stayed)


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


def moved(optimizers: Sequence[torch.optim.Optimizer], weights: Mapping[str, nn.Parameter]) -> list[str]:
    """Weights whose hidden entries an optimizer may move, so that zeros must be restored after every step; all if none is given."""
    known = [optimizer for optimizer in optimizers if type(optimizer) in STILL]
    still = {id(parameter) for optimizer in known for group in optimizer.param_groups for parameter in group["params"]}
    other = {id(p) for o in optimizers if type(o) not in STILL for group in o.param_groups for p in group["params"]}
    return [name for name, weight in weights.items() if id(weight) not in still or id(weight) in other]
