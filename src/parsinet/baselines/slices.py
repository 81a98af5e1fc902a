"""Which weights belong to a unit: those that make it and those that read it, as slices of tensors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from parsinet.methods.weighing import spread
from parsinet.structure import Structure
from parsinet.structure.removal import tensors_of

SIDES = ("incoming", "outgoing")


@dataclass(frozen=True, eq=False)
class Slices:
    """Dimension `dim` of the named tensor belongs to units: index i to unit owner[i], -1 for none."""

    tensor: str
    dim: int
    owner: Tensor

    def sums(self, tensor: Tensor, units: int) -> Tensor:
        """The sum of the tensor over each unit's slices, float64 [units]."""
        rows = tensor.movedim(self.dim, 0).reshape(tensor.shape[self.dim], -1).sum(1).double()
        owner = self.owner.to(rows.device)
        real = owner >= 0
        return rows.new_zeros(units).index_add(0, owner[real], rows[real])

    def spread(self, values: Tensor, tensor: Tensor) -> Tensor:
        """One value per unit [units] as a factor that broadcasts against the tensor: 1 at indices of no unit."""
        index = self.owner.where(self.owner >= 0, len(values)).to(values.device)
        return spread(values, index, self.dim, tensor.dim()).to(tensor)


def outgoing(structure: Structure, group: str) -> list[Slices]:
    """The weights that read the group's units; with zeros there nobody reads them."""
    places = sorted((tensor, dim) for tensor, dim, read in structure.layout.read_dims if read == group)
    return [Slices(tensor, dim, structure.owners(tensor, dim)[group]) for tensor, dim in places]


def incoming(structure: Structure, group: str) -> list[Slices]:
    """The weights that make the group's units, without biases and norms; with zeros there the units are constant."""
    read = structure.layout.read_dims
    places = [(tensor, dim) for tensor, dim in sorted(structure.layout.produced) if (tensor, dim, group) not in read]
    found = [(tensor, dim, structure.owners(tensor, dim)) for tensor, dim in places]
    return [Slices(tensor, dim, owners[group]) for tensor, dim, owners in found if group in owners]


def slices(structure: Structure, group: str, side: str) -> list[Slices]:
    """The group's weights on one of `SIDES`; where no weight makes the units (inputs of the network) those that read them."""
    return (incoming(structure, group) if side == "incoming" else []) or outgoing(structure, group)


def squared_norms(parts: Sequence[Slices], tensors: Mapping[str, Tensor], units: int) -> Tensor:
    """Σ w² over the weights of each unit, float64 [units]."""
    found = [part.sums(tensors[part.tensor].detach().abs().square(), units) for part in parts]
    return torch.stack(found).sum(0)


def counts(parts: Sequence[Slices], tensors: Mapping[str, Tensor], units: int) -> Tensor:
    """How many weights each unit has, float64 [units]."""
    return torch.stack([part.sums(torch.ones_like(tensors[part.tensor], dtype=torch.float64), units) for part in parts]).sum(0)


def unscalable(model: nn.Module, structure: Structure, group: str) -> str:
    """Why a factor on the group's units cannot move into the weights that read them; "" if it can."""
    tensors, parts, layout = tensors_of(model), outgoing(structure, group), structure.layout
    if not parts:
        return "no weight reads it"
    names = [name for name, tensor in tensors.items() for part in parts if tensor is tensors[part.tensor]]
    computed = {norm.v for norm in layout.norms}
    plain = {part.tensor.rpartition(".")[0] for part in parts if part.tensor not in computed}
    if any(reader.module not in plain for reader in structure.readers(group)):
        return "one of its readers has no plain weight that a factor could move into"
    if len(names) > len(parts) or any((part.tensor, part.dim) in layout.produced for part in parts):
        return "the weight of one of its readers is shared, so that a factor cannot move into it"
    return ""


@torch.no_grad()
def scale_(model: nn.Module, structure: Structure, group: str, factor: Tensor) -> None:
    """Multiply what is read of every unit by its factor [units], in place, in the weights that read it."""
    tensors = tensors_of(model)
    for part in outgoing(structure, group):
        tensors[part.tensor].mul_(part.spread(factor, tensors[part.tensor]))
