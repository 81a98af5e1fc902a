"""What a model asks of its arguments before it builds a layer: whole numbers, an input shape it can take."""

from collections.abc import Sequence
from typing import Any

from parsinet.errors import ArgumentTypeError, UsageError


def positive(who: str, name: str, value: Any) -> int:
    """`value` if it is a whole number ≥ 1. Raises ArgumentTypeError for another type, UsageError for a smaller number."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise ArgumentTypeError(f"{who}: {name} must be a whole number, got {value!r}.")
    if value < 1:
        raise UsageError(f"{who}: {name} must be ≥ 1, got {value}.")
    return value


def fraction(who: str, name: str, value: Any) -> float:
    """`value` if it is a number in [0, 1). Raises ArgumentTypeError or UsageError."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ArgumentTypeError(f"{who}: {name} must be a number, got {value!r}.")
    if not 0 <= value < 1:
        raise UsageError(f"{who}: {name} must be in [0, 1), got {value}.")
    return float(value)


def positives(who: str, name: str, values: Any) -> tuple[int, ...]:
    """`values` as a tuple if it is a sequence of whole numbers ≥ 1. Raises ArgumentTypeError or UsageError."""
    if isinstance(values, str) or not isinstance(values, Sequence):
        raise ArgumentTypeError(f"{who}: {name} must be a sequence of whole numbers, e.g. [300, 100], got {values!r}.")
    return tuple(positive(who, f"each entry of {name}", value) for value in values)


def any_shape(who: str, input_shape: Sequence[int]) -> tuple[int, ...]:
    """The shape of one example, at least one dimension, each ≥ 1. Raises UsageError or ArgumentTypeError."""
    shape = positives(who, "input_shape", input_shape)
    if not shape:
        raise UsageError(f"{who}: input_shape is empty; give the shape of one example without the batch, e.g. (1, 28, 28).")
    return shape


def image_shape(who: str, input_shape: Sequence[int]) -> tuple[int, int, int]:
    """(channels, height, width). Raises UsageError for anything that is not an image."""
    shape = any_shape(who, input_shape)
    if len(shape) != 3:
        raise UsageError(f"{who}: takes images, input_shape (channels, height, width); got {shape}.")
    return shape[0], shape[1], shape[2]
