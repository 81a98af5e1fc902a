"""What a method told of its units and weights at the end of an epoch, in the few forms that methods share."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeGuard

UNITS = ("score", "factor")
"""Values per unit besides θ: what a ranking goes by, what a unit is multiplied with."""
WEIGHTS = ("hoyer", "p", "density")
"""Values per weight: Hoyer sparsity, exponent of its sphere, share of entries that are not masked."""


GOALS = ("parameters", "nonzeros", "macs", "bytes", "latency")
"""What a size can be asked for in: counts, or seconds per forward pass."""


@dataclass(frozen=True)
class Goal:
    """A size the network was to have. kind: of `GOALS`. reached: None before the method's last decision, and for masks."""

    kind: str
    wanted: float
    reached: float | None


@dataclass(frozen=True)
class Told:
    """units: kind of `UNITS` → group → one finite value per unit. weights: kind of `WEIGHTS` → weight or layer → value.

    goal: the size asked for; None where there is none.
    """

    units: Mapping[str, Mapping[str, tuple[float, ...]]] = field(default_factory=dict)
    weights: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    goal: Goal | None = None


def told(described: Any) -> Told:
    """Read the entry `method` of an epoch; what has none of the known forms is left out."""
    if not isinstance(described, Mapping):
        return Told()
    units = {kind: _per_unit(described.get("groups"), kind) for kind in UNITS}
    weights = {kind: dict(_per_weight(described, kind)) for kind in WEIGHTS}
    return Told(
        {kind: found for kind, found in units.items() if found},
        {kind: found for kind, found in weights.items() if found},
        _goal(described.get("target")),
    )


def _goal(target: Any) -> Goal | None:
    """Methods with masks tell a number here where a sparsity was asked for."""
    if not isinstance(target, Mapping) or str(target.get("kind")) not in GOALS:
        return None
    wanted, reached = target.get("wanted"), target.get("reached")
    return Goal(target["kind"], wanted, reached if _is_number(reached) else None) if _is_number(wanted) and wanted > 0 else None


def _per_unit(groups: Any, kind: str) -> dict[str, tuple[float, ...]]:
    known = groups.items() if isinstance(groups, Mapping) else ()
    lists = ((name, facts[kind]) for name, facts in known if isinstance(facts, Mapping) and isinstance(facts.get(kind), list))
    return {name: tuple(float(value) for value in values if _is_number(value)) for name, values in lists if values}


def _per_weight(described: Mapping[str, Any], kind: str) -> Iterator[tuple[str, float]]:
    if kind != "density":
        yield from _numbers(described.get(kind))
        return
    yield from _numbers({name: facts.get("density") for name, facts in _mappings(described.get("tensors"))})
    for name, facts in _mappings(described.get("layers")):
        kept, entries = facts.get("kept"), facts.get("entries")
        if _is_number(kept) and _is_number(entries) and entries:
            yield name, kept / entries


def _mappings(entry: Any) -> list[tuple[str, Mapping[str, Any]]]:
    return [(name, facts) for name, facts in entry.items() if isinstance(facts, Mapping)] if isinstance(entry, Mapping) else []


def _numbers(entry: Any) -> Iterator[tuple[str, float]]:
    if isinstance(entry, Mapping):
        yield from ((name, float(value)) for name, value in entry.items() if _is_number(value))


def _is_number(value: Any) -> TypeGuard[int | float]:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
