"""What trains in each variant: which sets of eigenvalues, and how φ is kept; one row per variant, in one table."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

import torch
from torch import Tensor, nn

from parsinet.errors import UsageError
from parsinet.spectral.bases import (
    FrozenBlock,
    SVDBlock,
    TrainedBlock,
    full_factors,
    triangular_factors,
    true_factors,
)
from parsinet.spectral.initialisers import Drawn
from parsinet.spectral.layers import Spectrum


@dataclass(frozen=True)
class Variant:
    """Which sets train, and how a base [d0, d1, *taps] is kept as φ; `keep` is None where only drawn factors will do."""

    trains_in: bool
    trains_out: bool
    keep: Callable[[Tensor], nn.Module] | None


VARIANTS: Mapping[str, Variant] = MappingProxyType(
    {
        "one-set": Variant(False, True, FrozenBlock),
        "one-set-in": Variant(True, False, FrozenBlock),
        "two-set": Variant(True, True, FrozenBlock),
        "svd": Variant(True, True, true_factors),
        "svd-gaussian": Variant(True, True, None),
        "qr": Variant(True, True, triangular_factors),
        "qr-full": Variant(True, True, full_factors),
        "full": Variant(True, True, TrainedBlock),
    }
)
"""The variants by name. one-set-in is the mirror form of one-set: the senders' eigenvalues train."""


def assemble(name: str, initialiser: str, drawn: Drawn, nodes: tuple[int, int], *, frozen_weight: bool) -> Spectrum:
    """The spectrum of one map: eigenvalues laid out as the variant trains them, φ kept as the variant keeps it.

    nodes: senders and receivers. Raises UsageError where the initialiser draws what the variant holds constant, or no factors where the
    variant needs them.
    """
    variant = VARIANTS[name]
    if variant.keep is None and isinstance(drawn.phi, Tensor):
        raise UsageError(
            f"spectralize: variant {name!r} trains the factors of a random decomposition, which initialiser {initialiser!r} does not draw. "
            "Use initialiser='p2-svd' or 'p2-spectral', or variant='svd' for the factors of the layer's own weight."
        )
    lambda_in = _laid_out(drawn.lambda_in, nodes[0], variant.trains_in, "λ_in", name, initialiser)
    lambda_out = _laid_out(drawn.lambda_out, nodes[1], variant.trains_out, "λ_out", name, initialiser)
    return Spectrum(lambda_in, lambda_out, _basis(variant, drawn.phi), frozen_weight=frozen_weight)


def _laid_out(values: Tensor, nodes: int, trains: bool, which: str, name: str, initialiser: str) -> Tensor:
    """One eigenvalue per node for a set that trains, one value for a set that does not; never 16 bits wide."""
    if not trains and values.dim():
        raise UsageError(
            f"spectralize: initialiser {initialiser!r} draws {which}, which variant {name!r} holds at one value. "
            "Use variant='two-set', or an initialiser with a constant there."
        )
    wide = values if values.dtype == torch.float64 else values.float()
    return wide.expand(nodes).clone() if trains and not wide.dim() else wide


def _basis(variant: Variant, phi: Tensor | tuple[Tensor, Tensor, Tensor]) -> nn.Module:
    if isinstance(phi, Tensor):
        assert variant.keep is not None
        return variant.keep(phi)
    factors = SVDBlock(*phi)
    if variant.keep is None:
        return factors
    with torch.no_grad():
        return variant.keep(factors())
