"""The global random generators of torch, Python and NumPy: kept through a block, and put where a pass can be repeated."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

APART = 4000
"""Bytes between the places from which passes draw that are to draw other numbers."""


@dataclass(frozen=True)
class Place:
    """Where the global generators of Python and of NumPy are; torch's are its own affair (`kept`)."""

    python: tuple[Any, ...]
    numpy: dict[str, Any]

    @staticmethod
    def now() -> Place:
        """Where they are at present."""
        return Place(random.getstate(), np.random.get_state(legacy=False))

    def take(self) -> None:
        """Draw from here on."""
        random.setstate(self.python)
        np.random.set_state(self.numpy)

    @contextlib.contextmanager
    def drawn_from(self) -> Iterator[None]:
        """Draw from here within, and afterwards from where the generators were before."""
        with _put_back():
            self.take()
            yield

    def beyond(self, times: int) -> list[Place]:
        """So many other places, from which other numbers are drawn; the same ones at every call."""
        found = []
        with self.drawn_from():
            for _ in range(times):
                random.randbytes(APART)
                np.random.bytes(APART)
                found.append(Place.now())
        return found

    def moved(self, other: Place) -> list[str]:
        """Whose generator is elsewhere there: Python, NumPy."""
        return [name for name, gone in (("Python", self.python != other.python), ("NumPy", _differ(self.numpy, other.numpy))) if gone]


def _differ(one: Any, other: Any) -> bool:
    """Of two states of NumPy's, in whatever generator's form."""
    if isinstance(one, dict):
        return one.keys() != other.keys() or any(_differ(one[key], other[key]) for key in one)
    return not np.array_equal(one, other)


@contextlib.contextmanager
def kept(*models: nn.Module) -> Iterator[None]:
    """What is drawn within is not missed afterwards: from Python, NumPy, and torch on the CPU and on the models' devices."""
    devices = {parameter.device.index for model in models for parameter in model.parameters() if parameter.is_cuda}
    with _put_back(), torch.random.fork_rng(devices=sorted(devices)):
        yield


@contextlib.contextmanager
def _put_back() -> Iterator[None]:
    before = Place.now()
    try:
        yield
    finally:
        before.take()
