"""Whole numbers that know where they come from: an attribute of a module, the shape of a tensor, or the one divided by the other."""

from __future__ import annotations

from typing import Any


class Marked(int):
    """A whole number with an origin; any arithmetic that is not written here gives a plain one."""

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
