"""What a traced network costs as a function of the units that are there: multiply-adds, parameters, bytes."""

from __future__ import annotations

import operator
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from functools import reduce

import torch
from torch import Tensor, nn

from parsinet.errors import UsageError, suggest
from parsinet.gates.prices import Axis, Complexity, Term
from parsinet.structure import Structure
from parsinet.structure.groups import Slot

KINDS = ("macs", "parameters", "bytes")

Blocks = Mapping[str, Sequence[str]]
"""Group of a single unit that stands for whole modules → the names of those modules; what is inside is there while the unit is."""


def complexity(
    kind: str,
    model: nn.Module,
    structure: Structure,
    *,
    batch: int = 1,
    groups: Collection[str] | None = None,
    blocks: Blocks | None = None,
) -> Complexity:
    """A cost of the network as `parsinet.measure` counts it, as a function of the open units.

    kind: "macs" (multiply-adds per example, with the lengths of the example inputs and what their values decide, as the tokens each
    expert sees), "parameters" or "bytes" (parameters and buffers). model, structure: as they are now. batch: examples in the inputs the
    structure was traced with. groups: those that are gated, all by default; others count as open. blocks: groups that stand for whole
    modules.
    With 0 and 1 for θ it equals what `measure.profile` counts on the network without the closed units; operators that the trace does
    not understand cost nothing here, see `unpriced`.
    """
    if kind not in KINDS:
        raise UsageError(f"There is no cost {kind!r}.{suggest(kind, KINDS)}")
    wanted = {group.name for group in structure.groups} if groups is None else set(groups)
    entries = _work(structure, batch) if kind == "macs" else _tensors(kind, model, structure)
    terms, fixed = [], 0.0
    for module, factor, slots in entries:
        axes = [axis for slot in slots if (axis := _axis(slot, wanted))]
        size = factor
        for slot in slots:
            size *= 1 if any(group in wanted for group in slot.owners) else slot.size
        axes.extend({group: torch.zeros(1, dtype=torch.int64)} for group, inside in (blocks or {}).items() if _within(module, inside))
        if axes:
            terms.append(Term(size, tuple(axes)))
        else:
            fixed += size
    return Complexity(tuple(terms), fixed)


def dense_costs(kinds: Iterable[str], model: nn.Module, structure: Structure) -> dict[str, float]:
    """What the network costs now, per kind; multiply-adds of all examples of the inputs together."""
    return {kind: complexity(kind, model, structure).dense for kind in kinds}


def relative(
    shares: Mapping[str, float],
    dense: Mapping[str, float],
    model: nn.Module,
    structure: Structure,
    *,
    groups: Collection[str] | None = None,
    blocks: Blocks | None = None,
) -> Complexity:
    """R = Σ_c a_c K_c(Θ)/K_c(dense). shares: a_c. dense: `dense_costs` of the network before anything left. Others: as `complexity`."""
    parts = (complexity(kind, model, structure, groups=groups, blocks=blocks).scaled(share / dense[kind]) for kind, share in shares.items())
    return reduce(operator.add, parts)


def _work(structure: Structure, batch: int) -> Iterator[tuple[str, float, tuple[Slot, ...]]]:
    for work in structure.layout.work:
        yield work.module, work.fixed / batch, work.slots


def _tensors(kind: str, model: nn.Module, structure: Structure) -> Iterator[tuple[str, float, tuple[Slot, ...]]]:
    """Every tensor once: what is shared goes by the name under which it was labelled."""
    named: list[tuple[str, Tensor]] = [*model.named_parameters(remove_duplicate=False)]
    if kind == "bytes":
        named += model.named_buffers(remove_duplicate=False)
    labelled = {name for name, _ in structure.layout.tensors}
    known: dict[int, tuple[str, Tensor]] = {}
    for name, tensor in named:
        if id(tensor) not in known or name in labelled:
            known[id(tensor)] = (name, tensor)
    for name, tensor in known.values():
        size = float(tensor.element_size() if kind == "bytes" else 1)
        slots = []
        for dim, length in enumerate(tensor.shape):
            if (name, dim) in structure.layout.tensors:
                slots.append(structure.layout.tensors[name, dim])
            else:
                size *= length
        yield name.rpartition(".")[0], size, tuple(slots)


def _axis(slot: Slot, wanted: Collection[str]) -> Axis:
    return {group: torch.from_numpy(owner) for group, owner in slot.owners.items() if group in wanted}


def _within(module: str, paths: Sequence[str]) -> bool:
    return any(module == path or module.startswith(f"{path}.") for path in paths)
