"""Latency: wall time of a forward pass as median and 95th percentile of many, alone or models against each other."""

import time
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from parsinet.errors import UsageError
from parsinet.measure.examples import ExampleInputs, arguments, batch_size, call, evaluating, tensors
from parsinet.switches import no_collection

LEAST_REPEATS = 10


@dataclass(frozen=True)
class Latency:
    """Seconds per forward pass of a whole batch: `median` and `p95` of `repeats` passes on `batch` examples."""

    batch: int
    median: float
    p95: float
    repeats: int


def latency(model: nn.Module, example_inputs: ExampleInputs, *, repeats: int = 100, warmup: int = 10, seconds: float = 5.0) -> Latency:
    """Time one model; see `compare_latency`, of which this is the case of one model."""
    return compare_latency({"model": model}, example_inputs, repeats=repeats, warmup=warmup, seconds=seconds)["model"]


def compare_latency(
    models: Mapping[str, nn.Module], example_inputs: ExampleInputs, *, repeats: int = 100, warmup: int = 10, seconds: float = 5.0
) -> dict[str, Latency]:
    """Time models in turn, A B A B …, in one process: a slow second of the machine hits all of them, so that ratios hold.

    Evaluation mode, `torch.inference_mode`, `time.perf_counter`, the garbage collector off; on CUDA inputs the device is waited for before
    the clock is read. The first of the `warmup` rounds runs under `no_grad`, so that a cache a model builds on its first call stays usable
    in training. Rounds end early once `seconds` per model are over, but not before 10 of them (or `repeats`, if that is less).
    The models are left as found. Raises UsageError for no model, counts below 1, or a model that cannot run on the inputs.
    """
    _check(models, repeats, warmup, seconds)
    batch = batch_size(example_inputs)
    devices = {leaf.device for leaf in tensors(example_inputs) if leaf.is_cuda}
    with evaluating(*models.values()):
        for model in models.values():
            call("latency", model, example_inputs)
        with torch.inference_mode(), no_collection():
            _rounds(models, example_inputs, devices, warmup - 1, seconds, 0)
            times = _rounds(models, example_inputs, devices, repeats, seconds, LEAST_REPEATS)
    return {name: _summary(batch, sample) for name, sample in times.items()}


def _check(models: Mapping[str, nn.Module], repeats: int, warmup: int, seconds: float) -> None:
    if not models:
        raise UsageError("compare_latency: no model given; give at least one as {name: model}.")
    for name, value in (("repeats", repeats), ("warmup", warmup)):
        if value < 1:
            raise UsageError(f"latency: {name} must be ≥ 1, got {value}.")
    if not seconds > 0:
        raise UsageError(f"latency: seconds must be > 0, got {seconds}.")


def _rounds(
    models: Mapping[str, nn.Module], example_inputs: ExampleInputs, devices: set[torch.device], rounds: int, seconds: float, least: int
) -> dict[str, list[float]]:
    times: dict[str, list[float]] = {name: [] for name in models}
    args, kwargs = arguments(example_inputs)
    end = time.perf_counter() + seconds * len(models)
    for done in range(rounds):
        if done >= least and time.perf_counter() > end:
            break
        for name, model in models.items():
            _wait(devices)
            start = time.perf_counter()
            model(*args, **kwargs)
            _wait(devices)
            times[name].append(time.perf_counter() - start)
    return times


def _wait(devices: set[torch.device]) -> None:
    for device in devices:
        torch.cuda.synchronize(device)


def _summary(batch: int, sample: list[float]) -> Latency:
    median, p95 = np.percentile(sample, (50, 95))
    return Latency(batch, float(median), float(p95), len(sample))
