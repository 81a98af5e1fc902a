"""Whole numbers that know where they come from: an attribute of a module, the shape of a tensor, or the one divided by the other."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from contextvars import ContextVar
from typing import Any

Equal = list[tuple["Seen", "Kept"]]
"""Sizes read off tensors and kept numbers that code has compared and found equal."""

_noted: ContextVar[Equal | None] = ContextVar("_noted", default=None)


@contextlib.contextmanager
def comparisons_noted() -> Iterator[Equal]:
    """Within the context, what is found equal is noted in the list it gives."""
    found: Equal = []
    token = _noted.set(found)
    try:
        yield found
    finally:
        _noted.reset(token)


class Marked(int):
    """A whole number with an origin; any arithmetic that is not written here gives a plain one."""

    def __eq__(self, other: object) -> bool:
        equal = int.__eq__(self, other)
        found = _noted.get()
        if found is not None and equal is True:
            pair = (self, other) if isinstance(self, Seen) else (other, self)
            if isinstance(pair[0], Seen) and isinstance(pair[1], Kept):
                found.append((pair[0], pair[1]))
        return equal

    def __ne__(self, other: object) -> bool:
        equal = self.__eq__(other)
        return equal if equal is NotImplemented else not equal

    def __hash__(self) -> int:
        return int.__hash__(self)

    def __deepcopy__(self, memo: dict[int, Any]) -> Marked:
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        return int, (int(self),)


class Kept(Marked):
    """A whole number kept at an attribute of a module, or `factor` times one."""

    module: str
    attribute: str
    factor: int

    def __new__(cls, value: int, module: str, attribute: str, factor: int = 1) -> Kept:
        number = super().__new__(cls, value)
        number.module, number.attribute, number.factor = module, attribute, factor
        return number

    def __mul__(self, other: Any) -> Any:
        product = int(self) * other
        return Kept(product, self.module, self.attribute, self.factor * other) if type(other) is int else product

    __rmul__ = __mul__

    def __hash__(self) -> int:
        """Of its place, so that whoever keeps results by their arguments keeps none made with the number of another place."""
        return hash((self.module, self.attribute, self.factor, int(self)))


class Seen(Marked):
    """A size read off a tensor: that of its dimension `dim`. `tensor`: a number per reading."""

    tensor: int
    dim: int

    def __new__(cls, value: int, tensor: int, dim: int) -> Seen:
        number = super().__new__(cls, value)
        number.tensor, number.dim = tensor, dim
        return number

    def __floordiv__(self, other: Any) -> Any:
        quotient = int(self) // other
        return Share(quotient, self, other) if isinstance(other, Kept) else quotient


class Share(Marked):
    """A size read off a tensor, divided by a kept number: `C // self.n_head`."""

    whole: Seen
    divisor: Kept

    def __new__(cls, value: int, whole: Seen, divisor: Kept) -> Share:
        number = super().__new__(cls, value)
        number.whole, number.divisor = whole, divisor
        return number
