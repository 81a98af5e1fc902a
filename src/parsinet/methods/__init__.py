"""Training methods: what a run trains and which units it removes."""

import inspect
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

from parsinet.errors import UsageError, suggest
from parsinet.methods.base import Alive, Budget, Method
from parsinet.methods.dense import Dense
from parsinet.methods.gates import Gates
from parsinet.methods.pruner import Pruner, Removal
from parsinet.methods.spectral import Spectral

METHODS: Mapping[str, Callable[..., Method]] = MappingProxyType({"dense": Dense, "gates": Gates, "spectral": Spectral})

__all__ = ["METHODS", "Alive", "Budget", "Dense", "Gates", "Method", "Pruner", "Removal", "Spectral", "build", "names"]


def names() -> tuple[str, ...]:
    """Names `build` knows."""
    return tuple(METHODS)


def build(name: str, **options: Any) -> Method:
    """A method by name; UsageError names the nearest method or option if there is none of that name."""
    if name not in METHODS:
        raise UsageError(f"There is no method {name!r}.{suggest(name, METHODS)}")
    kind = METHODS[name]
    known = inspect.signature(kind).parameters
    for option in options:
        if option not in known:
            raise UsageError(f"Method {name!r} has no option {option!r}.{suggest(option, known)}")
    return kind(**options)
