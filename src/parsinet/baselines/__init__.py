"""What others do, as methods: sparse weights (GMP, SET, RigL, SNIP, random) and fewer units (L0, VIB, SBP, normal-Jeffreys, …)."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from parsinet.baselines.dynamic import SET, RigL
from parsinet.baselines.gmp import GMP
from parsinet.baselines.group_lasso import GroupLasso
from parsinet.baselines.l0 import L0
from parsinet.baselines.normal_jeffreys import NormalJeffreys
from parsinet.baselines.random_mask import RandomMask
from parsinet.baselines.ranked import MagnitudeUnits, RandomUnits
from parsinet.baselines.sbp import SBP
from parsinet.baselines.slimming import Slimming
from parsinet.baselines.snip import SNIP
from parsinet.baselines.spike_slab import SpikeSlab
from parsinet.baselines.vib import VIB
from parsinet.methods import Kind, Method, build_from

BASELINES: Mapping[str, Kind] = MappingProxyType(
    {
        "gmp": GMP,
        "group-lasso": GroupLasso,
        "l0": L0,
        "magnitude-units": MagnitudeUnits,
        "normal-jeffreys": NormalJeffreys,
        "random-mask": RandomMask,
        "random-units": RandomUnits,
        "rigl": RigL,
        "sbp": SBP,
        "set": SET,
        "slimming": Slimming,
        "snip": SNIP,
        "spike-slab": SpikeSlab,
        "vib": VIB,
    }
)

__all__ = [
    "BASELINES",
    "GMP",
    "L0",
    "SBP",
    "SET",
    "SNIP",
    "VIB",
    "GroupLasso",
    "MagnitudeUnits",
    "NormalJeffreys",
    "RandomMask",
    "RandomUnits",
    "RigL",
    "Slimming",
    "SpikeSlab",
    "build",
    "names",
]


def names() -> tuple[str, ...]:
    """Names `build` knows."""
    return tuple(BASELINES)


def build(name: str, **options: Any) -> Method:
    """A baseline by name; UsageError names the nearest baseline or option if there is none of that name."""
    return build_from(BASELINES, name, options)
