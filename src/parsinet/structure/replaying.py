"""Removals replayed: a record gives a freshly built network the shapes that another one had."""

from __future__ import annotations

from torch import nn

from parsinet.errors import StructureError
from parsinet.structure.attributes import assign, keeps
from parsinet.structure.blocks_absent import SIZE
from parsinet.structure.blocks_removal import check_present, take_out
from parsinet.structure.cutting import cut, resize_
from parsinet.structure.parts import keep
from parsinet.structure.products import multiply_out
from parsinet.structure.record import StructureRecord
from parsinet.structure.selecting import KEPT, SELECTED, select, whole_selections


def replay(model: nn.Module, record: StructureRecord) -> None:
    """Give a freshly built original network the shapes it had when `record` was taken.

    Raises StructureError, with nothing changed, if the network is not the one the record speaks of.
    """
    tensors = {**dict(model.named_parameters()), **dict(model.named_buffers())}
    selections = whole_selections(model, {name: dims[0] for name, dims in record.sizes.items() if 0 in dims and name not in tensors})
    tensors.update(selections)
    for name, dims in record.sizes.items():
        for dim, size in dims.items():
            have = tuple(tensors[name].shape) if name in tensors else None
            if have is None or len(have) <= dim or have[dim] != size:
                found = "there is no such tensor" if have is None else f"it has shape {have}"
                raise StructureError(
                    f"The record expects {name} to have size {size} in dimension {dim}, but {found}. "
                    "The factory must build the original architecture, as it was before anything was removed."
                )
    _check(model, record)
    select(model, selections)
    for name, kept_dims in record.tensors.items():
        for dim, kept in kept_dims.items():
            resize_(tensors[name], cut(tensors[name].data, {dim: tuple(kept)}))
    take_out(model, record.absent, record.bare)
    assign(model, record.attributes)
    for first, readers in record.merges:
        multiply_out(model, first, readers)
    keep(model, record)


def _check(model: nn.Module, record: StructureRecord) -> None:
    """Refuse, before anything changes, a record whose entries contradict each other or the model."""
    modules = dict(model.named_modules())
    check_present(model, record.absent, record.bare)
    for name, dims in record.tensors.items():
        for dim, kept in dims.items():
            size = record.sizes.get(name, {}).get(dim)
            if size is None or not all(0 <= index < size for index in kept):
                raise StructureError(f"The structure record is damaged: it keeps indices of {name} that it says do not exist.")
    for path, attributes in record.attributes.items():
        if path not in modules:
            raise StructureError(f"The structure record is damaged: it speaks of {path!r}, a module the network does not have.")
        for attribute, value in attributes.items():
            known = keeps(modules[path], attribute, value) or (path in record.absent and attribute == SIZE)
            known = known and (attribute != "__class__" or value not in SELECTED or f"{path}.{KEPT}".lstrip(".") in record.tensors)
            if not known or not isinstance(value, int | str | list | tuple):
                raise StructureError(f"The structure record is damaged: it sets {path}.{attribute}, which the network does not have.")
