"""The transfer operator A = ΦΛΦ⁻¹ of a map or of a chain of maps, on the graph of all their nodes, for analysis."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from parsinet.errors import ArgumentTypeError, UsageError
from parsinet.spectral.layers import SpectralLinear


@dataclass(frozen=True)
class TransferOperator:
    """A map seen as an operator on all nodes of the network.

    eigenvectors: Φ [N, N], its columns the eigenvectors. eigenvalues: the diagonal of Λ [N]. senders, receivers: the nodes the map joins.
    """

    eigenvectors: Tensor
    eigenvalues: Tensor
    senders: slice
    receivers: slice

    @property
    def inverse(self) -> Tensor:
        """Φ⁻¹ = 2I − Φ, because (Φ − I)² = 0. [N, N]."""
        return 2 * torch.eye(len(self.eigenvalues), dtype=self.eigenvectors.dtype, device=self.eigenvectors.device) - self.eigenvectors

    @property
    def matrix(self) -> Tensor:
        """A = ΦΛΦ⁻¹ [N, N]; its block (receivers, senders) is the map's weight φ diag(λ_in) − diag(λ_out) φ."""
        return (self.eigenvectors * self.eigenvalues) @ self.inverse


def transfer_operator(layer: nn.Module) -> TransferOperator:
    """The transfer operator of one spectral Linear layer on its n_in + n_out nodes, senders first.

        Φ = [[I, 0], [φ, I]]    Λ = diag(λ_in, λ_out)    A = [[diag(λ_in), 0], [W, diag(λ_out)]]

    Values are copies and carry no gradient. The bias is outside the operator.
    Raises ArgumentTypeError for another kind of layer. Source: Giambagli et al., arXiv 2005.14436.
    """
    return transfer_operators([layer])[0]


def transfer_operators(layers: list[nn.Module]) -> tuple[TransferOperator, ...]:
    """One operator per map of a chain of spectral Linear layers, each on the N = Σ N_k nodes of all stages.

    Φ_k = I + φ_k in the rows of stage k+1 and the columns of stage k; Λ_k holds λ_in at stage k, λ_out at stage k+1, and 1 elsewhere. With
    the input in the first slots and zeros behind, n ← A_k n and then f on the slots of stage k+1 runs the network without its biases.
    Raises UsageError for an empty list or widths that do not meet. Source: as `transfer_operator` ("telescopic" form; there λ_in = 1).
    """
    if not layers:
        raise UsageError("transfer_operators: a chain needs at least one spectral Linear layer, got none.")
    chain = [_linear(layer) for layer in layers]
    for first, second in itertools.pairwise(chain):
        if first.out_features != second.in_features:
            raise UsageError(
                f"transfer_operators: a layer with {first.out_features} outputs is followed by one that reads {second.in_features}."
            )
    widths = [chain[0].in_features, *(layer.out_features for layer in chain)]
    return tuple(_operator(layer, sum(widths[:k]), sum(widths)) for k, layer in enumerate(chain))


def _linear(layer: nn.Module) -> SpectralLinear:
    if not isinstance(layer, SpectralLinear):
        raise ArgumentTypeError(
            f"transfer_operator: expected a spectral Linear layer, got {type(layer).__name__}. Call spectralize first; the operator of a "
            "convolution depends on the size of its input and is not formed."
        )
    return layer


def _operator(layer: SpectralLinear, start: int, nodes: int) -> TransferOperator:
    middle = start + layer.in_features
    senders, receivers = slice(start, middle), slice(middle, middle + layer.out_features)
    with torch.no_grad():
        spectrum = layer.spectrum
        phi = spectrum.basis()
        wide = torch.promote_types(phi.dtype, spectrum.lambda_in.dtype)
        eigenvectors = torch.eye(nodes, dtype=wide, device=phi.device)
        eigenvectors[receivers, senders] = phi.to(wide)
        eigenvalues = eigenvectors.new_ones(nodes)
        eigenvalues[senders] = spectrum.lambda_in.to(wide)
        eigenvalues[receivers] = spectrum.lambda_out.to(wide)
    return TransferOperator(eigenvectors, eigenvalues, senders, receivers)
