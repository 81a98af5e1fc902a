"""Numbers per unit that train beside the network: rows over all units of all groups, moved by an Adam of their own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from parsinet.distributed import ALONE, Ranks, pooled
from parsinet.errors import StructureError

DECAY = (0.9, 0.999)
EPSILON = 1e-8


class Rows:
    """Trained rows by name, one entry per unit, all groups one behind the other; they are leaves of autograd.

    sizes: group → units. rate: learning rate of Adam (D. Kingma and J. Ba 2015, arXiv 1412.6980, β = .9 and .999).
    marked: bool, one entry per unit, free for the method. ranks: processes that train together; gradients are means over them.
    """

    def __init__(self, sizes: Mapping[str, int], start: Mapping[str, Tensor], rate: float, ranks: Ranks = ALONE) -> None:
        self.sizes = dict(sizes)
        self._ranks = ranks
        self.rate = rate
        self.values = {name: row.detach().clone().requires_grad_() for name, row in start.items()}
        self.marked = torch.zeros(sum(self.sizes.values()), dtype=torch.bool, device=next(iter(start.values())).device)
        self._moments = {name: torch.zeros(2, *row.shape, dtype=row.dtype, device=row.device) for name, row in start.items()}
        self._count = 0

    def split(self, row: Tensor) -> dict[str, Tensor]:
        """A row over all units as one view per group."""
        return dict(zip(self.sizes, torch.split(row, list(self.sizes.values())), strict=True))

    def of(self, group: str) -> dict[str, Tensor]:
        """The trained values of one group, differentiable."""
        return {name: self.split(row)[group] for name, row in self.values.items()}

    @torch.no_grad()
    def learn(self) -> None:
        """One step of Adam along the gradients since the last; nothing where no backward pass came. What is not finite counts as 0."""
        found = {name: row.grad for name, row in self.values.items() if row.grad is not None}
        gradients = pooled(found, self.values, self._ranks)
        if not gradients:
            return
        self._count += 1
        for name, gradient in gradients.items():
            row, (first, second) = self.values[name], self._moments[name]
            gradient.nan_to_num_(0, 0, 0)
            first.lerp_(gradient, 1 - DECAY[0])
            second.lerp_(gradient.square(), 1 - DECAY[1])
            scale = (second / (1 - DECAY[1] ** self._count)).sqrt_().add_(EPSILON)
            row.addcdiv_(first, scale, value=-self.rate / (1 - DECAY[0] ** self._count))
            row.grad = None

    def keep(self, alive: Mapping[str, Tensor]) -> None:
        """Follow a removal: only the units under the masks remain."""
        device = self.marked.device
        whole = {group: torch.ones(size, dtype=torch.bool) for group, size in self.sizes.items()}
        mask = torch.cat([alive.get(group, whole[group]).to(device) for group in self.sizes])
        self.sizes.update({group: int(alive[group].sum()) for group in self.sizes if group in alive})
        self.values = {name: row.detach()[mask].requires_grad_() for name, row in self.values.items()}
        self._moments = {name: both[:, mask] for name, both in self._moments.items()}
        self.marked = self.marked[mask]

    def state_dict(self) -> dict[str, Any]:
        """Values, moments, marks and the count of steps."""
        return {
            "sizes": dict(self.sizes),
            "values": {name: row.detach().clone() for name, row in self.values.items()},
            "moments": {name: both.clone() for name, both in self._moments.items()},
            "marked": self.marked.clone(),
            "count": self._count,
        }

    @torch.no_grad()
    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue bitwise where the state was taken. Raises StructureError, with nothing changed, if it is of other units."""
        if dict(state["sizes"]) != self.sizes:
            raise StructureError(f"The saved gates are of groups {dict(state['sizes'])}; here are {self.sizes}.")
        for name, row in self.values.items():
            row.copy_(state["values"][name])
            row.grad = None
            self._moments[name].copy_(state["moments"][name])
        self.marked.copy_(state["marked"])
        self._count = int(state["count"])
