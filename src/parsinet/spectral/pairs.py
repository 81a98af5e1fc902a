"""Which two nodes a weight joins: the factor λ_in,j − λ_out,i of every pair, laid out as the layer's weight is."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Pairs:
    """How a weight [d0, d1, *taps] names its pairs of sender and receiver.

    groups: number of separate blocks of channels. sending_rows: True where d0 counts senders (transposed convolution), else receivers.
    With C' = d1 the pair of entry (o, c') is receiver o and sender ⌊o / (d0/groups)⌋·C' + c', roles swapped where rows send.
    Source: our generalisation of the published fully connected case.
    """

    groups: int = 1
    sending_rows: bool = False

    def factor(self, lambda_in: Tensor, lambda_out: Tensor) -> Tensor:
        """λ_in,j − λ_out,i for every pair, [d0, d1]; of size 1 in a dimension whose set is one constant (a 0-dim tensor).

        lambda_in: [n_in] or []; lambda_out: [n_out] or [].
        """
        rows, columns = (lambda_in, lambda_out) if self.sending_rows else (lambda_out, lambda_in)
        rows, columns = self._spread(rows, columns)
        return rows - columns if self.sending_rows else columns - rows

    def sums(self, pairs: Tensor, like_in: Tensor, like_out: Tensor) -> tuple[Tensor, Tensor]:
        """Gradients of both sets from ∂L/∂factor: Σ over the receivers of each sender, −Σ over the senders of each receiver.

        pairs: [d0, d1]. like_in, like_out: the sets, for their shapes.
        """
        rows = pairs.sum(1)
        columns = pairs.reshape(self.groups, -1, pairs.shape[1]).sum(1).reshape(-1)
        senders, receivers = (rows, columns) if self.sending_rows else (columns, rows)
        return senders.sum_to_size(like_in.shape), -receivers.sum_to_size(like_out.shape)

    def _spread(self, rows: Tensor, columns: Tensor) -> tuple[Tensor, Tensor]:
        if self.groups == 1 or columns.dim() == 0:
            return rows.reshape(-1, 1) if rows.dim() == 0 else rows.unsqueeze(1), columns.unsqueeze(0)
        blocks = columns.reshape(self.groups, 1, -1)
        if rows.dim() == 0:
            raise AssertionError("grouped pairs with constant rows are spread by spread_columns")
        return rows.unsqueeze(1), blocks.expand(-1, len(rows) // self.groups, -1).reshape(len(rows), -1)
