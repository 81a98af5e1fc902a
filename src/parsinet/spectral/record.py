"""What the removal engine notes of a spectral network, said of the plain network it folds to."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any, Protocol

from torch import nn

from parsinet.spectral.layers import SpectralLayer

RECORD = "_structure_record"
"""Where the engine keeps its record on a model. Packages of one level do not import each other; the record is reached by this name."""

ROWS, COLUMNS = ("phi", "U", "R"), ("phi", "V", "Q")
"""Tensors of a basis whose first dimension, and whose later dimensions, are those of the weight."""

RANKS = re.compile(r"(^|\.)spectrum\.basis\.(s\[0\]|[UR]\[1\]|[VQ]\[0\])$")
"""Names of groups of units that are no nodes: the ranks of a decomposition, named after the tensor that counts them."""

NODES = re.compile(r"\.?spectrum\.basis\.\w+(\[\d\])?$")
"""How the name of a group of nodes ends that is called after its basis, as in a grouped convolution whose φ is decomposed."""


class _Group(Protocol):
    @property
    def name(self) -> str: ...


class _Structure(Protocol):
    def removable(self) -> Iterable[_Group]: ...


def node_groups(structure: _Structure) -> list[str]:
    """Names of the removable groups of a traced network that are nodes, as its plain network has them: without ranks of decompositions."""
    return [group.name for group in structure.removable() if not _is_rank(group.name)]


def fold_record(model: nn.Module, layers: Mapping[str, SpectralLayer]) -> None:
    """Let the record on `model`, if units have left, speak of plain weights where it spoke of φ, U, V, R and Q.

    Indices that left φ are counted from where the layer became spectral, those of its weight from before: one is taken of the other.
    """
    record: Any = vars(model).get(RECORD)
    if record is None:
        return
    new = record.copy()
    for path in layers:
        prefix = f"{path}." if path else ""
        own = [name for name in new.tensors if name.startswith(f"{prefix}spectrum.")]
        for name in own:
            dims, sizes = new.tensors.pop(name), new.sizes.pop(name)
            for dim in _of_the_weight(name.removeprefix(f"{prefix}spectrum.basis."), dims):
                weight = f"{prefix}weight"
                before = new.tensors.setdefault(weight, {}).get(dim)
                new.sizes.setdefault(weight, {}).setdefault(dim, sizes[dim])
                new.tensors[weight][dim] = dims[dim] if before is None else [before[index] for index in dims[dim]]
    new.units = _of_nodes(new.units)
    removals = (_of_nodes(removal) for removal in new.removals)
    new.removals = [removal for removal in removals if removal]
    vars(model)[RECORD] = new


def _of_the_weight(part: str, dims: Iterable[int]) -> list[int]:
    return [dim for dim in dims if part in (ROWS if dim == 0 else COLUMNS)]


def _of_nodes(units: Mapping[str, Any]) -> dict[str, Any]:
    """Units by group, ranks left out, under the names of the plain network."""
    return {NODES.sub("", group): own for group, own in units.items() if not _is_rank(group)}


def _is_rank(group: str) -> bool:
    return RANKS.search(group) is not None
