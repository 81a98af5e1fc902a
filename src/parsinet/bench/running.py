"""A whole suite into one folder: what is missing is trained, what is there stays, the report is made of the records."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from parsinet import files
from parsinet.bench import jobs, workers
from parsinet.bench.page import write_report
from parsinet.bench.peers import PEERS
from parsinet.bench.protocol import strangers
from parsinet.bench.suite import Suite
from parsinet.errors import RunError, UsageError, suggest
from parsinet.training.lock import held
from parsinet.training.record import RecordWriter, read_record

RECORDS = "records.jsonl"
Event = dict[str, Any]


def run(
    suite: Suite, out: Path, *, only: Sequence[str] = (), seeds: Sequence[int] = (), workers_count: int = 2, console: Console | None = None
) -> list[Event]:
    """Train what the records in `out` do not hold yet, trials first, and write the report; returns all events.

    only: rows, all by default. seeds: those of the suite by default. A training is in the records as soon as it is over; whatever ends
    this process loses those that were under way and nothing else.

    Errors: UsageError for a row the suite has not; StorageError if another process works in the folder or it cannot be written; RunError
    at the end, with the report written, if trainings failed.
    """
    console = console or Console()
    for title in only:
        if title not in suite.rows:
            raise UsageError(f"The suite has no row {title!r}.{suggest(title, suite.rows)}")
    rows = [title for title in suite.rows if not only or title in only]
    files.make_folder(out)
    with held(out):
        writer, events = RecordWriter(out / RECORDS), stored(out)
        rows = [title for title in rows if not _skipped(suite, title, writer, events, console)]
        try:
            failed = _work([job for job in jobs.trials(suite, rows) if not job.done(events)], writer, events, workers_count, console)
            final = jobs.finals(suite, rows, seeds or suite.seeds, events)
            failed += _work([job for job in final if not job.done(events)], writer, events, workers_count, console)
        except KeyboardInterrupt:
            raise KeyboardInterrupt(f"Interrupted. What was over is in {out / RECORDS}; the same command goes on.") from None
        page = write_report(suite, out, events)
    if failed:
        what = "One training" if len(failed) == 1 else f"{len(failed)} trainings"
        raise RunError(f"{what} failed, the first: {failed[0]['reason']} The others are in {page}; the same command tries again.")
    return events


def stored(out: Path) -> list[Event]:
    """The events of earlier calls."""
    return read_record(out / RECORDS) if (out / RECORDS).exists() else []


def _skipped(suite: Suite, title: str, writer: RecordWriter, events: list[Event], console: Console) -> bool:
    """Whether a row's library is not here, which is told once."""
    peer = suite.rows[title].peer
    reason = "" if peer is None else PEERS[peer].reason()
    if reason:
        console.print(f"{title}: left out, {reason}", highlight=False, markup=False, soft_wrap=True)
        event = {"event": "skipped", "row": title, "reason": reason}
        if event not in events:
            writer.write(event)
            events.append(event)
    return bool(reason)


def _work(waiting: Sequence[jobs.Job], writer: RecordWriter, events: list[Event], count: int, console: Console) -> list[Event]:
    """Train and tell what comes in; returns what failed."""
    failed = []
    for number, event in enumerate(workers.results(waiting, count), start=1):
        others = [stranger for stranger in strangers([*events, event]) if stranger[0] is event]
        if others:
            event = {**event, "event": "failed", "reason": f"Row {event['row']!r} broke the protocol: it {others[0][1]}."}
        writer.write(event)
        events.append(event)
        failed += [event] if event["event"] == "failed" else []
        console.print(f"{number} of {len(waiting)}: {_line(event)}", highlight=False, markup=False, soft_wrap=True)
    return failed


def _line(event: Event) -> str:
    name = f"{event['row']}, {'trial' if event['event'] == 'trial' else 'seed ' + str(event['seed'])}, {event['strength']}"
    if event["event"] in ("failed", "skipped"):
        return f"{name}: {event['event']}: {event['reason']}"
    return f"{name}: error {100 * event['error']:.2f} %, {event['parameters']:,} parameters, {event['seconds']:.1f} s"
