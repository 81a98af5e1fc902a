"""Packed sequences, for the length of an export, as padded ones: torch.export cannot know how many examples are left at a step.

What is packed is flattened with its padding, and recurrent layers see it whole. Units go the same way; lengths, which hold none, do not
enter the graph.
"""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import torch
from torch import _VF, Tensor, nn
from torch.nn.modules import rnn
from torch.nn.utils.rnn import PackedSequence

from parsinet.switches import replaced

RECURRENT = ("lstm", "gru", "rnn_tanh", "rnn_relu")
"""Functions of `torch._VF` that run layers, on padded or on packed sequences."""


@dataclass(frozen=True)
class Steps:
    """In the place of a packed sequence's `batch_sizes`: at every step there are all examples."""

    steps: int
    examples: int
    lengths: Tensor
    device = torch.device("cpu")

    def size(self, dim: int = 0) -> int:
        """How many steps, as a tensor says it."""
        return (self.steps,)[dim]

    def __getitem__(self, step: int) -> int:
        """How many examples at a step; code that goes through all of them comes to an end."""
        return ((self.examples,) * self.steps)[step]

    def back(self, data: Tensor) -> Tensor:
        """[steps · examples, …] → [steps, examples, …]."""
        return data.view(self.steps, self.examples, *data.shape[1:])


def pack(padded: Tensor, lengths: Tensor, batch_first: bool) -> tuple[Tensor, Steps]:
    """[batch, steps, …], or [steps, batch, …] → all steps after each other."""
    first = padded.transpose(0, 1) if batch_first else padded
    return first.flatten(0, 1), Steps(first.shape[0], first.shape[1], lengths)


def unpack(data: Tensor, steps: Steps, batch_first: bool, padding: float = 0.0, total: int | None = None) -> tuple[Tensor, Tensor]:
    """The way back, and the lengths."""
    padded = steps.back(data)
    if total is not None and total > steps.steps:
        more = padded.new_full((total - steps.steps, *padded.shape[1:]), padding)
        padded = torch.cat((padded, more))
    return padded.transpose(0, 1) if batch_first else padded, steps.lengths


def on_padded(function: Callable[..., Any], positions: list[int]) -> Callable[..., Any]:
    """A recurrent function that takes packed sequences of here too, and notes at how many positions it then runs."""

    def run(*args: Any) -> Any:
        if not isinstance(args[1], Steps):
            return function(*args)
        data, steps, *others = args
        positions.append(steps.steps * steps.examples)
        output, *states = function(steps.back(data), *others, False)
        return output.flatten(0, 1), *states

    return run


@contextlib.contextmanager
def packed_as_padded(model: nn.Module) -> Iterator[list[int]]:
    """Within the context recurrent layers and what packs for them do so; nothing is touched for a network without recurrent layers.

    Gives how many positions each call of such a layer on a packed sequence has, in the order of calls.
    """
    positions: list[int] = []
    if not any(isinstance(module, nn.RNNBase) for module in model.modules()):
        yield positions
        return
    functions = {name: on_padded(getattr(_VF, name), positions) for name in RECURRENT}
    packing = {"_pack_padded_sequence": pack, "_pad_packed_sequence": unpack}
    elman = {f"RNN_{name.removeprefix('rnn_').upper()}": functions[name] for name in ("rnn_tanh", "rnn_relu")}
    with replaced(vars(_VF), {**functions, **packing}), replaced(rnn._rnn_impls, elman):
        yield positions


def shares(model: nn.Module, run: Callable[[nn.Module], object], positions: Sequence[int]) -> dict[str, Fraction]:
    """Of every recurrent layer, by its path, which share of its positions is no padding, when `run` runs the model.

    positions: of every call, the last ones if there are more; an export may run a network several times.
    """
    calls: list[tuple[str, int]] = []

    def noting(path: str) -> Callable[[nn.Module, tuple[Any, ...]], None]:
        def note(_: nn.Module, args: tuple[Any, ...]) -> None:
            if args and isinstance(args[0], PackedSequence):
                calls.append((path, len(args[0].data)))

        return note

    layers = [(path, module) for path, module in model.named_modules() if isinstance(module, nn.RNNBase)]
    handles = [module.register_forward_pre_hook(noting(path)) for path, module in layers]
    try:
        run(model)
    finally:
        for handle in handles:
            handle.remove()
    taken: dict[str, int] = Counter()
    padded: dict[str, int] = Counter()
    for (path, rows), most in zip(calls, positions[-len(calls) :], strict=True):
        taken[path] += rows
        padded[path] += most
    return {path: Fraction(taken[path], padded[path]) for path in taken}
