"""parsinet: PyTorch networks that become smaller while they train, and stay plain PyTorch modules."""

from parsinet import data, errors, gates, measure, methods, models, structure
from parsinet.methods import Pruner
from parsinet.structure import Plan, Structure, UnitGroup, load, save, shrink, silence, trace

__version__ = "0.1.0"

__all__ = [
    "Plan",
    "Pruner",
    "Structure",
    "UnitGroup",
    "data",
    "errors",
    "gates",
    "load",
    "measure",
    "methods",
    "models",
    "save",
    "shrink",
    "silence",
    "structure",
    "trace",
]
