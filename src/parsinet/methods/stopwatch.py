"""Latency as a function of multiply-adds, measured at a few sizes of one network on this machine and interpolated between them."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from parsinet.distributed import ALONE, Ranks
from parsinet.gates.prices import Complexity
from parsinet.measure import ExampleInputs, compare_latency
from parsinet.structure import Structure, shrink
from parsinet.structure.copies import duplicate

SHARES = (0.0, 0.3, 0.6, 1.0)
"""Parts of every group's units, and of all blocks, in the networks measured at first; at least one unit of a group stays."""
SECONDS = 1.0
"""Time for each of them."""


class Stopwatch:
    """Points (multiply-adds, seconds) with straight lines between them.

    How long a network takes is not a function of its multiply-adds alone: the line is a guide, and what it led to is measured.
    ranks: of the processes that train together, the first measures and tells the others.
    """

    def __init__(self, ranks: Ranks = ALONE) -> None:
        self._ranks = ranks
        self.points: list[tuple[float, float]] = []

    def calibrate(
        self,
        model: nn.Module,
        structure: Structure,
        groups: Collection[str],
        cost: Complexity,
        example_inputs: ExampleInputs,
        blocks: Collection[str] = (),
    ) -> None:
        """Measure copies of the network with a part of the units of every group, and of the blocks, all of them in turn."""
        plans = [
            {name: _first(structure.group(name).size, share) for name in groups if name not in blocks} | _part(blocks, share)
            for share in SHARES
        ]
        times = self._timed(model, structure, plans, example_inputs)
        for masks, seconds in zip(plans, times, strict=True):
            self._add(cost.of(masks), seconds)

    def measure(
        self, model: nn.Module, structure: Structure, masks: Mapping[str, Tensor], cost: Complexity, example_inputs: ExampleInputs
    ) -> float:
        """Seconds of a copy of the network with the units under the masks; a further point."""
        (seconds,) = self._timed(model, structure, [masks], example_inputs)
        self._add(cost.of(masks), seconds)
        return seconds

    def seconds(self, count: float) -> float:
        """Seconds expected at so many multiply-adds."""
        return _interpolated(count, self.points)

    def count(self, seconds: float) -> float:
        """Multiply-adds at which so many seconds are expected."""
        return _interpolated(seconds, [(time, count) for count, time in self.points])

    def _timed(
        self, model: nn.Module, structure: Structure, plans: Sequence[Mapping[str, Tensor]], example_inputs: ExampleInputs
    ) -> list[float]:
        """Median seconds of copies of the network with the units under the masks, measured in turns."""

        def measured() -> list[float]:
            copies = {str(number): _smaller(model, structure, masks) for number, masks in enumerate(plans)}
            return [times.median for times in compare_latency(copies, example_inputs, seconds=SECONDS).values()]

        return self._ranks.first(measured)

    def _add(self, count: float, seconds: float) -> None:
        """A new point; times that do not rise with the count are pulled level, so that every time has its count."""
        points = sorted([*((x, y) for x, y in self.points if x != count), (count, seconds)])
        self.points = [(x, max(y for _, y in points[: k + 1])) for k, (x, _) in enumerate(points)]


def _interpolated(x: float, points: list[tuple[float, float]]) -> float:
    if x <= points[0][0]:
        return points[0][1]
    for (x0, y0), (x1, y1) in pairwise(points):
        if x <= x1:
            return y1 if x1 == x0 else y0 + (y1 - y0) * (x - x0) / (x1 - x0)
    return points[-1][1]


def _first(size: int, share: float) -> Tensor:
    return torch.arange(size) < max(1, round(share * size))


def _part(blocks: Collection[str], share: float) -> dict[str, Tensor]:
    """The first of the blocks, whole or not at all."""
    return {name: torch.tensor([place < round(share * len(blocks))]) for place, name in enumerate(blocks)}


def _smaller(model: nn.Module, structure: Structure, masks: Mapping[str, Tensor]) -> nn.Module:
    twin = duplicate(model)
    shrink(twin, structure.plan(masks))
    return twin
