"""A target as a number: what cannot be priced by units, and latency between measured points."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import nn

from parsinet import measure
from parsinet.errors import UsageError
from parsinet.methods import Budget, Gates
from parsinet.methods.limits import Limit
from parsinet.methods.stopwatch import Stopwatch
from parsinet.methods.target import Target
from parsinet.structure import Structure, trace

X = torch.zeros(3, 8)


def network() -> nn.Sequential:
    return nn.Sequential(nn.Linear(8, 20), nn.ReLU(), nn.Linear(20, 10), nn.ReLU(), nn.Linear(10, 4))


def test_a_count_is_per_example_and_that_of_the_measurement() -> None:
    model = network()
    limit = Limit("Gates", Target("macs", 0.5, True), model, trace(model, X), Budget(example_inputs=X), ["0", "2"])
    assert limit.dense == measure.macs(model, X) == 400
    assert limit.wanted == limit.count == 200


def test_what_the_trace_does_not_understand_is_fixed_and_told() -> None:
    """As if the last layer ran through an operator of the user's own."""
    model = network()
    structure = trace(model, X)
    blind = Structure(replace(structure.layout, work=structure.layout.work[:-1]))
    with pytest.warns(UserWarning, match="40 of 400 multiply-adds belong to operators that cannot be priced by units"):
        limit = Limit("Gates", Target("macs", 0.5, True), model, blind, Budget(example_inputs=X), ["0", "2"])
    masks = {"0": torch.arange(20) < 10, "2": torch.arange(10) < 5}
    assert limit.dense == 400
    assert limit.cost(model, blind).of(masks) == 8 * 10 + 10 * 5 + 40


def test_a_target_needs_example_inputs() -> None:
    model = network()
    method = Gates(target="macs=50%")
    with pytest.raises(UsageError, match="target needs the example inputs of the network; give the method to a Pruner"):
        method.attach(model, trace(model, X), Budget(steps=10))


def test_latency_lies_on_straight_lines_between_measured_points() -> None:
    watch = Stopwatch()
    for count, seconds in ((100.0, 1.0), (0.0, 0.2), (50.0, 0.4)):
        watch._add(count, seconds)
    assert [watch.seconds(count) for count in (-5, 0, 25, 50, 75, 100, 200)] == pytest.approx([0.2, 0.2, 0.3, 0.4, 0.7, 1.0, 1.0])
    assert [watch.count(seconds) for seconds in (0.1, 0.3, 0.7, 2.0)] == pytest.approx([0, 25, 75, 100])


def test_noise_that_makes_a_smaller_network_slower_is_levelled() -> None:
    watch = Stopwatch()
    for count, seconds in ((0.0, 0.3), (50.0, 0.2), (100.0, 1.0)):
        watch._add(count, seconds)
    assert watch.points == [(0.0, 0.3), (50.0, 0.3), (100.0, 1.0)]
    assert 0 <= watch.count(0.3) <= 50


def test_calibration_measures_copies() -> None:
    model = network()
    structure = trace(model, X)
    limit = Limit("Gates", Target("latency", 1.0, True), model, structure, Budget(example_inputs=X), ["0", "2"])
    counts = [count for count, _ in limit.stopwatch.points]
    assert counts == [8 + 1 + 4, 8 * 6 + 6 * 3 + 3 * 4, 8 * 12 + 12 * 6 + 6 * 4, 400]
    assert limit.wanted == limit.stopwatch.points[-1][1]
    assert model[0].weight.shape == (20, 8)
