"""One profile of a network: what it holds, what it computes, how long it takes."""

from dataclasses import dataclass

from torch import nn

from parsinet.measure.counting import nonzeros, parameters, stored_bytes
from parsinet.measure.examples import ExampleInputs
from parsinet.measure.operations import macs
from parsinet.measure.timing import Latency
from parsinet.measure.timing import latency as time_model


@dataclass(frozen=True)
class Profile:
    """Entries of parameters and the non-zero ones among them, multiply-adds per example, bytes of parameters and buffers, latency."""

    parameters: int
    nonzeros: int
    macs: int
    bytes: int
    latency: Latency | None


def profile(model: nn.Module, example_inputs: ExampleInputs, *, latency: bool = True) -> Profile:
    """Measure a model on example inputs (a tensor, a tuple of arguments or a dict of keyword arguments); it is left as found.

    `latency=False` skips the timing, which takes up to some seconds. Raises UsageError if the model cannot run on the inputs.
    """
    return Profile(
        parameters=parameters(model),
        nonzeros=nonzeros(model),
        macs=macs(model, example_inputs),
        bytes=stored_bytes(model),
        latency=time_model(model, example_inputs) if latency else None,
    )
