"""Whether a network in another form computes the same: outputs beside each other, on batches of several sizes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from parsinet.draws import Place, kept
from parsinet.errors import ExportError
from parsinet.export.drawing import other_coins, why_passes_differ
from parsinet.export.numbers import wide
from parsinet.measure import ExampleInputs, batch_size, resize_batch
from parsinet.measure.examples import arguments, evaluating, tensors

ALLOWED = {torch.float32: 1e-5, torch.float64: 1e-10}
"""Of the output's scale: what another order of additions may change, and a little more."""
SIZES = (1, 3)
"""Batches that are compared beside the one of all examples."""


@dataclass(frozen=True)
class Agreement:
    """The largest difference of any output, as a share of the largest output; what was allowed; the sizes of the batches compared."""

    difference: float
    allowed: float
    batches: tuple[int, ...]

    def __str__(self) -> str:
        sizes = ", ".join(map(str, self.batches))
        told = f"differ by {self.difference:.1e} of their scale at most (allowed {self.allowed:g})" if self.difference else "are equal"
        return f"outputs on batches of {sizes} {told}"


def compare(name: str, model: nn.Module, other: Callable[..., Any], example_inputs: ExampleInputs, *, repeats: bool = True) -> Agreement:
    """max |y − z| / max |y| over the outputs y of the model and z of its other form, on the first 1, the first 3 and all examples.

    The scale max |y| is that of all examples, taken for each tensor of the output. Both draw from the same place of torch's generator;
    where the network tosses coins of Python's or NumPy's, it has to agree whatever these are. repeats: whether the other form draws from
    torch. Raises ExportError in the name of the other form: if it does not run, gives other shapes, numbers that are not finite, or
    differs by more than 1e-5 (1e-10 in float64); if the network differs so much from itself, in the network's.
    """
    largest = batch_size(example_inputs)
    sizes = (largest, *(size for size in SIZES if size != largest))
    scales: list[float] = []
    worst, allowed = 0.0, 0.0
    batches = [resize_batch(example_inputs, size) for size in sizes]
    coins = [(batches[-1], place) for place in other_coins(model, batches[-1])]
    for inputs, place in (*((batch, Place.now()) for batch in batches), *coins):
        with place.drawn_from():
            ours, theirs = _outputs(name, model, other, inputs)
        scales = scales or [float(wide(y).abs().max()) if y.numel() else 0.0 for y in ours]
        allowed = allowed or max(_allowed(y) for y in ours)
        worst = max([worst, *(_difference(y, z, scale) for y, z, scale in zip(ours, theirs, scales, strict=True))])
    if worst > allowed:
        told = why_passes_differ(model, batches[-1], allowed, repeats=repeats)
        differs = f"does not compute the same: its outputs differ by {worst:.1e} of their scale, {allowed:g} are allowed."
        raise ExportError(f"{name} {f'cannot be compared: {told}' if told else differs} Nothing was written.")
    return Agreement(worst, allowed, tuple(sorted(sizes)))


def _outputs(name: str, model: nn.Module, other: Callable[..., Any], inputs: ExampleInputs) -> tuple[list[Tensor], list[Tensor]]:
    args, kwargs = arguments(inputs)
    with evaluating(model), torch.no_grad():
        with kept():
            ours = tensors((model(*args, **kwargs),))
        try:
            theirs = tensors((other(*args, **kwargs),))
        except Exception as error:
            raise ExportError(f"{name} does not run on a batch of {batch_size(inputs)}: {type(error).__name__}: {error}") from error
    if not ours:
        raise ExportError("The network returns no tensor; there is nothing to compare.")
    if [y.shape for y in ours] != [z.shape for z in theirs]:
        raise ExportError(f"{name} gives outputs of shapes {[list(z.shape) for z in theirs]}, not {[list(y.shape) for y in ours]}.")
    _check_finite("the network", ours)
    _check_finite(name[:1].lower() + name[1:], theirs)
    return ours, theirs


def _check_finite(whose: str, outputs: Sequence[Tensor]) -> None:
    for number, output in enumerate(outputs, 1):
        if not output.isfinite().all():
            which = f"output {number} of {len(outputs)}" if len(outputs) > 1 else "the output"
            raise ExportError(f"There are numbers in {which} of {whose} that are not finite; they cannot be compared.")


def _allowed(y: Tensor) -> float:
    if y.is_floating_point() and y.dtype not in ALLOWED:
        raise ExportError(f"The network computes in {str(y.dtype).removeprefix('torch.')}; export it as float32: model.float().")
    return ALLOWED.get(y.dtype, min(ALLOWED.values()))


def _difference(y: Tensor, z: Tensor, scale: float) -> float:
    if not y.numel():
        return 0.0
    gap = float((wide(y) - wide(z)).abs().max())
    return gap / scale if scale else gap
