"""A small core of a large network, on which removals are tried: large groups lose most units first, and that is held to account."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import nn

from parsinet.structure.copies import duplicate, own_memory
from parsinet.structure.embedded import embedded
from parsinet.structure.groups import UnitGroup
from parsinet.structure.in_training import trains
from parsinet.structure.plan import Plan
from parsinet.structure.removal import shrink
from parsinet.structure.returned import kept_entries
from parsinet.structure.running import LEAST, Call, close
from parsinet.structure.traced import Structure
from parsinet.switches import no_fused_attention

ENOUGH = 24
"""Units that a group keeps in the core; a few more for every other group, so that no two sizes agree by chance."""
TOLERANCE = 1e-3
"""Relative to the outputs' size, in the network's own precision: where a size is written in the code, far more goes wrong."""


@dataclass(frozen=True)
class Core:
    """A smaller network of the same code, with tensors of its own, and its structure."""

    model: nn.Module
    structure: Structure


def core_of(model: nn.Module, structure: Structure, call: Call, training: Call | None = None) -> Core:
    """The network with few units per group, as far as it can be had.

    Exact groups: the core must equal the whole network in which all weights outside the core are zero; this finds sizes and
    places written in the code that only show at full size. Inexact groups: the core must run. Both: in training mode too, if there is a
    call for it. Groups that object stay whole.
    """
    whole = Core(model, structure)
    masks = {group.name: _few(group, number) for number, group in enumerate(structure.groups) if _reducible(structure, group)}
    exact = [name for name in masks if structure.group(name).exact]
    others = [name for name in masks if name not in exact]
    core = _largest(whole, exact, lambda plan, smaller: _equals_embedded(model, plan, smaller, call) and trains(smaller, training), masks)
    core = _largest(core, others, lambda _, smaller: bool(call.on(smaller)) and trains(smaller, training), masks)
    return core if core is not whole else Core(duplicate(model), structure)


def _reducible(structure: Structure, group: UnitGroup) -> bool:
    """Large, and no part of a weight that is computed from others: with zeros around it its norm would be another."""
    computed = {name for norm in structure.layout.norms for name in (norm.g, norm.v)}
    parametrized = any(name in computed or "parametrizations." in name for name in group.parameters)
    return group.removable and group.size > 2 * ENOUGH and not parametrized


def _few(group: UnitGroup, number: int) -> NDArray[np.bool_]:
    """A mask of few units, at irregular places."""
    mask = np.zeros(group.size, dtype=bool)
    mask[np.random.default_rng(number).permutation(group.size)[: ENOUGH + number % 5]] = True
    return mask


def _largest(start: Core, names: Sequence[str], passes: Callable[[Plan, nn.Module], bool], masks: dict[str, NDArray[np.bool_]]) -> Core:
    """The core that leaves out units of as many of these groups as pass together; halves are tried where the whole does not."""
    best, chosen = start, list[str]()
    waiting = [list(names)] if names else []
    while waiting:
        part = waiting.pop(0)
        found = _reduced(start, {name: masks[name] for name in (*chosen, *part)}, passes)
        if found is not None:
            best, chosen = found, [*chosen, *part]
        elif len(part) > 1:
            waiting[:0] = [part[: len(part) // 2], part[len(part) // 2 :]]
    return best


def _reduced(start: Core, masks: dict[str, NDArray[np.bool_]], passes: Callable[[Plan, nn.Module], bool]) -> Core | None:
    try:
        plan = start.structure.plan(masks)
        smaller = duplicate(start.model, share=True)
        shrink(smaller, plan)
        own_memory(smaller)
        return Core(smaller, start.structure.after(plan)) if passes(plan, smaller) else None
    except Exception:
        return None


def _equals_embedded(model: nn.Module, plan: Plan, smaller: nn.Module, call: Call) -> bool:
    """Whether the core computes what the whole network does when nothing of its matrices but the core's part is left."""
    with no_fused_attention():
        actual = call.on(smaller)
        with embedded(model, plan):
            return close(actual, kept_entries(plan, call.on(model)), TOLERANCE, LEAST)
