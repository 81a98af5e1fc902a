"""The record of a network and its parts: a part may lose units on its own, as the backbone of a detector whose whole cannot be traced.

A removal is noted on the module that was traced. When a whole loses units, it takes over what its parts had noted; so what a part still
notes came later than what the whole does.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from torch import nn

from parsinet.structure.attributes import Attributes
from parsinet.structure.plan import Plan
from parsinet.structure.record import StructureRecord, drop_record, put_record, record_of


def whole_record(model: nn.Module) -> StructureRecord:
    """The model's own record and those of its parts, in the model's names."""
    record = record_of(model)
    for path, module in _parts(model):
        record = _joined(record, _within(record_of(module), path))
    return record


def extend_record(model: nn.Module, plan: Plan, changed: dict[str, Attributes]) -> None:
    """Note a removal."""
    record = whole_record(model).copy()
    record.extend(plan, changed)
    _take_over(model, record)


def note_merge(model: nn.Module, first: str, readers: Sequence[str]) -> None:
    """Note that a linear map was multiplied into its readers."""
    record = whole_record(model).copy()
    record.merges.append((first, list(readers)))
    _take_over(model, record)


def _take_over(model: nn.Module, record: StructureRecord) -> None:
    for _, module in list(_parts(model)):
        drop_record(module)
    put_record(model, record)


def _parts(model: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """Modules within the model that lost units on their own, by path, the outer ones first."""
    for path, module in model.named_modules():
        if path and record_of(module) != StructureRecord():
            yield path, module


def _within(record: StructureRecord, path: str) -> StructureRecord:
    """The record of a part, in the names of the whole."""

    def named(name: str) -> str:
        return f"{path}.{name}" if name else path

    return StructureRecord(
        tensors={named(name): dims for name, dims in record.tensors.items()},
        sizes={named(name): dims for name, dims in record.sizes.items()},
        attributes={named(module): values for module, values in record.attributes.items()},
        units={named(group): units for group, units in record.units.items()},
        removals=[{named(group): units for group, units in removal.items()} for removal in record.removals],
        absent={named(module): answer for module, answer in record.absent.items()},
        bare=[named(name) for name in record.bare],
        merges=[(named(first), [named(reader) for reader in readers]) for first, readers in record.merges],
    )


def _joined(first: StructureRecord, then: StructureRecord) -> StructureRecord:
    """Both as one; the second speaks of what the first has left."""
    joined = first.copy()
    for name, dims in then.tensors.items():
        for dim, kept in dims.items():
            size = then.sizes[name][dim]
            before = joined.tensors.setdefault(name, {}).setdefault(dim, list(range(size)))
            joined.sizes.setdefault(name, {}).setdefault(dim, size)
            joined.tensors[name][dim] = [before[index] for index in kept]
    for module, values in then.attributes.items():
        joined.attributes.setdefault(module, {}).update(values)
    for group, units in then.units.items():
        joined.units[group] = [joined.units[group][unit] for unit in units] if group in joined.units else units
    joined.removals += then.removals
    joined.absent |= then.absent
    joined.bare += then.bare
    joined.merges += then.merges
    return joined
