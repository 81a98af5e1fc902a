"""A target as a number a plan can be held against, and what a plan would come to."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Collection, Mapping

from torch import Tensor, nn

from parsinet import measure
from parsinet.errors import ParsinetWarning, UsageError
from parsinet.gates.prices import Complexity
from parsinet.methods.base import Budget
from parsinet.methods.choice import told_left_out
from parsinet.methods.complexity import Blocks, complexity
from parsinet.methods.stopwatch import Stopwatch
from parsinet.methods.target import NEAR, Target
from parsinet.structure import Structure

UNPRICED = 0.01
"""Part of the multiply-adds that may be missing in the count by units before that is told."""
TRIES = 3
"""Networks measured at the end to meet a latency."""

SUDDEN = 1.5
"""How many times the target the network may cost at the last decision before that is told."""

Chooser = Callable[[float], Mapping[str, Tensor]]
"""Limit of the count → masks of what stays."""


class Limit:
    """What a target allows a network to cost.

    wanted: the target in its own unit. count: the same in what is counted (`kind`): itself, or for a latency the multiply-adds at which
    this machine is expected to need so long. whole: the count as a function of the open units of `groups`, before anything leaves; dense:
    of all. blocks: groups that stand for whole modules. timed: whether the method meets a latency, by measuring copies.
    Raises UsageError for a target above what the network has, and for a latency where none is timed.
    """

    def __init__(
        self,
        who: str,
        target: Target,
        model: nn.Module,
        structure: Structure,
        budget: Budget,
        groups: Collection[str],
        blocks: Blocks | None = None,
        *,
        timed: bool = False,
    ) -> None:
        if target.kind == "latency" and not timed:
            raise UsageError(f"{who}: a target is met here by counting, and {target} has to be timed; give macs, params or bytes.")
        if budget.example_inputs is None:
            raise UsageError(f"{who}: target needs the example inputs of the network; give the method to a Pruner.")
        self.who, self.target, self.groups, self._blocks = who, target, tuple(groups), blocks
        self.kind = "macs" if target.kind == "latency" else target.kind
        given = budget.example_inputs
        self._inputs: measure.ExampleInputs = tuple(given) if isinstance(given, list) else given
        self._batch = measure.batch_size(self._inputs)
        self._gap = self._unpriced(model, structure)
        self.stopwatch = Stopwatch(budget.ranks)
        self.whole = self.cost(model, structure)
        self.dense = self.whole.dense
        if target.kind != "latency":
            self.wanted = self.count = target.of(who, self.dense)
            return
        self.stopwatch.calibrate(model, structure, self.groups, self.whole, self._inputs, tuple(blocks or ()))
        self.wanted = target.of(who, self.stopwatch.seconds(self.dense))
        self.count = self.stopwatch.count(self.wanted)

    def cost(self, model: nn.Module, structure: Structure) -> Complexity:
        """The count as a function of the open units of `groups`, what they do not explain included."""
        groups = [name for name in self.groups if name in structure.layout.groups]
        found = complexity(self.kind, model, structure, batch=self._batch, groups=groups, blocks=self._blocks)
        return Complexity(found.terms, found.fixed + self._gap)

    def amount(self, count: float) -> float:
        """A count in the target's own unit."""
        return self.stopwatch.seconds(count) if self.target.kind == "latency" else count

    def check(self, least: float, left_out: Mapping[str, str] | None = None) -> None:
        """UsageError if the smallest network a method can leave, of count `least`, is above the target.

        left_out: groups that the method does not work on, each with the reason.
        """
        if self.amount(least) > self.wanted:
            floor, limit = self.target.told(self.amount(least)), self.target.told(self.wanted)
            raise UsageError(
                f"{self.who}: target {self.target} asks for {limit}, but with one unit left in every group that it works on "
                f"(or round_to of them){' and without blocks' if self._blocks else ''} the network still has {floor}."
                f"{self.target.hint} Ask for more, or let more groups be removed.{told_left_out(left_out or {})}"
            )

    def caution(self, count: float, advice: str) -> None:
        """Warn if what is open at the last decision, of that count, is far above the target and the rest goes at once. advice: a sentence
        that says what to do about it."""
        if count > SUDDEN * self.count:
            warnings.warn(
                f"{self.who}: at the last decision the network still costs {self.target.told(self.amount(count))}; what is above the "
                f"target {self.target} goes at once, untrained for it. {advice}",
                ParsinetWarning,
                stacklevel=2,
            )

    def regret(self, count: float, advice: str) -> None:
        """Warn if what is alive at the last decision, of that count, is far below the target. advice: as in `caution`."""
        if SUDDEN * count < self.count:
            warnings.warn(
                f"{self.who}: at the last decision what is alive costs {self.target.told(self.amount(count))}; what else the target "
                f"{self.target} has room for had died. {advice}",
                ParsinetWarning,
                stacklevel=2,
            )

    def fit(self, choose: Chooser, cost: Complexity, model: nn.Module, structure: Structure) -> tuple[Mapping[str, Tensor], float]:
        """What stays, and what it comes to in the target's unit; a latency is measured on copies, at most `TRIES` of them."""
        masks = choose(self.count)
        if self.target.kind != "latency":
            return masks, cost.of(masks)
        for attempt in range(TRIES):
            seconds = self.stopwatch.measure(model, structure, masks, cost, self._inputs)
            if abs(seconds / self.wanted - 1) <= NEAR or attempt == TRIES - 1:
                break
            self.count = self.stopwatch.count(self.wanted)
            masks = choose(self.count)
        return masks, seconds

    def told(self, reached: float | None) -> dict[str, object]:
        """For the record: kind, the amount wanted and the one reached, None before the end."""
        return {"kind": self.target.kind, "wanted": self.wanted, "reached": reached}

    def judge(self, reached: float) -> None:
        """Warn if what was reached is not near the target."""
        if abs(reached / self.wanted - 1) > NEAR:
            wanted, found = self.target.told(self.wanted), self.target.told(reached)
            why = "timing is noisy and units are whole"
            if self.target.kind != "latency":
                why = (
                    "chosen by rank, with whole units, no nearer choice was found" if reached < self.wanted else "no group could give more"
                )
            warnings.warn(
                f"{self.who}: target {self.target} ({wanted}) was not met within {NEAR:.0%}: {found}; {why}.", ParsinetWarning, stacklevel=3
            )

    def _unpriced(self, model: nn.Module, structure: Structure) -> float:
        """Multiply-adds that are measured and belong to no operator the trace understands: nothing makes them fewer."""
        if self.kind != "macs":
            return 0.0
        counted = complexity("macs", model, structure, batch=self._batch).dense
        measured = measure.macs(model, self._inputs)
        if abs(measured - counted) > max(1.0, UNPRICED * measured):
            warnings.warn(
                f"{self.who}: {round(measured - counted):,} of {measured:,} multiply-adds belong to operators that cannot be priced by "
                "units; they are taken as fixed.",
                ParsinetWarning,
                stacklevel=3,
            )
        return measured - counted
