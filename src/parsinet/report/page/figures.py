"""The numbers of a run in words: the few that stand at the top, and all of them before and after."""

from collections.abc import Iterator
from dataclasses import dataclass

from parsinet.report import numbers
from parsinet.report.records import Run, Size, Timing
from parsinet.report.table import Row


@dataclass(frozen=True)
class Line:
    """One quantity before and after training, and what part is left or how much faster it is; – where there is no number."""

    title: str
    before: str
    after: str
    change: str = ""


NONE = "–"


def before_after(row: Row) -> list[Line]:
    """Error, sizes, latencies and costs of one run; 'after' is the latest known state."""
    run = row.run
    before = run.start if run.end is None else run.end.before
    after = run.size
    lines = [
        _error(run),
        _part("Parameters", before.parameters, after.parameters),
        *_nonzeros(before, after),
        _part("MACs per example", before.macs, after.macs),
        Line("Bytes", _bytes(before), _bytes(after), _share(before, after)),
        *(line for timing in (run.end.latency if run.end else ()) for line in _latency(timing, after.macs != before.macs)),
        Line("Training time", NONE, NONE if run.seconds is None else numbers.duration(run.seconds)),
    ]
    return [*lines, *_training_macs(run)]


def tiles(row: Row) -> list[tuple[str, str, str]]:
    """Title, number and the line below it, of the four or five numbers to see first; no speed-up where no MACs left."""
    run = row.run
    before = run.start if run.end is None else run.end.before
    error = _error(run)
    found = [(error.title, error.after, "" if row.error_change is None else f"{numbers.points(row.error_change)} to dense")]
    for title, start, now in (("Parameters", before.parameters, run.size.parameters), ("MACs", before.macs, run.size.macs)):
        found.append((title, numbers.count(now), f"{numbers.share(now / max(start, 1))} of {numbers.count(start)}"))
    timed = [timing for timing in (run.end.latency if run.end else ()) if timing.after > 0]
    if timed and run.size.macs != before.macs:
        last = max(timed, key=lambda timing: timing.batch)
        times = f"{numbers.milliseconds(last.before)} → {numbers.milliseconds(last.after)}"
        found.append((f"Speed-up, batch {last.batch:,}", numbers.times(last.before / last.after), times))
    cost = "" if row.train_macs is None else f"{numbers.share(row.train_macs)} of the dense MACs"
    return [*found, ("Training time", NONE if run.seconds is None else numbers.duration(run.seconds), cost)]


def _error(run: Run) -> Line:
    """The test error; without one the latest known error."""
    if run.end is not None:
        return Line("Test error", NONE, NONE if run.end.test_error is None else numbers.error(run.end.test_error))
    for epoch in reversed(run.epochs):
        for kind, value in (("Validation", epoch.validation_error), ("Training", epoch.train_error)):
            if value is not None:
                return Line(f"{kind} error, epoch {epoch.epoch:,}", NONE, numbers.error(value))
    return Line("Test error", NONE, NONE)


def _part(title: str, before: int, after: int) -> Line:
    return Line(title, numbers.count(before), numbers.count(after), numbers.share(after / max(before, 1)))


def _bytes(size: Size) -> str:
    return NONE if size.bytes is None else numbers.stored(size.bytes)


def _share(before: Size, after: Size) -> str:
    return numbers.share(after.bytes / before.bytes) if before.bytes and after.bytes is not None else ""


def _nonzeros(before: Size, after: Size) -> Iterator[Line]:
    """Only where more is zero than chance leaves."""
    if after.nonzeros is not None and after.nonzeros < 0.99 * after.parameters:
        start = before.parameters if before.nonzeros is None else before.nonzeros
        yield _part("Parameters not zero", start, after.nonzeros)


def _latency(timing: Timing, changed: bool) -> Iterator[Line]:
    """The median and, where recorded, the 95th percentile. Two timings of one network differ by noise alone, of which no factor is made."""
    faster = f"{numbers.times(timing.before / timing.after)} as fast" if changed and timing.after > 0 else ""
    times = (numbers.milliseconds(timing.before), numbers.milliseconds(timing.after))
    yield Line(f"Forward pass, batch {timing.batch:,}", *times, faster)
    if timing.before_p95 is not None and timing.after_p95 is not None:
        yield Line(
            f"95th percentile, batch {timing.batch:,}", numbers.milliseconds(timing.before_p95), numbers.milliseconds(timing.after_p95)
        )


def _training_macs(run: Run) -> Iterator[Line]:
    """Before: what training would have cost had nothing left."""
    if run.end is not None and run.end.train_macs is not None and run.end.dense_train_macs:
        dense, spent = run.end.dense_train_macs, run.end.train_macs
        yield Line("Training MACs", numbers.count(dense), numbers.count(spent), numbers.share(spent / dense))
