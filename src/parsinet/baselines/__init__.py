"""Sparse training as others do it, as methods: gradual magnitude pruning, SET, RigL, SNIP, a random mask."""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

from parsinet.baselines.dynamic import SET, RigL
from parsinet.baselines.gmp import GMP
from parsinet.baselines.random_mask import RandomMask
from parsinet.baselines.snip import SNIP
from parsinet.methods import Method, build_from

BASELINES: Mapping[str, Callable[..., Method]] = MappingProxyType(
    {"gmp": GMP, "random-mask": RandomMask, "rigl": RigL, "set": SET, "snip": SNIP}
)

__all__ = ["BASELINES", "GMP", "SET", "SNIP", "RandomMask", "RigL", "build", "names"]


def names() -> tuple[str, ...]:
    """Names `build` knows."""
    return tuple(BASELINES)


def build(name: str, **options: Any) -> Method:
    """A baseline by name; UsageError names the nearest baseline or option if there is none of that name."""
    return build_from(BASELINES, name, options)
