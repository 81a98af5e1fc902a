"""A pruner's saved state, read as a whole before anything changes."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from parsinet.errors import StructureError, UsageError, told
from parsinet.methods.base import Method
from parsinet.methods.given import changes
from parsinet.structure.record import from_ranges

KEYS = {"step", "sizes", "units", "removals", "method"}

OPTIONAL = frozenset({"differentiated", "risen", "target"})
"""Entries that a method's state has only where there is something to tell."""


@dataclass(frozen=True)
class Saved:
    """What a pruner continues from.

    alive: per group a mask of the units that were left, over the original ones. removals: their history, in the original numbering.
    method: the method's own state. scale: of a GradScaler's loss. given: what the run was begun with. due: per group a mask over the units
    that were left, of a removal that was decided and had failed.
    """

    step: int
    scale: float | None
    alive: dict[str, Tensor]
    removals: list[dict[str, list[int]]]
    method: Mapping[str, Any]
    given: Mapping[str, Any]
    due: dict[str, Tensor] | None = None

    @classmethod
    def read(cls, state: Mapping[str, Any], method: Method, sizes: Mapping[str, int], here: Mapping[str, str]) -> Saved:
        """A state that fits the method and a whole network with groups of these sizes. here: what this run was begun with.

        Raises StructureError if it belongs to another network or is damaged, UsageError if it belongs to another method or is no pruner's.
        """
        if not isinstance(state, Mapping):
            raise UsageError(f"This is no pruner's state but {told(state)}. Give what Pruner.state_dict() returned.")
        if not state.keys() >= KEYS:
            raise UsageError(f"This is no pruner's state: it holds {sorted(state)}. Give what Pruner.state_dict() returned.")
        saved, step, scale = state["method"], state["step"], state.get("scale")
        if not isinstance(saved, Mapping) or not saved.keys() >= {"name", "state"} or not isinstance(saved["state"], Mapping):
            raise StructureError(f"The saved state is damaged: its method is {told(saved)}.")
        if type(step) is not int or step < 0:
            raise StructureError(f"The saved state is damaged: its step is {step!r}.")
        if scale is not None and type(scale) not in (int, float):
            raise StructureError(f"The saved state is damaged: its scale is {scale!r}.")
        if saved["name"] != method.name:
            raise UsageError(f"The saved state is of method {saved['name']!r}, this pruner runs {method.name!r}.")
        if state["sizes"] != sizes:
            raise StructureError("The saved state belongs to a network with other groups or sizes; build the original architecture first.")
        if not isinstance(state["units"], Mapping):
            raise StructureError(f"The saved state is damaged: its units are {told(state['units'])}.")
        gone = {name for name, units in state["units"].items() if not units} | OPTIONAL
        if _names(saved["state"], gone) != _names(method.state_dict(), gone):
            changed = changes(state.get("given") or {}, here)
            raise UsageError(
                f"The saved state is of {method.name!r} with other options{f' ({changed})' if changed else ''}; build the method, and the "
                "Pruner, with the options they had."
            )
        alive, removals = _masks(state["units"], sizes), _removals(state["removals"])
        due = _due(state.get("due"), state["units"])
        return cls(step, None if scale is None else float(scale), alive, removals, saved["state"], state.get("given") or {}, due)


def _names(state: Any, gone: Collection[str]) -> Any:
    """The keys of nested mappings, without what they hold; groups that have left as a whole are no difference."""
    return {key: _names(value, gone) for key, value in state.items() if key not in gone} if isinstance(state, Mapping) else None


def _masks(units: Mapping[str, Any], sizes: Mapping[str, int]) -> dict[str, Tensor]:
    alive = {name: torch.zeros(size, dtype=torch.bool) for name, size in sizes.items()}
    try:
        for name, mask in alive.items():
            mask[from_ranges(units[name])] = True
    except (KeyError, IndexError, ValueError) as error:
        raise StructureError(f"The saved state is damaged: its units are {units}, of {sizes}.") from error
    return alive


def _due(saved: Any, units: Mapping[str, Any]) -> dict[str, Tensor] | None:
    if saved is None:
        return None
    if not isinstance(saved, Mapping) or not saved.keys() <= units.keys():
        raise StructureError(f"The saved state is damaged: its removal to come is {told(saved)}.")
    return _masks(saved, {name: len(from_ranges(units[name])) for name in saved})


def _removals(saved: Any) -> list[dict[str, list[int]]]:
    try:
        return [{group: from_ranges(units) for group, units in removal.items()} for removal in saved]
    except (AttributeError, TypeError, ValueError) as error:
        raise StructureError(f"The saved state is damaged: its removals are {saved!r}.") from error
