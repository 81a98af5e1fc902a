"""Training methods: what a run trains and which units it removes."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from parsinet.methods.base import Alive, Budget, Method
from parsinet.methods.building import Kind, build_from, options_of
from parsinet.methods.dense import Dense
from parsinet.methods.gates import Gates
from parsinet.methods.growing import GrowingTraining
from parsinet.methods.masking import MaskedTraining, MaskOptions
from parsinet.methods.pruner import Pruner, Removal
from parsinet.methods.reciprocal import SpectralSparse
from parsinet.methods.spectral import Spectral
from parsinet.methods.sphere import Sphere

METHODS: Mapping[str, Kind] = MappingProxyType(
    {"dense": Dense, "gates": Gates, "spectral": Spectral, "spectral-sparse": SpectralSparse, "sphere": Sphere}
)

__all__ = [
    "METHODS",
    "Alive",
    "Budget",
    "Dense",
    "Gates",
    "GrowingTraining",
    "Kind",
    "MaskOptions",
    "MaskedTraining",
    "Method",
    "Pruner",
    "Removal",
    "Spectral",
    "SpectralSparse",
    "Sphere",
    "build",
    "build_from",
    "names",
    "options_of",
]


def names() -> tuple[str, ...]:
    """Names `build` knows."""
    return tuple(METHODS)


def build(name: str, **options: Any) -> Method:
    """A method by name; UsageError names the nearest method or option if there is none of that name."""
    return build_from(METHODS, name, options)
