"""Training methods: what a run trains and which units it removes."""

import inspect
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

from parsinet.errors import UsageError, suggest
from parsinet.methods.base import Alive, Budget, Method
from parsinet.methods.dense import Dense
from parsinet.methods.gates import Gates
from parsinet.methods.growing import GrowingTraining
from parsinet.methods.masking import MaskedTraining
from parsinet.methods.pruner import Pruner, Removal
from parsinet.methods.reciprocal import SpectralSparse
from parsinet.methods.spectral import Spectral
from parsinet.methods.sphere import Sphere

METHODS: Mapping[str, Callable[..., Method]] = MappingProxyType(
    {"dense": Dense, "gates": Gates, "spectral": Spectral, "spectral-sparse": SpectralSparse, "sphere": Sphere}
)

__all__ = [
    "METHODS",
    "Alive",
    "Budget",
    "Dense",
    "Gates",
    "GrowingTraining",
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
]


def names() -> tuple[str, ...]:
    """Names `build` knows."""
    return tuple(METHODS)


def build(name: str, **options: Any) -> Method:
    """A method by name; UsageError names the nearest method or option if there is none of that name."""
    return build_from(METHODS, name, options)


def build_from(table: Mapping[str, Callable[..., Method]], name: str, options: Mapping[str, Any]) -> Method:
    """A method from a table of names, such as `METHODS` together with those of other packages; UsageError as `build`."""
    if name not in table:
        raise UsageError(f"There is no method {name!r}.{suggest(name, table)}")
    kind = table[name]
    known = inspect.signature(kind).parameters
    for option in options:
        if option not in known:
            raise UsageError(f"Method {name!r} has no option {option!r}.{suggest(option, known)}")
    return kind(**options)
