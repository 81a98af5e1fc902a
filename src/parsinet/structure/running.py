"""Running a copy of the network: on copies of the inputs, in float64 where it can, its results compared up to rounding."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves, tree_map

from parsinet.draws import Place
from parsinet.errors import UsageError
from parsinet.structure.calling import ExampleInputs, as_call, results
from parsinet.structure.copies import duplicate
from parsinet.structure.origins import first_line

Batches = ExampleInputs | Iterable[ExampleInputs]
"""One batch, or an iterable of batches; a Tensor, tuple or mapping is one."""


@dataclass(frozen=True)
class Call:
    """Positional and keyword arguments of one forward pass, and where its draws from Python and NumPy begin: in every pass the same."""

    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    draws: Place = field(default_factory=Place.now, repr=False, compare=False)

    @staticmethod
    def of(example_inputs: ExampleInputs) -> Call:
        """The call that example inputs stand for."""
        return Call(*as_call(example_inputs))

    def double(self) -> Call:
        """The same with every floating-point tensor in float64, complex ones in complex128."""
        return self.with_tensors(_wide)

    def with_tensors(self, change: Callable[[Tensor], Tensor]) -> Call:
        """The same call with each of its tensors changed."""
        args, kwargs = tree_map(lambda leaf: change(leaf) if isinstance(leaf, Tensor) else leaf, (self.args, self.kwargs))
        return replace(self, args=args, kwargs=kwargs)

    def elsewhere(self, times: int) -> list[Call]:
        """The same call so many times, each with other draws from Python and NumPy."""
        return [replace(self, draws=draws) for draws in self.draws.beyond(times)]

    def on(self, model: nn.Module, *, gradients: bool = False) -> list[Tensor]:
        """The tensors the model returns; it may write into its inputs, which are copies. gradients: whether they may be differentiated."""
        with self.draws.drawn_from():
            return self._pass(model, gradients)

    def drawn(self, model: nn.Module) -> Place:
        """Where a pass of the model leaves the generators of Python and NumPy."""
        with self.draws.drawn_from():
            self._pass(model, gradients=False)
            return Place.now()

    def _pass(self, model: nn.Module, gradients: bool) -> list[Tensor]:
        copy = self.with_tensors(Tensor.clone)
        with torch.set_grad_enabled(gradients):
            return [leaf for leaf in tree_leaves(results(model(*copy.args, **copy.kwargs))) if isinstance(leaf, Tensor)]


def batches_of(example_inputs: Batches) -> Iterator[Any]:
    """The batches one by one."""
    return iter([example_inputs] if isinstance(example_inputs, Tensor | tuple | Mapping) else example_inputs)


def in_double(model: nn.Module, batches: Iterator[Any]) -> tuple[nn.Module, Iterator[Call]]:
    """A float64 copy of the model and its calls, or both as they are where the model insists on its own precision.

    Raises UsageError if there is no batch.
    """
    first = next((Call.of(batch) for batch in batches), None)
    if first is None:
        raise UsageError("fold='mean' needs example_inputs with at least one batch.")
    double = widened(duplicate(model))
    try:
        first.double().on(double)
    except Exception:
        return model, _calls(first, batches)
    return double, (call.double() for call in _calls(first, batches))


def _calls(first: Call, rest: Iterator[Any]) -> Iterator[Call]:
    yield first
    for batch in rest:
        yield Call.of(batch)


def run(model: nn.Module, calls: Iterable[Call]) -> Call:
    """Run the model on every batch; returns the last. UsageError if the model rejects one."""
    for call in calls:
        try:
            call.on(model)
        except Exception as error:
            raise UsageError(
                f"fold: the model rejects a batch of example_inputs ({first_line(error)}). "
                "A batch is what the model takes, without targets."
            ) from error
    return call


LEAST = 1e-2
"""Size below which outputs of trials are taken for this large: their weights are such that they hardly are (`telling`)."""


def close(actual: list[Tensor], expected: list[Tensor], tolerance: float | None = None, least: float = 1.0) -> bool:
    """Same shapes, and no entry differs by more than `tolerance` (default: what rounding explains) times the output's size, or `least`."""
    if [tensor.shape for tensor in actual] != [tensor.shape for tensor in expected]:
        return False
    for a, b in zip(actual, expected, strict=True):
        scale = float(b.abs().max()) if b.numel() and b.is_floating_point() else 0.0
        allowed = rounding(b) if tolerance is None else tolerance
        if not torch.allclose(a, b, rtol=0, atol=allowed * max(least, scale), equal_nan=True):
            return False
    return True


def rounding(tensor: Tensor) -> float:
    """A bound from which rounding of a deep network stays orders away."""
    return 1e-9 if tensor.dtype == torch.float64 else 1e-3


def widened(model: nn.Module) -> nn.Module:
    """The same model, in place, in float64; `double()` leaves complex numbers as they are, here they become complex128."""
    model._apply(_wide)  # type: ignore[no-untyped-call]
    return model


def _wide(tensor: Tensor) -> Tensor:
    return tensor.to(torch.complex128) if tensor.is_complex() else tensor.double() if tensor.is_floating_point() else tensor
