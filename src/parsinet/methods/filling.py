"""Masks that count what leaves with unread units: when these are gone, a target's number of parameters is left."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from math import prod

import torch
from torch import Tensor, nn

from parsinet import topology
from parsinet.methods.ranking import round_up
from parsinet.methods.units import ROUNDS, between, losing, without_unread
from parsinet.structure import Structure

Tensors = Mapping[str, Tensor]


class Rest:
    """The parameters of a network that no mask hides: biases, norms, layers left out. They leave with the units they belong to.

    masked: the weights under masks, at the start. multiple: what numbers of units are kept at, so that some stay that nobody reads.
    """

    def __init__(self, model: nn.Module, masked: Mapping[str, nn.Parameter], multiple: int = 1) -> None:
        hidden = {id(weight) for weight in masked.values()}
        self._free = {name: parameter for name, parameter in model.named_parameters() if id(parameter) not in hidden}
        self._multiple = multiple
        self._first = sum(parameter.numel() for parameter in self._free.values())

    def left(self, structure: Structure, masks: Tensors, *, unread_leave: bool = True) -> int:
        """Parameters that are not zero in the network, without the units that nobody reads under `masks` if these leave."""
        if not unread_leave:
            return self._first + sum(int(mask.sum()) for mask in masks.values())
        alive = {name: round_up(torch.from_numpy(mask), None, self._multiple).numpy() for name, mask in losing(structure, masks).items()}
        slots = structure.layout.tensors
        free = 0
        for name, parameter in self._free.items():
            sizes = [int(slots[name, d].keep(alive).sum()) if (name, d) in slots else size for d, size in enumerate(parameter.shape)]
            free += prod(sizes)
        return free + sum(int(mask.sum()) for mask in between(structure, alive, masks).values())

    def pruned(self, structure: Structure, prune: Callable[[int], dict[str, Tensor]], active: int) -> dict[str, Tensor]:
        """Masks by `prune`, from how many weights beyond `active` stay: as many as make up for what leaves with unread units, and no more.

        What is pruned never comes back, and with fewer readers more units leave: so their room is counted before, not filled afterwards.
        """
        extra, chosen = 0, prune(0)
        missing = self._missing(structure, chosen, active)
        for _ in range(ROUNDS):
            if missing <= 0:
                break
            more = prune(extra + missing)
            still = self._missing(structure, more, active)
            if still < 0:
                break
            extra, chosen, missing = extra + missing, more, still
        return chosen

    def filled(self, structure: Structure, masks: Tensors, scores: Tensors, spare: Tensors | None, active: int) -> dict[str, Tensor]:
        """`masks`, and of the `spare` entries (all, if None) those of highest score: as many as make up for what leaves with unread units.

        The network then has as many parameters that are not zero without these units as it would have with `active` weights and all its
        units, or as near to that as the spare entries go. What joins lies between units that stay, so that none is read again for it.
        """
        missing = self._missing(structure, masks, active)
        if missing <= 0:
            return dict(masks)
        places = without_unread(structure, masks, {name: torch.ones_like(mask) for name, mask in masks.items()})
        open_ = {name: places[name] & ~mask & (True if spare is None else spare[name]) for name, mask in masks.items()}
        room = sum(int(mask.sum()) for mask in open_.values())
        joined = topology.choose({name: scores[name] for name in masks}, min(missing, room), open_)
        return {name: mask | joined[name] for name, mask in masks.items()}

    def _missing(self, structure: Structure, masks: Tensors, active: int) -> int:
        return self._first + active - self.left(structure, masks)
