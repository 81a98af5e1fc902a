"""structure.json: every removal a network has been through, replayable on the original architecture without tracing it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import chain, count, groupby
from typing import Any

from torch import nn

from parsinet.errors import StructureError
from parsinet.structure.attributes import Attributes
from parsinet.structure.blocks import is_beneath, is_within
from parsinet.structure.blocks_absent import Answer
from parsinet.structure.plan import Plan

FORMAT = 1
WITH_BLOCKS = 2
"""The format of a record with absent modules; others stay readable by what knew format 1 alone."""
WITH_MERGES = 3
"""The format of a record with merged layers."""
LONGEST = 1 << 24
"""Units or indices along one dimension: more than any network has, less than fills the memory."""
_ATTRIBUTE = "_structure_record"


@dataclass
class StructureRecord:
    """What has happened to a network's shape since its factory built it; indices are those of the original tensors and units.

    tensors: name → dim → kept indices. sizes: name → dim → original size. attributes: module → attribute → value now.
    units: group → units still there. removals: one entry per shrink, group → units that left. absent: module → what its stand-in answers,
    for the outermost modules of blocks that left; bare: parameters of staying modules that left with them. merges: after all removals,
    linear maps multiplied into their readers.
    """

    tensors: dict[str, dict[int, list[int]]] = field(default_factory=dict)
    sizes: dict[str, dict[int, int]] = field(default_factory=dict)
    attributes: dict[str, Attributes] = field(default_factory=dict)
    units: dict[str, list[int]] = field(default_factory=dict)
    removals: list[dict[str, list[int]]] = field(default_factory=list)
    absent: dict[str, Answer] = field(default_factory=dict)
    bare: list[str] = field(default_factory=list)
    merges: list[tuple[str, list[str]]] = field(default_factory=list)

    def extend(self, plan: Plan, changed: dict[str, Attributes]) -> None:
        """Add one removal; `plan` speaks of present indices. StructureError once layers have been merged."""
        if self.merges:
            raise StructureError("Layers of this network have been merged (merge_linear), after which nothing can be removed. Merge last.")
        for (name, dim), kept in plan.tensors.items():
            size = plan.sizes[name, dim]
            original = self.tensors.setdefault(name, {}).setdefault(dim, list(range(size)))
            self.sizes.setdefault(name, {}).setdefault(dim, size)
            self.tensors[name][dim] = [original[index] for index in kept]
        removal = {}
        for name, mask in plan.alive.items():
            group = self._history(name, len(mask))
            units = self.units.setdefault(group, list(range(len(mask))))
            removal[group] = [unit for unit, stays in zip(units, mask, strict=True) if not stays]
            self.units[group] = [unit for unit, stays in zip(units, mask, strict=True) if stays]
        self.removals.append(removal)
        if plan.blocks:
            self._leave(plan)
        for path, values in changed.items():
            self.attributes.setdefault(path, {}).update(values)

    def _history(self, group: str, size: int) -> str:
        """The name under which the units of a group are kept: its own, unless that is kept of other units, as in an earlier trace of the
        network in which it was named so."""
        names = chain([group], (f"{group}#{number}" for number in count(2)))
        return next(name for name in names if len(self.units.get(name, range(size))) == size)

    def _leave(self, plan: Plan) -> None:
        """Forget what was noted of modules that are gone; not of their tensors, which may stay under another name."""
        self.absent = {path: answer for path, answer in self.absent.items() if not any(is_beneath(path, other) for other in plan.absent)}
        self.absent.update(plan.absent)
        self.bare = [name for name in (*self.bare, *plan.bare) if not any(is_beneath(name, path) for path in plan.absent)]
        for path in [path for path in self.attributes if any(is_within(path, other) for other in plan.absent)]:
            del self.attributes[path]

    def copy(self) -> StructureRecord:
        """A record of its own; lists of indices are never changed in place, so they are shared."""
        return StructureRecord(
            tensors={name: dict(dims) for name, dims in self.tensors.items()},
            sizes={name: dict(dims) for name, dims in self.sizes.items()},
            attributes={path: dict(values) for path, values in self.attributes.items()},
            units=dict(self.units),
            removals=list(self.removals),
            absent=dict(self.absent),
            bare=list(self.bare),
            merges=list(self.merges),
        )

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values; index lists are written as ranges ("0-15,18")."""
        blocks = {"absent": {path: answer.to_json() for path, answer in self.absent.items()}, "bare": self.bare} if self.absent else {}
        merges = {"merges": [[first, *readers] for first, readers in self.merges]} if self.merges else {}
        return {
            "format": WITH_MERGES if merges else WITH_BLOCKS if blocks else FORMAT,
            **blocks,
            **merges,
            "tensors": {name: {str(dim): to_ranges(kept) for dim, kept in dims.items()} for name, dims in self.tensors.items()},
            "sizes": {name: {str(dim): size for dim, size in dims.items()} for name, dims in self.sizes.items()},
            "attributes": self.attributes,
            "units": {group: to_ranges(units) for group, units in self.units.items()},
            "removals": [{group: to_ranges(units) for group, units in removal.items()} for removal in self.removals],
        }

    @staticmethod
    def from_json(content: dict[str, Any]) -> StructureRecord:
        """The inverse of `to_json`; StructureError for content of another format."""
        if content.get("format") not in (FORMAT, WITH_BLOCKS, WITH_MERGES):
            raise StructureError(
                f"The structure record has format {content.get('format')!r}; "
                f"this version of parsinet reads formats {FORMAT} to {WITH_MERGES}."
            )
        try:
            return StructureRecord(
                tensors={name: {int(dim): from_ranges(text) for dim, text in dims.items()} for name, dims in content["tensors"].items()},
                sizes={name: {int(dim): int(size) for dim, size in dims.items()} for name, dims in content["sizes"].items()},
                attributes={path: dict(values) for path, values in content["attributes"].items()},
                units={group: from_ranges(text) for group, text in content["units"].items()},
                removals=[{group: from_ranges(text) for group, text in removal.items()} for removal in content["removals"]],
                absent={path: Answer.from_json(answer) for path, answer in content.get("absent", {}).items()},
                bare=[str(name) for name in content.get("bare", [])],
                merges=[(str(first), [str(reader) for reader in readers]) for first, *readers in content.get("merges", [])],
            )
        except (KeyError, ValueError, TypeError, AttributeError) as error:
            raise StructureError(f"The structure record is damaged ({type(error).__name__}: {error}).") from error


def record_of(model: nn.Module) -> StructureRecord:
    """The model's record; an empty one if nothing was ever removed."""
    record = model.__dict__.get(_ATTRIBUTE)
    return record if isinstance(record, StructureRecord) else StructureRecord()


def put_record(model: nn.Module, record: StructureRecord) -> None:
    """Keep the record on the model itself, so that copies and saves carry it."""
    model.__dict__[_ATTRIBUTE] = record


def drop_record(model: nn.Module) -> None:
    """Forget it."""
    model.__dict__.pop(_ATTRIBUTE, None)


def to_ranges(numbers: list[int]) -> str:
    """[0, 1, 2, 5] → "0-2,5"; the numbers must ascend."""
    runs = []
    for _, run in groupby(enumerate(numbers), key=lambda pair: pair[1] - pair[0]):
        members = [number for _, number in run]
        runs.append(f"{members[0]}-{members[-1]}" if len(members) > 1 else str(members[0]))
    return ",".join(runs)


def from_ranges(text: str) -> list[int]:
    """The inverse of `to_ranges`. ValueError for more than LONGEST numbers, before memory is taken for them."""
    numbers: list[int] = []
    for part in text.split(",") if text else []:
        first, _, last = part.partition("-")
        run = range(int(first), int(last or first) + 1)
        if len(numbers) + run.stop - run.start > LONGEST:
            raise ValueError(f"{part} are too many")
        numbers.extend(run)
    return numbers


Factory = Callable[[], nn.Module]
