"""Running a copy of the user's network to see something of it: in float64, on one batch or many, and comparing what comes out."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves, tree_map

from parsinet.errors import UsageError
from parsinet.structure.export import ExampleInputs, as_call, no_fused_attention, results

Call = tuple[tuple[Any, ...], dict[str, Any]]
Batches = ExampleInputs | Iterable[ExampleInputs]


def in_double(model: nn.Module, example_inputs: Batches, many: bool) -> tuple[nn.Module, Iterator[Call]]:
    """The copy and its calls in float64, or as they are where the model insists on its own precision.

    many: an iterable holds batches; a Tensor, tuple or mapping is one batch all the same.
    """
    batches: Iterator[Any] = iter([example_inputs] if not many or isinstance(example_inputs, Tensor | tuple | Mapping) else example_inputs)
    try:
        first = as_call(next(batches))
    except StopIteration:
        raise UsageError("fold='mean' needs example_inputs with at least one batch.") from None
    double = copy.deepcopy(model).double()
    try:
        outputs(double, tree_map(_double, first))
    except Exception:
        return model, _calls(first, batches, lambda leaf: leaf)
    return double, _calls(first, batches, _double)


def _calls(first: Call, rest: Iterator[Any], convert: Callable[[Any], Any]) -> Iterator[Call]:
    yield tree_map(convert, first)
    for batch in rest:
        yield tree_map(convert, as_call(batch))


def _double(leaf: Any) -> Any:
    return leaf.double() if isinstance(leaf, Tensor) and leaf.is_floating_point() else leaf


def run(model: nn.Module, calls: Iterable[Call]) -> Call:
    """Run the model on every batch; returns the last. UsageError if the model rejects one."""
    for call in calls:
        try:
            outputs(model, call)
        except Exception as error:
            text = str(error).strip().splitlines()
            raise UsageError(
                f"fold: the model rejects a batch of example_inputs ({text[0] if text else type(error).__name__}). "
                "A batch is what the model takes, without targets."
            ) from error
    return call


def outputs(model: nn.Module, call: Call) -> list[Tensor]:
    """Every tensor the model returns."""
    args, kwargs = call
    with torch.no_grad(), no_fused_attention():
        output = model(*args, **kwargs)
    return [leaf for leaf in tree_leaves(results(output)) if isinstance(leaf, Tensor)]


def close(actual: list[Tensor], expected: list[Tensor]) -> bool:
    """Whether two runs gave the same, up to rounding and relative to the outputs' size."""
    return all(a.shape == b.shape and _close(a, b) for a, b in zip(actual, expected, strict=True))


def _close(actual: Tensor, expected: Tensor) -> bool:
    scale = float(expected.abs().max()) if expected.numel() and expected.is_floating_point() else 0.0
    return torch.allclose(actual, expected, rtol=0, atol=tolerance(expected) * max(1.0, scale), equal_nan=True)


def tolerance(tensor: Tensor) -> float:
    """Rounding of a deep network stays orders below."""
    return 1e-9 if tensor.dtype == torch.float64 else 1e-3
