"""A target as a number: what cannot be priced by units, and latency between measured points."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from parsinet import baselines, measure
from parsinet.errors import UsageError
from parsinet.methods import Budget, Gates, Pruner
from parsinet.methods.choice import told_left_out
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
    limit = Limit("Gates", Target("latency", 1.0, True), model, structure, Budget(example_inputs=X), ["0", "2"], timed=True)
    counts = [count for count, _ in limit.stopwatch.points]
    assert counts == [8 + 1 + 4, 8 * 6 + 6 * 3 + 3 * 4, 8 * 12 + 12 * 6 + 6 * 4, 400]
    assert limit.wanted == limit.stopwatch.points[-1][1]
    assert model[0].weight.shape == (20, 8)


class Scaled(nn.Module):
    """Two activations meet in the units of `scale`: they can leave, and carry no gate."""

    def __init__(self) -> None:
        super().__init__()
        self.enter, self.norm = nn.Linear(8, 20), nn.BatchNorm1d(20)
        self.scale, self.other, self.leave = nn.Linear(20, 6), nn.Linear(20, 6), nn.Linear(1, 4)

    def forward(self, x: Tensor) -> Tensor:
        h = torch.relu(self.norm(self.enter(x)))
        return self.leave(torch.einsum("bi,bi->b", self.scale(h), self.other(h)).unsqueeze(1))


@pytest.mark.parametrize(
    ("method", "words"),
    [
        (
            Gates(target="macs=1%"),
            r"Gates: target macs=1% asks for 4 multiply-adds, but with one unit left in every group that it works on \(or round_to of "
            r"them\) the network still has \d+ multiply-adds\. Ask for more, or let more groups be removed\. Left out: \w+ \(it is read "
            r"where no module's input can be multiplied, nor can the weights that read it .*\), leave \(it is part of the model's output\)",
        ),
        (
            Gates(target="macs=1%", groups=["enter"]),
            r"Left out: \w+ \(it is read where .*\), leave \(it is part of the model's output\)\.$",
        ),
        (
            baselines.Slimming(target="macs=1%"),
            r"slimming: .* Left out: \w+ \(no batch normalisation scales its units\), leave \(it is part of the model's output\)\.$",
        ),
        (baselines.MagnitudeUnits(target="macs=1%", groups=["scale"]), r"Left out: enter \(groups does not name it\), leave"),
    ],
)
def test_a_target_out_of_reach_names_the_groups_that_are_left_out(method: Gates, words: str) -> None:
    model = Scaled()
    with pytest.raises(UsageError, match=words):
        Pruner(model, torch.optim.SGD(model.parameters(), lr=0.1), method, X, steps=100)


def test_many_groups_that_are_left_out_are_told_in_few_words() -> None:
    assert told_left_out({}) == ""
    assert told_left_out({"a": "x", "b": "y", "c": "x"}) == " Left out: a, c (x), b (y)."
    many = {f"block.{number}": f"reason {number % 4}" for number in range(20)}
    assert told_left_out(many) == (
        " Left out: block.0, block.4, block.8 (reason 0), block.1, block.5, block.9 (reason 1), "
        "block.2, block.6, block.10 (reason 2), and 11 more."
    )
