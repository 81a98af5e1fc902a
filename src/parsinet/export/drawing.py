"""Networks that draw random numbers in evaluation: two passes differ, so that a file is held to the same numbers, or cannot be."""

from __future__ import annotations

import torch
from torch import nn

from parsinet.draws import Place
from parsinet.export.capturing import program_of
from parsinet.export.numbers import wide
from parsinet.measure import ExampleInputs
from parsinet.measure.examples import arguments, evaluating, tensors
from parsinet.structure.origins import location
from parsinet.structure.still import draws

PASSES = 8
"""With other draws: of the network beside its other form, where Python or NumPy toss, and of the network beside itself."""
NAMED = 2
"""Operators that draw, in an error."""
ELSEWHERE = {"Python": "Python's `random`", "NumPy": "`numpy.random`"}


def other_coins(model: nn.Module, example_inputs: ExampleInputs) -> list[Place]:
    """Places to draw from beside the present one; none where the network draws nothing from Python and NumPy."""
    start = Place.now()
    return start.beyond(PASSES) if _tossing(model, example_inputs) else []


def why_passes_differ(model: nn.Module, example_inputs: ExampleInputs, allowed: float, *, repeats: bool) -> str:
    """In words, what the network draws in evaluation and what to do; "" where its passes differ by no more than `allowed`.

    repeats: whether the other form draws from torch's generators, and so the same numbers from the same place.
    """
    gap = _gap(model, example_inputs)
    if gap <= allowed:
        return ""
    operators, coins = _operators(model, example_inputs), _tossing(model, example_inputs)
    more = [f"{len(operators) - NAMED} more"] if len(operators) > NAMED else []
    named = ", ".join([*operators[:NAMED], *more, *(ELSEWHERE[name] for name in coins)])
    advice = ", or write a .pt2 file, which draws as torch does" if operators and not coins and not repeats else ""
    return (
        f"two passes of the network itself differ by {gap:.1e} of their scale: in evaluation it draws random numbers"
        f"{f' ({named})' if named else ', or keeps a state'}. Return the mean where it does not train (`if self.training`){advice}."
    )


def _tossing(model: nn.Module, example_inputs: ExampleInputs) -> list[str]:
    args, kwargs = arguments(example_inputs)
    with evaluating(model), torch.no_grad():
        start = Place.now()
        model(*args, **kwargs)
        return start.moved(Place.now())


def _gap(model: nn.Module, example_inputs: ExampleInputs) -> float:
    """The largest difference between passes with other draws, as a share of the output."""
    args, kwargs = arguments(example_inputs)
    with evaluating(model), torch.no_grad():
        first, *others = (tensors((model(*args, **kwargs),)) for _ in range(PASSES + 1))
    if any([y.shape for y in first] != [z.shape for z in other] for other in others):
        return float("inf")
    pairs = [(wide(y), wide(z)) for other in others for y, z in zip(first, other, strict=True) if y.numel()]
    return max((float((y - z).abs().max()) / (float(y.abs().max()) or 1.0) for y, z in pairs), default=0.0)


def _operators(model: nn.Module, example_inputs: ExampleInputs) -> list[str]:
    """The operators of torch that draw, each once, with their lines."""
    nodes = program_of(model, example_inputs).graph.nodes
    return list(dict.fromkeys(location(node) for node in nodes if draws(node)))
