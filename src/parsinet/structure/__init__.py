"""The removal engine: which units a network has, what leaves with each of them, and removing them in place."""

from parsinet.structure.analysis import trace
from parsinet.structure.folding import fold_units
from parsinet.structure.groups import UnitGroup
from parsinet.structure.merging import Merge, merge_linear
from parsinet.structure.plan import Fold, Plan
from parsinet.structure.record import StructureRecord, record_of
from parsinet.structure.replaying import replay
from parsinet.structure.shrinking import shrink
from parsinet.structure.silencing import silence
from parsinet.structure.skips import Skipped, add_skips
from parsinet.structure.storage import load, save
from parsinet.structure.traced import Structure
from parsinet.structure.tracing import Tracing, Value

__all__ = [
    "Fold",
    "Merge",
    "Plan",
    "Skipped",
    "Structure",
    "StructureRecord",
    "Tracing",
    "UnitGroup",
    "Value",
    "add_skips",
    "fold_units",
    "load",
    "merge_linear",
    "record_of",
    "replay",
    "save",
    "shrink",
    "silence",
    "trace",
]
