"""parsinet: PyTorch networks that become smaller while they train, and stay plain PyTorch modules."""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from parsinet import (
        baselines,
        bench,
        data,
        distributed,
        errors,
        export,
        gates,
        integrations,
        measure,
        methods,
        models,
        report,
        spectral,
        sphere,
        structure,
        topology,
        training,
        tuning,
    )
    from parsinet.methods import Pruner
    from parsinet.structure import Plan, Structure, UnitGroup, add_skips, load, merge_linear, save, shrink, silence, trace

__version__ = "0.1.0"

__all__ = [
    "Plan",
    "Pruner",
    "Structure",
    "UnitGroup",
    "add_skips",
    "baselines",
    "bench",
    "data",
    "distributed",
    "errors",
    "export",
    "gates",
    "integrations",
    "load",
    "measure",
    "merge_linear",
    "methods",
    "models",
    "report",
    "save",
    "shrink",
    "silence",
    "spectral",
    "sphere",
    "structure",
    "topology",
    "trace",
    "training",
    "tuning",
]

_HOMES = {
    "parsinet.methods": ("Pruner",),
    "parsinet.structure": ("Plan", "Structure", "UnitGroup", "add_skips", "load", "merge_linear", "save", "shrink", "silence", "trace"),
}


def __getattr__(name: str) -> Any:
    """Public names are imported at first use: `parsinet --help` and reports need no torch."""
    if name not in __all__:
        raise AttributeError(f"module 'parsinet' has no attribute {name!r}")
    home = next((module for module, names in _HOMES.items() if name in names), None)
    return getattr(importlib.import_module(home), name) if home else importlib.import_module(f"parsinet.{name}")


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])
