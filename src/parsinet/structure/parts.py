"""Records of networks and of their parts.

A removal is noted on the module that was traced, and what every module within it lost on that module too. So a part can be saved on its
own, as the network in a wrapper that made it traceable, and a whole of which a part lost units on its own, as the backbone of a detector
that cannot be traced.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from torch import Tensor, nn

from parsinet.structure.attributes import Attributes
from parsinet.structure.blocks_absent import Answer
from parsinet.structure.plan import Plan
from parsinet.structure.record import StructureRecord, drop_record, put_record, record_of

SHARE = "_structure_share"
"""Under which name a module keeps what it lost itself."""


Sizes = Mapping[tuple[str, int], int]
"""Tensor and dimension → size."""


@dataclass(frozen=True, eq=False)
class Share:
    """What one module lost, in the terms of a record, its own tensors by their local names. It is replaced, never changed."""

    tensors: Mapping[str, tuple[dict[int, list[int]], dict[int, int]]]
    attributes: Attributes
    absent: Answer | None
    bare: tuple[str, ...]

    def __deepcopy__(self, memo: dict[int, Any]) -> Share:
        return self


def whole_record(model: nn.Module, cut: Sizes = MappingProxyType({})) -> StructureRecord:
    """All that a model has lost since it was built, whichever network around it or part of it was traced, in its own names.

    Units and removals are those of the model itself and of parts that were traced on their own; they came later than the model's.
    cut: sizes, before a removal that is under way, of what it has cut.
    """
    record = record_of(model)
    if record == StructureRecord():
        record = _gathered(model, cut)
    for path, module in _traced_parts(model):
        record = _joined(record, _within(record_of(module), path))
    return record


def extend_record(model: nn.Module, plan: Plan, changed: dict[str, Attributes]) -> None:
    """Note a removal."""
    record = whole_record(model, plan.sizes).copy()
    record.extend(plan, changed)
    keep(model, record)


def note_merge(model: nn.Module, first: str, readers: Sequence[str]) -> None:
    """Note that a linear map was multiplied into its readers."""
    record = whole_record(model).copy()
    record.merges.append((first, list(readers)))
    keep(model, record)


def keep(model: nn.Module, record: StructureRecord) -> None:
    """Put the record on the model, and on every module within it what it lost."""
    for _, module in list(_traced_parts(model)):
        drop_record(module)
    put_record(model, record)
    owners = _owners(model)
    for path, module in model.named_modules(remove_duplicate=False):
        own = {local: (record.tensors[name], record.sizes[name]) for local, name in owners[path].items() if name in record.tensors}
        bare = tuple(name.rpartition(".")[2] for name in record.bare if name.rpartition(".")[0] == path)
        attributes = record.attributes.get(path, {})
        if own or attributes or bare or path in record.absent:
            module.__dict__[SHARE] = Share(own, dict(attributes), record.absent.get(path), bare)


def _owners(model: nn.Module) -> dict[str, dict[str, str]]:
    """Per module its tensors: the local name → the name in the model, one for a tensor that has several."""
    first: dict[int, str] = {}
    owners: dict[str, dict[str, str]] = {}
    for path, module in model.named_modules(remove_duplicate=False):
        owners[path] = {}
        for local, tensor in (*module._parameters.items(), *module._buffers.items()):
            if isinstance(tensor, Tensor):
                owners[path][local] = first.setdefault(id(tensor), f"{path}.{local}".removeprefix("."))
    return owners


def _gathered(model: nn.Module, cut: Sizes) -> StructureRecord:
    """What the modules of a model lost when networks around it were traced; nothing of tensors that have another size by now."""
    record, owners = StructureRecord(), _owners(model)
    for path, module in model.named_modules():
        share = module.__dict__.get(SHARE)
        if not isinstance(share, Share):
            continue
        for local, (kept, sizes) in share.tensors.items():
            name, tensor = owners[path].get(local), module._parameters.get(local, module._buffers.get(local))
            if (
                name
                and tensor is not None
                and all(cut.get((name, dim), tensor.shape[dim]) == len(indices) for dim, indices in kept.items())
            ):
                record.tensors[name], record.sizes[name] = dict(kept), dict(sizes)
        if share.attributes:
            record.attributes[path] = dict(share.attributes)
        if share.absent is not None:
            record.absent[path] = share.absent
        record.bare += [f"{path}.{name}".removeprefix(".") for name in share.bare]
    return record


def _traced_parts(model: nn.Module) -> Iterator[tuple[str, nn.Module]]:
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


def _joined(whole: StructureRecord, part: StructureRecord) -> StructureRecord:
    """Both as one; the part's is later, and goes back to the beginning as the whole's does."""
    joined = whole.copy()
    joined.tensors |= {name: dict(dims) for name, dims in part.tensors.items()}
    joined.sizes |= {name: dict(dims) for name, dims in part.sizes.items()}
    joined.attributes |= {module: dict(values) for module, values in part.attributes.items()}
    joined.units |= part.units
    joined.removals += part.removals
    joined.absent |= part.absent
    joined.bare += [name for name in part.bare if name not in joined.bare]
    joined.merges += part.merges
    return joined
