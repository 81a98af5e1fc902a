"""Numbers that tell states of different processes apart without sending the states."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from parsinet.distributed.sharded import is_sharded

CHUNK = 2**20
"""Entries of a tensor that are summed at a time."""
SPREAD = -7046029254386353131
"""2⁶⁴/φ as a signed number: its multiples, made odd, are the factors of a multilinear sum."""
BITS = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}


def digest(value: Any) -> int:
    """A signed 64-bit number for nested mappings, sequences, tensors and plain values: equal where they are bitwise equal.

    Tensors are summed on their own device, Σ_i b_i m_i mod 2⁶⁴ over their entries' bits b_i with odd m_i, so that one changed entry always
    shows; the sums, shapes, names and plain values go through SHA-256. Of tensors spread over processes, of which each has another part,
    dtype and shape alone count.
    """
    found = hashlib.sha256()
    for piece in _pieces(value):
        found.update(piece.encode())
        found.update(b"\0")
    return int.from_bytes(found.digest()[:8], "little", signed=True)


def _pieces(value: Any) -> Iterator[str]:
    if is_sharded(value):
        yield f"{value.dtype} {tuple(value.shape)} in parts"
    elif isinstance(value, Tensor):
        yield f"{value.dtype} {tuple(value.shape)} {_sum(value)}"
    elif isinstance(value, Mapping):
        yield f"mapping {len(value)}"
        for key in sorted(value, key=str):
            yield str(key)
            yield from _pieces(value[key])
    elif isinstance(value, list | tuple):
        yield f"sequence {len(value)}"
        for entry in value:
            yield from _pieces(entry)
    else:
        yield repr(value)


@torch.no_grad()
def _sum(tensor: Tensor) -> int:
    row = torch.view_as_real(tensor.detach()) if tensor.is_complex() else tensor.detach()
    row = row.contiguous().reshape(-1)
    bits = row.view(BITS[row.element_size()])
    factors = torch.arange(min(CHUNK, len(bits)), device=bits.device).mul_(SPREAD).bitwise_or_(1)
    total = torch.zeros((), dtype=torch.int64, device=bits.device)
    for part in torch.split(bits, CHUNK) if len(bits) else ():
        total = total * SPREAD + (part.to(torch.int64) * factors[: len(part)]).sum()
    return int(total)
