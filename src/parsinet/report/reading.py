"""Read a run record (`record.jsonl`) back: event by event, forgiving towards lines that were cut off."""

import json
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TypeVar

from parsinet.errors import DataError, StorageError
from parsinet.report.events import Event, end_of, epoch_of, removal_of, run_of
from parsinet.report.records import End, Epoch, Removal, Run, Status

FORMAT = 1
RECORD = "record.jsonl"

Result = TypeVar("Result")


def read(folder: Path) -> Run:
    """Read the record in `folder`. Unknown keys and events are ignored; lines that are no JSON are left out and noted.

    Raises DataError if the folder is no run or its record cannot be understood, StorageError if it cannot be opened.
    """
    path = _record(folder)
    events, notes = _events(path)
    starts = [i for i, (_, event) in enumerate(events) if event["event"] == "start"]
    if not starts:
        told = "".join(f" {note}" for note in notes[:3])
        raise DataError(f"{path} has no 'start' event: the run has written nothing yet, or the file is no parsinet record.{told}")
    if len(starts) > 1:
        notes.append(f"The record begins {len(starts)} times; what stands before the last beginning is left out.")
    first, *later = events[starts[-1] :]
    draft = _Draft()
    run = _understood(path, first, lambda event: _start(folder, event))
    for numbered in later:
        _understood(path, numbered, draft.take)
    return draft.finish(run, notes)


def _record(folder: Path) -> Path:
    if not folder.is_dir():
        what = "is a file, not a folder" if folder.exists() else "does not exist"
        raise DataError(f"{folder} {what}. Name the folder of a run, the one given to `parsinet train --out`.")
    path = folder / RECORD
    if path.is_file():
        return path
    inside = sorted(str(record.parent) for record in folder.glob(f"*/{RECORD}"))
    advice = f"It contains runs; name them: {' '.join(inside[:5])}" if inside else "Name a folder given to `parsinet train --out`."
    raise DataError(f"{folder} is no run: it has no {RECORD}. {advice}")


def _events(path: Path) -> tuple[list[tuple[int, Event]], list[str]]:
    try:
        lines = path.read_bytes().decode("utf-8-sig", errors="replace").split("\n")
    except OSError as error:
        raise StorageError(f"Cannot read {path}: {error.strerror or error}.") from error
    written = [(number, line) for number, line in enumerate(lines, 1) if line.strip()]
    events: list[tuple[int, Event]] = []
    notes = []
    for number, line in written:
        try:
            event = json.loads(line)
        except ValueError:
            event = None
        if isinstance(event, dict) and isinstance(event.get("event"), str):
            events.append((number, event))
        elif number == written[-1][0]:
            notes.append(f"The last line of the record (line {number}) is torn and was left out: the run was writing it, or was cut off.")
        else:
            notes.append(f"Line {number} of the record cannot be read and was left out.")
    return events, notes


def _understood(path: Path, numbered: tuple[int, Event], take: Callable[[Event], Result]) -> Result:
    number, event = numbered
    try:
        return take(event)
    except KeyError as error:
        raise DataError(f"{path}, line {number}: the {event['event']!r} event lacks {error}.") from error
    except (TypeError, ValueError, AttributeError, OverflowError, IndexError) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(f"{path}, line {number}: the {event['event']!r} event is malformed ({error}).") from error


def _start(folder: Path, event: Event) -> Run:
    if event.get("format", FORMAT) != FORMAT:
        raise DataError(
            f"{folder} has a record of format {event['format']}; this parsinet reads format {FORMAT}. Install a newer parsinet."
        )
    return run_of(folder, event)


@dataclass
class _Draft:
    """A run while its events are read in order; what a resume went back behind is dropped."""

    epochs: list[Epoch] = field(default_factory=list)
    removals: list[Removal] = field(default_factory=list)
    settled: int | None = None
    total: int | None = None
    end: End | None = None
    status: Status = "unfinished"
    reason: str = ""

    def take(self, event: Event) -> None:
        """Add one event."""
        if "step" in event and event["event"] != "failed":
            self._go_back(int(event["step"]))
        match event["event"]:
            case "epoch":
                epoch = epoch_of(event)
                while self.epochs and self.epochs[-1].epoch >= epoch.epoch:
                    self.epochs.pop()
                self.epochs.append(epoch)
                self.total = int(event.get("epochs") or 0) or None
            case "removal":
                self.removals.append(removal_of(event))
            case "settled":
                self.settled = int(event["step"])
            case "interrupted":
                self.status = "interrupted"
            case "resumed":
                self.status, self.reason, self.end = "unfinished", "", None
            case "failed":
                self.status, self.reason = "failed", str(event.get("reason", "no reason recorded"))
            case "end":
                self.status, self.end = "finished", end_of(event)

    def _go_back(self, step: int) -> None:
        while self.epochs and self.epochs[-1].step > step:
            self.epochs.pop()
        while self.removals and self.removals[-1].step > step:
            self.removals.pop()
        if self.settled is not None and self.settled > step:
            self.settled = None

    def finish(self, run: Run, notes: list[str]) -> Run:
        """The run with all that was taken."""
        return replace(
            run,
            epochs=tuple(self.epochs),
            removals=tuple(self.removals),
            settled=self.settled,
            total_epochs=self.total,
            end=self.end,
            status=self.status,
            reason=self.reason,
            notes=tuple(notes),
        )
