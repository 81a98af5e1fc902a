"""Which unit owns which index of a gated axis, and how gates and derivatives travel between the two."""

from dataclasses import dataclass

import torch
from torch import Tensor

from parsinet.errors import UsageError


@dataclass(frozen=True, eq=False)
class Owner:
    """A map from the indices of an axis to units: a flattened convolution gives every unit (channel) a block of H·W indices.

    index: int64 [n_axis], the unit of each index; n where it belongs to none and is never gated. units: n. block: length of the blocks if
    unit 0 owns the first `block` indices, unit 1 the next `block`, and so on; None for any other map. whole: whether every index has a
    unit. Build it with `Owner.of`, once: looking for blocks reads the whole index.
    """

    index: Tensor
    units: int
    block: int | None
    whole: bool = True

    @classmethod
    def of(cls, index: Tensor, units: int | None = None) -> "Owner":
        """Read a map. index: int64 [n_axis] with values in 0 … units−1, or −1 for no unit. units: n, by default the largest value + 1.

        Raises UsageError for an index of another form.
        """
        if index.dim() != 1 or index.dtype != torch.int64 or len(index) == 0:
            raise UsageError(f"Owner: index must be a non-empty int64 vector, got {index.dtype} of shape {tuple(index.shape)}.")
        low, high = int(index.min()), int(index.max())
        count = high + 1 if units is None else units
        if low < -1 or high >= count or count < 1:
            raise UsageError(f"Owner: index must hold units 0 … {count - 1}, or -1 for none, got values from {low} to {high}.")
        if low == -1:
            return cls(index.where(index >= 0, count), count, None, whole=False)
        block, rest = divmod(len(index), count)
        regular = rest == 0 and torch.equal(index, torch.arange(count, device=index.device).repeat_interleave(block))
        return cls(index, count, block if regular else None)

    def spread(self, xi: Tensor) -> Tensor:
        """One value per unit [..., n] to one per index [..., n_axis]."""
        if not self.whole:
            xi = torch.cat([xi, xi.new_ones((*xi.shape[:-1], 1))], -1)
        if self.block is None:
            return xi.index_select(-1, self.index.to(xi.device))
        return xi if self.block == 1 else xi.repeat_interleave(self.block, -1)

    def collect(self, q: Tensor) -> Tensor:
        """The sum over the indices of each unit: [B, n_axis] to [B, n]."""
        if self.block is None:
            sums = q.new_zeros(len(q), self.units + (not self.whole)).index_add_(1, self.index.to(q.device), q)
            return sums[:, : self.units]
        return q if self.block == 1 else q.reshape(len(q), self.units, self.block).sum(-1)
