"""What a report knows of a run, as typed values."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from parsinet.report.told import Told

Status = Literal["finished", "unfinished", "interrupted", "failed"]


@dataclass(frozen=True)
class Size:
    """How large a network is: parameters, multiply-accumulates per example; bytes as stored and parameters that are not zero, None where
    not recorded."""

    parameters: int
    macs: int
    bytes: int | None = None
    nonzeros: int | None = None


@dataclass(frozen=True)
class Epoch:
    """The state at the end of one epoch. Errors are fractions, seconds are since the start of training.

    theta: group name → gate probability of every unit still there; empty where the method has none. price: what a unit pays for its gate,
    mean over units, nats per example; None where the method has none; prices: the same per group. Losses are nats per target. told: what
    else the method told.
    """

    epoch: int
    step: int
    size: Size
    seconds: float
    train_error: float | None
    validation_error: float | None
    widths: Mapping[str, int]
    theta: Mapping[str, tuple[float, ...]]
    price: float | None = None
    prices: Mapping[str, float] = field(default_factory=dict)
    loss: float | None = None
    validation_loss: float | None = None
    told: Told = field(default_factory=Told)


@dataclass(frozen=True)
class Removal:
    """Units that left at `step`: group name → units afterwards; size: of the whole network afterwards."""

    step: int
    widths: Mapping[str, int]
    size: Size


@dataclass(frozen=True)
class Timing:
    """Median seconds per forward pass at one batch size, start network and result timed in turns in one process.

    before_p95, after_p95: the 95th percentiles, None where not recorded.
    """

    batch: int
    before: float
    after: float
    before_p95: float | None = None
    after_p95: float | None = None


@dataclass(frozen=True)
class End:
    """What a finished run measured. test_error is a fraction; train_macs: forward MACs × examples, summed over all steps."""

    test_error: float | None
    train_seconds: float | None
    train_macs: float | None
    dense_train_macs: float | None
    before: Size
    after: Size
    latency: tuple[Timing, ...]
    inputs: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    """Group → features of the network's inputs that are left, where they could leave."""
    widths: Mapping[str, int] = field(default_factory=dict)
    """Group → units in the result."""


@dataclass(frozen=True)
class Run:
    """One run. groups: name → units at the start; reason: why it failed; notes: what a reader of the numbers should know.

    input_shape: of one example; () where not recorded. fixed: groups whose units cannot leave → why. target: the size asked for, as the
    recipe has it ("params=20%"); '' where there is none. data: what tells data sets of one name apart, None where it is not known. recipe:
    the same text for runs whose recipes differ in their seeds alone; '' where not recorded.
    """

    folder: Path
    name: str
    method: str
    model: str
    dataset: str
    seed: int | None
    versions: Mapping[str, Any]
    machine: Mapping[str, Any]
    start: Size
    groups: Mapping[str, int]
    epochs: tuple[Epoch, ...]
    removals: tuple[Removal, ...]
    settled: int | None
    total_epochs: int | None
    end: End | None
    status: Status
    reason: str
    notes: tuple[str, ...]
    input_shape: tuple[int, ...] = ()
    fixed: Mapping[str, str] = field(default_factory=dict)
    target: str = ""
    data: tuple[Any, ...] = ()
    recipe: str = ""

    @property
    def size(self) -> Size:
        """The latest known size: the result's, else the last epoch's, else the start's."""
        if self.end is not None:
            return self.end.after
        return self.epochs[-1].size if self.epochs else self.start

    @property
    def seconds(self) -> float | None:
        """Training seconds so far."""
        if self.end is not None and self.end.train_seconds is not None:
            return self.end.train_seconds
        return self.epochs[-1].seconds if self.epochs else None
