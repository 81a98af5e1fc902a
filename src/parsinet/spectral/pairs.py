"""Which two nodes a weight joins: the factor λ_in,j − λ_out,i of every pair, laid out as the layer's weight is."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd


@dataclass(frozen=True)
class Pairs:
    """How a weight [d0, d1, *taps] names its pairs of sender and receiver.

    groups: separate blocks of channels. sending_rows: True where d0 counts senders (transposed convolution), else receivers.
    Entry (o, c') joins receiver o and sender ⌊o / (d0/groups)⌋·d1 + c'; roles swapped where rows send.
    Source: our generalisation of the published fully connected case.
    """

    groups: int = 1
    sending_rows: bool = False

    def factor(self, lambda_in: Tensor, lambda_out: Tensor) -> Tensor:
        """λ_in,j − λ_out,i for every pair, in the eigenvalues' own precision: [d0, d1], with groups [groups, d0/groups, d1].

        lambda_in: [n_in], or [] for a constant; lambda_out: [n_out] or []. A dimension along which a constant stands has size 1.
        """
        down, across = (lambda_in, lambda_out) if self.sending_rows else (lambda_out, lambda_in)
        if down.dim():
            down = down.reshape(self.groups, -1, 1) if self.groups > 1 else down.unsqueeze(1)
        if across.dim():
            across = across.reshape(self.groups, 1, -1) if self.groups > 1 else across.unsqueeze(0)
        return down - across if self.sending_rows else across - down

    def times(self, block: Tensor, factor: Tensor) -> Tensor:
        """block [d0, d1, *taps] with the pairs scaled by `factor`, all taps of a pair alike, in the block's dtype.

        The block comes first in the product: whoever removes units from the graph reads the silent ones off φ, not off the eigenvalues.
        """
        spread = factor[(..., *[None] * (block.dim() - 2))]
        if self.groups == 1:
            return (block * spread).to(block.dtype)
        return (block.reshape(self.groups, -1, *block.shape[1:]) * spread).reshape(block.shape).to(block.dtype)

    def gradients(self, pairs: Tensor) -> tuple[Tensor, Tensor]:
        """∂L/∂λ_in = Σ over the receivers of each sender, ∂L/∂λ_out = −Σ over the senders of each receiver.

        pairs: ∂L/∂factor [d0, d1], that is φ∘G summed over the taps.
        """
        down = pairs.sum(1)
        across = pairs.reshape(self.groups, -1, pairs.shape[1]).sum(1).reshape(-1)
        return (down, -across) if self.sending_rows else (across, -down)


def pairs_of(layer: nn.Module) -> Pairs:
    """How the layer's weight names its pairs, at its present number of groups."""
    return Pairs(layer.groups, isinstance(layer, _ConvTransposeNd)) if isinstance(layer, _ConvNd) else Pairs()


def nodes_of(layer: nn.Module) -> tuple[int, int]:
    """Senders and receivers of a linear or convolutional layer: features or channels."""
    if isinstance(layer, _ConvNd):
        return layer.in_channels, layer.out_channels
    assert isinstance(layer, nn.Linear)
    return layer.in_features, layer.out_features
