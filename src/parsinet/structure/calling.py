"""What a network is called with and what it returns."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from parsinet.errors import ArgumentTypeError

ExampleInputs = Tensor | tuple[Any, ...] | list[Any] | Mapping[str, Any]

CACHE = "transformers.cache_utils.Cache"
"""Base class of what holds keys and values of earlier positions."""


def as_call(example_inputs: ExampleInputs) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Example inputs as (args, kwargs): a Tensor is one argument, a tuple all of them, a mapping keyword arguments."""
    if isinstance(example_inputs, Tensor):
        return (example_inputs,), {}
    if isinstance(example_inputs, Mapping):
        return (), dict(example_inputs)
    if isinstance(example_inputs, (tuple, list)):
        return tuple(example_inputs), {}
    raise ArgumentTypeError(
        f"example_inputs must be a Tensor, a tuple of positional or a dict of keyword arguments, got {type(example_inputs).__name__}."
    )


def results(output: Any) -> Any:
    """What the model returns, in plain containers, without the caches of keys and values of transformers: they are no result."""
    if any(f"{kind.__module__}.{kind.__qualname__}" == CACHE for kind in type(output).__mro__):
        return None
    if isinstance(output, Mapping):
        return {key: results(value) for key, value in output.items()}
    return type(output)(map(results, output)) if type(output) in (tuple, list) else output
