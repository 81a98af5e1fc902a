"""The comparison table: one row of numbers per run, with ratios against the dense run or the run's own start."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from parsinet.report import numbers
from parsinet.report.asked import asked
from parsinet.report.decided import decided
from parsinet.report.records import Run, Size
from parsinet.report.seeds import over_seeds


@dataclass(frozen=True)
class Row:
    """One run's numbers. Ratios are fractions of the reference (`against`); None where the record does not have the number.

    error_change: difference of test errors to the dense run, a fraction. speedup: batch → before / after.
    """

    run: Run
    against: Run | None
    error_change: float | None
    parameters: float
    macs: float
    bytes: float | None
    speedup: Mapping[int, float]
    train_macs: float | None


@dataclass(frozen=True)
class Column:
    """A heading, the line under it that says what the second figure is, and both figures of a row ('' where unknown)."""

    title: str
    under: str
    value: Callable[[Row], str]
    detail: Callable[[Row], str]


def rows(runs: Sequence[Run]) -> tuple[Row, ...]:
    """The numbers of each run, in the order given."""
    return tuple(_row(run, _reference(run, runs)) for run in runs)


def _reference(run: Run, runs: Sequence[Run]) -> Run | None:
    """The finished dense run on the same data, preferably of the same starting size; None: the run's own start."""
    dense = [other for other in runs if other.method == "dense" and other.end is not None and _same_data(other, run)]
    if run in dense:
        return run
    alike = [other for other in dense if _same_start(other, run)]
    return next(iter([*alike, *dense]), None)


def _same_data(one: Run, other: Run) -> bool:
    """Whether two runs trained and were tested on the same examples, as far as their records tell."""
    return one.dataset == other.dataset and all(a == b or None in (a, b) for a, b in zip(one.data, other.data, strict=False))


def _same_start(one: Run, other: Run) -> bool:
    return (one.start.parameters, one.start.macs) == (other.start.parameters, other.start.macs)


def _row(run: Run, against: Run | None) -> Row:
    base = _before(run) if against is None else against.size
    size = run.size
    end = None if against is None else against.end
    change = None if run.end is None or end is None or against is run else _difference(run.end.test_error, end.test_error)
    return Row(
        run=run,
        against=against,
        error_change=change,
        parameters=size.parameters / max(base.parameters, 1),
        macs=size.macs / max(base.macs, 1),
        bytes=_ratio(size.bytes, base.bytes),
        speedup=_speedup(run, against),
        train_macs=_train_macs(run, against),
    )


def _before(run: Run) -> Size:
    return run.start if run.end is None else run.end.before


def _difference(one: float | None, other: float | None) -> float | None:
    return None if one is None or other is None else one - other


def _ratio(part: float | None, whole: float | None) -> float | None:
    return None if part is None or not whole else part / whole


def _speedup(run: Run, against: Run | None) -> dict[int, float]:
    """batch → speed-up. Only times taken in turns in one process compare, so a network that started as the dense one is
    held against its own `before`; another dense network can only be held against across processes."""
    if run.end is None:
        return {}
    if against is None or against.end is None or _same_start(run, against):
        before = {timing.batch: timing.before for timing in run.end.latency}
    else:
        before = {timing.batch: timing.after for timing in against.end.latency}
    return {t.batch: before[t.batch] / t.after for t in run.end.latency if t.batch in before and t.after > 0}


def _train_macs(run: Run, against: Run | None) -> float | None:
    if run.end is None:
        return None
    dense = run.end.dense_train_macs if against is None or against.end is None else against.end.train_macs
    return _ratio(run.end.train_macs, dense)


def state(run: Run) -> str:
    """'' for a finished run, else what became of it in a few words."""
    if run.status == "finished":
        return ""
    done = run.epochs[-1].epoch if run.epochs else 0
    progress = f"{done:,} of {run.total_epochs:,} epochs" if run.total_epochs else "in its first epoch"
    return {"unfinished": progress, "interrupted": f"interrupted, {progress}", "failed": f"failed, {progress}"}[run.status]


def columns(table: Sequence[Row]) -> tuple[tuple[Column, ...], tuple[Column, ...]]:
    """Columns in two parts, what came out and what it costs, so that a narrow terminal can print them one below the other."""
    of = _reference_word(table)
    outcome = (
        Column("Test error", "change" if any(row.error_change is not None for row in table) else "", _error, _change),
        Column("Parameters", of, lambda row: numbers.count(row.run.size.parameters), lambda row: _share(row, row.parameters)),
        Column("MACs", of, lambda row: numbers.count(row.run.size.macs), lambda row: _share(row, row.macs)),
        *(
            [Column("Not zero", of, lambda row: _text(row.run.size.nonzeros, numbers.count), _nonzero_share)]
            if any(_has_zeros(row.run.size) for row in table)
            else []
        ),
        Column("Bytes", of, _stored, lambda row: _share(row, row.bytes)),
    )
    batches = sorted({timing.batch for row in table if row.run.end for timing in row.run.end.latency})
    cost = (
        *(_latency(batch) for batch in batches),
        Column("Training", "", lambda row: _text(row.run.seconds, numbers.duration), lambda row: ""),
        Column("Training MACs", "of dense", lambda row: _text(row.train_macs, numbers.share), lambda row: ""),
    )
    return outcome, cost


def _reference_word(table: Sequence[Row]) -> str:
    words = {"of start" if row.against is None else "of dense" for row in table if row.against is not row.run}
    return words.pop() if len(words) == 1 else "of reference" if words else ""


def _text(number: float | None, form: Callable[[float], str]) -> str:
    return "–" if number is None else form(number)


def _share(row: Row, fraction: float | None) -> str:
    return "" if fraction is None or row.against is row.run else numbers.share(fraction)


def _has_zeros(size: Size) -> bool:
    """More zeros than chance leaves: the network is sparse inside its tensors."""
    return size.nonzeros is not None and size.nonzeros < 0.99 * size.parameters


def _nonzero_share(row: Row) -> str:
    base = _before(row.run) if row.against is None else row.against.size
    return _share(row, _ratio(row.run.size.nonzeros, base.parameters))


def _error(row: Row) -> str:
    return _text(None if row.run.end is None else row.run.end.test_error, numbers.error)


def _change(row: Row) -> str:
    return "" if row.error_change is None else numbers.points(row.error_change)


def _stored(row: Row) -> str:
    return _text(row.run.size.bytes, numbers.stored)


def _latency(batch: int) -> Column:
    def value(row: Row) -> str:
        found = [timing.after for timing in row.run.end.latency if timing.batch == batch] if row.run.end else []
        return _text(found[0] if found else None, numbers.milliseconds)

    def detail(row: Row) -> str:
        return "" if batch not in row.speedup or row.against is row.run else numbers.times(row.speedup[batch])

    return Column(f"Batch {batch:,}", "speed-up", value, detail)


def remarks(table: Sequence[Row]) -> list[str]:
    """What the figures are measured against, and what the reader must know of single runs."""
    lines = []
    dense = sorted({row.against.name for row in table if row.against is not None and row.against is not row.run})
    if dense:
        lines.append(f"Per cent, change (percentage points) and speed-up are against the dense run {_quoted(dense)}.")
    whole = [row.run for row in table if row.run.method == "dense"]
    for run in (row.run for row in table if row.run.method != "dense"):
        others = [other.name for other in whole if other.dataset == run.dataset and not _same_data(other, run)]
        if others:
            lines.append(f"{run.name}: not compared with {_quoted(others)}, whose data {run.dataset} are others.")
    own = [row.run.name for row in table if row.against is None]
    if own:
        whose = f" for {_quoted(own)}" if dense else ""
        lines.append(f"Per cent and speed-up are against the same network before training{whose}.")
    if any(row.run.end and row.run.end.latency for row in table):
        lines.append("Batch: the median time of one forward pass; start and result of a run were timed in turns in one process.")
    lines.extend(over_seeds([row.run for row in table]))
    for row in table:
        lines.extend(f"{row.run.name}: {note}" for note in (*_outcome(row.run), *asked(row.run), *decided(row.run), *row.run.notes))
    return lines


def _quoted(names: Sequence[str]) -> str:
    return ", ".join(f"'{name}'" for name in names)


def _outcome(run: Run) -> tuple[str, ...]:
    match run.status:
        case "finished":
            return ()
        case "failed":
            return (f"the run failed: {run.reason}",)
        case "interrupted":
            return ("the run was interrupted; the numbers are those of its last epoch.",)
        case "unfinished":
            return ("the record has no end: the run is still going or was killed; the numbers are those of its last epoch.",)
