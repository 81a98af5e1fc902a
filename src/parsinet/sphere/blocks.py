"""Blocks of rows for the fast path: large tensors in pieces, small ones of equal fan-in together, three scratch blocks for all of them.

On a processor, a call costs as much as the arithmetic on some ten thousand numbers, and new memory more than the arithmetic on it.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

Tensors = Sequence[Tensor]
BLOCK = 1 << 17
"""Entries per block: large enough to hide the cost of calls, small enough for a processor's cache."""
SMALL = BLOCK // 2
"""Tensors of fewer entries share a block with others of their fan-in."""


class Block(NamedTuple):
    """Rows of the columns' tensors, [rows, entries], and three scratch tensors of their shape."""

    rows: tuple[Tensor, ...]
    scratch: tuple[Tensor, Tensor, Tensor]


class Scratch:
    """Memory that is used again and again: one flat tensor per place, grown where it is too short. Only a processor's is kept: accelerators
    have an allocator that does the same."""

    def __init__(self) -> None:
        self._flat: dict[object, Tensor] = {}

    def three(self, like: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Three tensors of the given one's shape and kind."""
        return self._view("first", like, like.shape), self._view("second", like, like.shape), self._view("third", like, like.shape)

    def like(self, place: int, column: Tensors) -> Tensor:
        """Room for the rows of a column's tensors, one after the other."""
        return self._view(place, column[0], torch.Size((sum(len(tensor) for tensor in column), column[0].shape[1])))

    def _view(self, place: object, like: Tensor, shape: torch.Size) -> Tensor:
        size, key = shape.numel(), (place, like.dtype)
        if not like.is_cpu:
            return like.new_empty(shape)
        if key not in self._flat or self._flat[key].numel() < size:
            self._flat[key] = like.new_empty(size)
        return self._flat[key][:size].view(shape)


def as_rows(x: Tensor, unit_dim: int) -> Tensor | None:
    """x as [units, entries] without a copy, entries in the order of memory; None if its layout does not allow that."""
    if unit_dim % x.dim() != 0:
        return None
    if x.is_contiguous():
        return x if x.dim() == 2 else x.view(len(x), -1)
    if x.dim() == 4 and x.is_contiguous(memory_format=torch.channels_last):
        return x.permute(0, 2, 3, 1).view(len(x), -1)
    return None


def blocks(scratch: Scratch, written: int, *columns: Tensors) -> Iterator[Block]:
    """Corresponding tensors [units, entries] of the columns, some rows at a time.

    What is written into the rows of the first `written` columns reaches their tensors. Accelerators take whole tensors.
    """
    lines = list(zip(*columns, strict=True))
    together, alone = _grouped(lines)
    for group in together:
        merged = tuple(torch.cat(list(column), out=scratch.like(place, column)) for place, column in enumerate(zip(*group, strict=True)))
        yield Block(merged, scratch.three(merged[0]))
        for line, parts in zip(zip(*group, strict=True), merged[:written], strict=False):
            torch._foreach_copy_(list(line), list(torch.split(parts, [len(tensor) for tensor in line])))
    for line in alone:
        units, entries = line[0].shape
        count = units if not line[0].is_cpu else min(units, max(1, BLOCK // entries))
        for start in range(0, units, count):
            rows = tuple(tensor[start : start + count] for tensor in line) if count < units else line
            yield Block(rows, scratch.three(rows[0]))


def _grouped(lines: list[tuple[Tensor, ...]]) -> tuple[list[list[tuple[Tensor, ...]]], list[tuple[Tensor, ...]]]:
    """(groups of small tensors of equal fan-in, tensors by themselves)."""
    groups: dict[tuple[object, ...], list[list[tuple[Tensor, ...]]]] = {}
    alone: list[tuple[Tensor, ...]] = []
    for line in lines:
        units, entries = line[0].shape
        if not line[0].is_cpu or line[0].numel() >= SMALL:
            alone.append(line)
            continue
        open_groups = groups.setdefault((entries, line[0].dtype), [[]])
        if sum(other[0].numel() for other in open_groups[-1]) + units * entries > BLOCK:
            open_groups.append([])
        open_groups[-1].append(line)
    found = [group for open_groups in groups.values() for group in open_groups]
    return [group for group in found if len(group) > 1], alone + [group[0] for group in found if len(group) == 1]
