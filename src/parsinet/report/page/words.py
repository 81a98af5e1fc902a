"""What came out of a run, or of several, in one or two sentences."""

from collections.abc import Sequence

from parsinet.report import numbers
from parsinet.report.records import Run
from parsinet.report.table import Row


def headline(rows: Sequence[Row]) -> tuple[str, str]:
    """The sentence at the top of the page, and what stands below it."""
    return one(rows[0]) if len(rows) == 1 else several(rows)


def one(row: Row) -> tuple[str, str]:
    """A single run: what became of its network, at which error, and how fast it is; of an unfinished one how far it came."""
    run = row.run
    return (_outcome(run), _speed(run)) if run.end is not None else (_standing(run), _so_far(run))


def several(rows: Sequence[Row]) -> tuple[str, str]:
    """How many runs, which has the lowest test error, and which the fewest parameters, among those that have a test error."""
    data = sorted({row.run.dataset for row in rows})
    begin = f"{len(rows)} runs on {data[0]}" if len(data) == 1 else f"{len(rows)} runs on {len(data)} data sets"
    judged = [(row.run.end.test_error, row) for row in rows if row.run.end is not None and row.run.end.test_error is not None]
    if not judged:
        return f"{begin}.", "None has a test error yet."
    error, best = min(judged, key=lambda pair: pair[0])
    small_error, small = min(judged, key=lambda pair: pair[1].run.size.parameters)
    sizes = [numbers.count(row.run.size.parameters) for row in (best, small)]
    lowest = f"{begin}: {best.run.name} has the lowest test error, {numbers.error(error)}, with {sizes[0]} parameters."
    fewest = f"{small.run.name} has the fewest parameters, {sizes[1]}, with a test error of {numbers.error(small_error)}."
    return lowest, "It has the fewest parameters too." if best is small else fewest


def _outcome(run: Run) -> str:
    assert run.end is not None
    before, after = run.end.before, run.end.after
    what = f"{run.model} on {run.dataset}"
    error = "; its test error is not known" if run.end.test_error is None else f" at a test error of {numbers.error(run.end.test_error)}"
    zeros = after.nonzeros is not None and after.nonzeros < 0.99 * after.parameters
    sparse = f", of which {numbers.count(after.nonzeros)} are not zero," if zeros and after.nonzeros is not None else ""
    if after.parameters == before.parameters and after.macs == before.macs:
        return f"{run.method} trained {what}: {numbers.count(after.parameters)} parameters{sparse}{error}. No unit left the network."
    share = f"{numbers.share(after.parameters / max(before.parameters, 1))}"
    macs = numbers.share(after.macs / max(before.macs, 1))
    went = f"from {numbers.count(before.parameters)} to {numbers.count(after.parameters)} parameters ({share}){sparse}"
    return f"{run.method} took {what} {went} and {macs} of the MACs{error}."


def _speed(run: Run) -> str:
    """The largest batch, where the result is another network than the start and measurably faster; two timings of one always differ."""
    timed = [] if run.end is None else [timing for timing in run.end.latency if timing.after > 0]
    if run.end is None or not timed or run.end.after.macs == run.end.before.macs:
        return ""
    last = max(timed, key=lambda timing: timing.batch)
    factor = last.before / last.after
    examples = "one example" if last.batch == 1 else f"{last.batch:,} examples"
    return f"A forward pass of {examples} is {numbers.times(factor)} as fast as before training." if factor >= 1.05 else ""


def _standing(run: Run) -> str:
    done = run.epochs[-1].epoch if run.epochs else 0
    of = f"{done:,} of {run.total_epochs:,} epochs" if run.total_epochs else "no epoch" if not done else f"{done:,} epochs"
    match run.status:
        case "failed":
            return f"The run failed after {of}: {run.reason.rstrip('.')}."
        case "interrupted":
            return f"The run was interrupted after {of}."
        case _:
            return f"The run has done {of}, and its record has no end yet." if done else "No epoch of the run has ended yet."


def _so_far(run: Run) -> str:
    size, start = run.size, run.start
    if not run.epochs:
        return (
            f"{run.model} on {run.dataset} starts with {numbers.count(start.parameters)} parameters and {numbers.count(start.macs)} MACs."
        )
    last = run.epochs[-1]
    known = (("validation", last.validation_error), ("training", last.train_error))
    errors = [f", with a {kind} error of {numbers.error(value)}" for kind, value in known if value is not None]
    share = numbers.share(size.parameters / max(start.parameters, 1))
    sizes = f"{numbers.count(size.parameters)} of {numbers.count(start.parameters)} parameters ({share})"
    return f"So far {run.method} leaves {run.model} on {run.dataset} {sizes}{next(iter(errors), '')}."
