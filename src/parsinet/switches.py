"""Switches of torch and of Python that are turned for the length of a block and put back."""

import contextlib
import gc
from collections.abc import Iterator, Mapping
from typing import Any

import torch

ABSENT = object()
"""In the place of an entry that was not there."""


@contextlib.contextmanager
def no_fused_attention() -> Iterator[None]:
    """Without the one-kernel path of nn.MultiheadAttention and nn.TransformerEncoderLayer, which hides the layers and operators within."""
    before = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(before)


@contextlib.contextmanager
def no_collection() -> Iterator[None]:
    """Without the search for cyclic garbage, which walks all objects of a graph under construction, and falls into what is being timed."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


@contextlib.contextmanager
def replaced(table: dict[str, Any], values: Mapping[str, Any]) -> Iterator[None]:
    """With these entries in the table, such as the names of a module (`vars(module)`)."""
    before = {name: table.get(name, ABSENT) for name in values}
    table.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is ABSENT:
                del table[name]
            else:
                table[name] = value
