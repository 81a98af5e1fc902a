"""The removal engine: which units a network has, what leaves with each of them, and removing them in place."""

from parsinet.structure.analysis import trace
from parsinet.structure.groups import UnitGroup
from parsinet.structure.plan import Plan, Structure
from parsinet.structure.record import StructureRecord, record_of, replay
from parsinet.structure.removal import shrink
from parsinet.structure.silencing import silence
from parsinet.structure.storage import load, save

__all__ = ["Plan", "Structure", "StructureRecord", "UnitGroup", "load", "record_of", "replay", "save", "shrink", "silence", "trace"]
