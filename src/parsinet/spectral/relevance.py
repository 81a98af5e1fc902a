"""How much each node of a map matters: |λ_i| as published, and the score no choice of gauge can change."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from parsinet.errors import ArgumentTypeError, UsageError
from parsinet.spectral.directions import UnitBlock
from parsinet.spectral.layers import SpectralLayer
from parsinet.spectral.pairs import pairs_of


def relevance(layer: nn.Module, nodes: str = "receivers") -> Tensor:
    """r_i = ‖(λ_in − λ_out,i) ∘ φ_i‖₂ over the pairs and taps of every node: |λ_i|·‖φ_i‖₂ where the other set is zero.

    Invariant under (λ_in + c, λ_out + c) and (cλ, φ/c), since it is the norm of the node's composed weights.
    nodes: "receivers" [n_out] or "senders" [n_in]. Raises UsageError, ArgumentTypeError. Source: derived in our specification.
    """
    own = _spectral("relevance", layer)
    if nodes not in ("receivers", "senders"):
        raise UsageError(f"relevance: nodes must be 'receivers' or 'senders', got {nodes!r}.")
    with torch.no_grad():
        squares = own.weight.double().square().flatten(2).sum(2) if own.weight.dim() > 2 else own.weight.double().square()
        of_senders, minus_receivers = pairs_of(own).gradients(squares)
        return (of_senders if nodes == "senders" else -minus_receivers).sqrt().to(own.spectrum.lambda_in.dtype)


def eigenvalue_relevance(layer: nn.Module) -> Tensor:
    """|c − λ_i| of a map that trains one set, the other held at c: the published rank, meaningful where the φ_i have equal norms.

    In variant "unit" they do, and |λ_i| (times what is left of a row whose senders have left) is ‖w_i‖_p.
    Returns [n_out] for "one-set", "full-one-set" and "unit", [n_in] for "one-set-in". Raises UsageError where both sets train: adding one
    number to both leaves the function as it is and changes every |λ_i|. Source: Buffoni et al., arXiv 2108.00940.
    """
    spectrum = _spectral("eigenvalue_relevance", layer).spectrum
    if spectrum.lambda_in.dim() == spectrum.lambda_out.dim():
        raise UsageError("eigenvalue_relevance: both sets of eigenvalues train, so |λ| alone ranks nothing; use relevance(layer).")
    values = (spectrum.lambda_in - spectrum.lambda_out).detach().abs()
    return values * spectrum.basis.scale.flatten() if isinstance(spectrum.basis, UnitBlock) else values


def _spectral(caller: str, layer: nn.Module) -> SpectralLayer:
    if not isinstance(layer, SpectralLayer):
        raise ArgumentTypeError(f"{caller}: expected a spectral layer, got {type(layer).__name__}. Call spectralize first.")
    return layer
