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
from parsinet.spectral.directions import UnitBlock, directions
from parsinet.spectral.initialisers import Drawn
from parsinet.spectral.layers import Spectrum
from parsinet.spectral.pairs import Pairs


@dataclass(frozen=True)
class Variant:
    """Which sets train, and how a base [d0, d1, *taps] is kept as φ; `keep` is None where only drawn factors will do.

    unit: the receivers' parts of φ have unit length.
    """

    trains_in: bool
    trains_out: bool
    keep: Callable[[Tensor], nn.Module] | None
    unit: bool = False


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
        "full-one-set": Variant(False, True, TrainedBlock),
        "unit": Variant(False, True, TrainedBlock, unit=True),
    }
)
"""The variants by name. one-set-in is the mirror form of one-set: the senders' eigenvalues train. full-one-set is one-set with φ trained
as well, unit the same with the scale between λ_i and φ_i fixed."""


@dataclass(frozen=True)
class Map:
    """What a variant must know of a layer: senders, receivers, how its weight names their pairs, the order of the norm, and its name."""

    senders: int
    receivers: int
    pairs: Pairs
    p: float
    name: str


def assemble(name: str, initialiser: str, drawn: Drawn, of: Map, *, frozen_weight: bool) -> Spectrum:
    """The spectrum of one map: eigenvalues laid out as the variant trains them, φ kept as the variant keeps it.

    Raises UsageError where the initialiser draws what the variant holds constant, or no factors where the variant needs them, and for
    directions of grouped transposed convolutions, whose receivers share rows.
    """
    variant = VARIANTS[name]
    if variant.keep is None and isinstance(drawn.phi, Tensor):
        raise UsageError(
            f"spectralize: variant {name!r} trains the factors of a random decomposition, which initialiser {initialiser!r} does not draw. "
            "Use initialiser='p2-svd' or 'p2-spectral', or variant='svd' for the factors of the layer's own weight."
        )
    lambda_in = _laid_out(drawn.lambda_in, of.senders, variant.trains_in, "λ_in", name, initialiser)
    lambda_out = _laid_out(drawn.lambda_out, of.receivers, variant.trains_out, "λ_out", name, initialiser)
    basis = _basis(variant, drawn.phi)
    if variant.unit:
        lambda_in, lambda_out, basis = _in_units(lambda_in, lambda_out, basis().detach(), of)
    return Spectrum(lambda_in, lambda_out, basis, frozen_weight=frozen_weight)


def _in_units(lambda_in: Tensor, lambda_out: Tensor, phi: Tensor, of: Map) -> tuple[Tensor, Tensor, nn.Module]:
    """The same map with λ_in = 0, directions for φ, and their lengths in λ_out."""
    if of.pairs.sending_rows and of.pairs.groups > 1:
        raise UsageError(
            f"spectralize: {of.name} is a grouped transposed convolution, which has no form 'unit'; use 'full-one-set' for it."
        )
    dim = 1 if of.pairs.sending_rows else 0
    theta, values = directions(phi, lambda_in - lambda_out, of.p, dim)
    return torch.zeros_like(lambda_in), values.to(lambda_out.dtype), UnitBlock(theta, of.p, dim)


def _laid_out(values: Tensor, nodes: int, trains: bool, which: str, name: str, initialiser: str) -> Tensor:
    """One eigenvalue per node for a set that trains, one value for a set that does not; never 16 bits wide."""
    if not trains and values.dim():
        raise UsageError(
            f"spectralize: initialiser {initialiser!r} draws {which}, which variant {name!r} holds at one value. "
            "Use variant='two-set', or an initialiser with a constant there."
        )
    wide = values if values.dtype == torch.float64 else values.float()
    return wide.repeat(nodes) if trains and not wide.dim() else wide


def _basis(variant: Variant, phi: Tensor | tuple[Tensor, Tensor, Tensor]) -> nn.Module:
    if isinstance(phi, Tensor):
        assert variant.keep is not None
        return variant.keep(phi)
    factors = SVDBlock(*phi)
    if variant.keep is None:
        return factors
    with torch.no_grad():
        return variant.keep(factors())
