"""The removal engine: which units a network has, what leaves with each of them, and removing them in place."""

from parsinet.structure.groups import UnitGroup
from parsinet.structure.plan import Plan, Structure
from parsinet.structure.record import StructureRecord, record_of, replay
from parsinet.structure.shrink import shrink
from parsinet.structure.silence import silence
from parsinet.structure.storage import load, save
from parsinet.structure.trace import trace

__all__ = ["Plan", "Structure", "StructureRecord", "UnitGroup", "load", "record_of", "replay", "save", "shrink", "silence", "trace"]
