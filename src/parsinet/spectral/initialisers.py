"""How a new basis and its eigenvalues are drawn: the published choices by name, in one table."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

import torch
from torch import Tensor

from parsinet.errors import UsageError


@dataclass(frozen=True)
class Place:
    """Where draws go: the shape [d0, d1, *taps] of the weight, its numbers of senders and receivers, and the random stream.

    A generator is needed by draws only; draws are made in float32 or the weight's wider dtype on the generator's device.
    """

    shape: tuple[int, ...]
    senders: int
    receivers: int
    dtype: torch.dtype
    device: torch.device
    generator: torch.Generator | None

    def uniform(self, low: float, high: float, *shape: int) -> Tensor:
        """Numbers from U(low, high)."""
        return self._empty(shape).uniform_(low, high, generator=self.generator).to(self.device)

    def normal(self, std: float, *shape: int) -> Tensor:
        """Numbers from N(0, std²)."""
        return self._empty(shape).normal_(0.0, std, generator=self.generator).to(self.device)

    def constant(self, value: float) -> Tensor:
        """One value for a whole set of eigenvalues, with no dimension."""
        return torch.tensor(value, dtype=self.dtype, device=self.device)

    @property
    def fans(self) -> tuple[int, int]:
        """Glorot's fan-in and fan-out of the weight."""
        taps = math.prod(self.shape[2:])
        return self.shape[1] * taps, self.shape[0] * taps

    def glorot(self) -> Tensor:
        """A block from Glorot's uniform distribution, U(±√(6/(fan-in + fan-out)))."""
        bound = math.sqrt(6.0 / max(sum(self.fans), 1))
        return self.uniform(-bound, bound, *self.shape)

    def _empty(self, shape: tuple[int, ...]) -> Tensor:
        if self.generator is None:
            raise UsageError("spectralize: a drawn basis needs generator=, for example torch.Generator().manual_seed(0).")
        return torch.empty(shape, dtype=self.dtype, device=self.generator.device)


@dataclass(frozen=True)
class Drawn:
    """What an initialiser gives: φ itself or the factors (U [d0, k], s [k], V [k, d1, *taps]) of it, both sets, and the bias.

    A set of eigenvalues with no dimension is one value for all nodes. bias: None for zeros.
    """

    phi: Tensor | tuple[Tensor, Tensor, Tensor]
    lambda_in: Tensor
    lambda_out: Tensor
    bias: Tensor | None = None


Initialiser = Callable[[Place], Drawn]


def glorot(place: Place) -> Drawn:
    """φ Glorot uniform, λ_in = 1, λ_out = 0, so that W(0) = φ. Source: our choice."""
    return Drawn(place.glorot(), place.constant(1.0), place.constant(0.0))


def p1_older(place: Place) -> Drawn:
    """φ ~ U(−0.2, 0.2), λ_in = 1, λ_out = 1 + U(−0.5, 0.5). Source: public code of Giambagli et al., arXiv 2005.14436 (older form)."""
    return Drawn(place.uniform(-0.2, 0.2, *place.shape), place.constant(1.0), 1.0 + place.uniform(-0.5, 0.5, place.receivers))


def p3(place: Place) -> Drawn:
    """φ ~ U(−0.2, 0.2), λ_in = 0, λ_out ~ U(−0.5, 0.5). Source: public code of Buffoni et al., arXiv 2108.00940."""
    return Drawn(place.uniform(-0.2, 0.2, *place.shape), place.constant(0.0), place.uniform(-0.5, 0.5, place.receivers))


def spectral_learning(place: Place) -> Drawn:
    """φ Glorot uniform, both sets U(−0.5, 0.5). Source: latest public code of arXiv 2108.00940."""
    return Drawn(place.glorot(), *_both(place, 0.5, 0.5))


def spectral_learning_small(place: Place) -> Drawn:
    """φ ~ U(−0.02, 0.02), both sets U(−0.5, 0.5). Source: as `spectral_learning`, its option 'optimized_uniform'."""
    return Drawn(place.uniform(-0.02, 0.02, *place.shape), *_both(place, 0.5, 0.5))


def p2_qr(place: Place) -> Drawn:
    """Base ~ N(0, 0.036²), λ_in ~ U(−0.97, 0.97), λ_out ~ U(−0.13, 0.13). Source: public code of Chicchi et al., arXiv 2106.09021."""
    return Drawn(place.normal(0.036, *place.shape), *_both(place, 0.97, 0.13))


def p2_spectral(place: Place) -> Drawn:
    """U, V ~ N(0, 0.04²), s ~ U(0, 3), λ_in ~ U(−0.97, 0.97), λ_out ~ U(−0.13, 0.13). Source: as `p2_qr` ("Spectral_full")."""
    return Drawn(_factors(place), *_both(place, 0.97, 0.13))


def p2_svd(place: Place) -> Drawn:
    """U, V ~ N(0, 0.04²), s ~ U(0, 3), λ_in = 0, λ_out = 1. Source: as `p2_qr` ("SSVD_full")."""
    return Drawn(_factors(place), place.constant(0.0), place.constant(1.0))


def p2_sparse_qr(place: Place) -> Drawn:
    """Base ~ N(0, 0.036²), λ_in = 1, λ_out = 0, so that W(0) = base. Source: as `p2_qr` (sparse experiments)."""
    return Drawn(place.normal(0.036, *place.shape), place.constant(1.0), place.constant(0.0))


def spectraltools_0_2(place: Place) -> Drawn:
    """φ Glorot uniform, λ_in = 0, λ_out Glorot uniform. Source: SpectralTools 0.2–0.4; fans 1 and n_out of the row of λ are our reading."""
    bound = math.sqrt(6.0 / (1 + place.receivers))
    return Drawn(place.glorot(), place.constant(0.0), place.uniform(-bound, bound, place.receivers))


def spectraltools_1_0(place: Place) -> Drawn:
    """φ Glorot uniform, λ_in = 0, λ_out = 1, so that W(0) = −φ. Source: SpectralTools ≥ 1.0 and public code of arXiv 2310.12612."""
    return Drawn(place.glorot(), place.constant(0.0), place.constant(1.0))


def hyperspectral(place: Place) -> Drawn:
    """φ Xavier uniform, both sets U(−1, 1), and the bias an always-on sender would give at the start.

    That sender has an eigenvalue of its own from U(−1, 1) and a column of φ; here the bias trains freely afterwards.
    Source: public code `hyperspectral` (arXiv 2603.28420); there the bias stays composed.
    """
    phi, (lambda_in, lambda_out) = place.glorot(), _both(place, 1.0, 1.0)
    bound = math.sqrt(6.0 / max(sum(place.fans), 1))
    bias = (place.uniform(-1.0, 1.0, 1) - lambda_out) * place.uniform(-bound, bound, place.receivers)
    return Drawn(phi, lambda_in, lambda_out, bias)


INITIALISERS: Mapping[str, Initialiser] = MappingProxyType(
    {
        "glorot": glorot,
        "p1-older": p1_older,
        "p3": p3,
        "spectral-learning": spectral_learning,
        "spectral-learning-small": spectral_learning_small,
        "p2-qr": p2_qr,
        "p2-spectral": p2_spectral,
        "p2-svd": p2_svd,
        "p2-sparse-qr": p2_sparse_qr,
        "spectraltools-0.2": spectraltools_0_2,
        "spectraltools-1.0": spectraltools_1_0,
        "hyperspectral": hyperspectral,
    }
)
"""Initialisers that draw a new basis, by name."""


def _both(place: Place, bound_in: float, bound_out: float) -> tuple[Tensor, Tensor]:
    return place.uniform(-bound_in, bound_in, place.senders), place.uniform(-bound_out, bound_out, place.receivers)


def _factors(place: Place) -> tuple[Tensor, Tensor, Tensor]:
    """U, s, V of the published decomposition, k the smaller side of the block read as a matrix."""
    rows, columns = place.shape[0], math.prod(place.shape[1:])
    k = min(rows, columns)
    return place.normal(0.04, rows, k), place.uniform(0.0, 3.0, k), place.normal(0.04, k, *place.shape[1:])
