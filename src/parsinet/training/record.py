"""The record of a run: JSON lines that are safe on the disk as soon as they are written."""

import contextlib
import errno
import io
import json
import math
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from parsinet import files
from parsinet.errors import DataError, StorageError

FORMAT = 1
Event = Mapping[str, Any]


class RecordWriter:
    """Appends events to `path`; each is flushed to the disk (fsync) before `write` returns."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def write(self, event: Event) -> None:
        """Append one event, behind the last whole line. Numbers that are not finite become null.

        Errors: StorageError, after which the record is as before.
        """
        line = json.dumps(_finite(event), allow_nan=False, ensure_ascii=False) + "\n"
        with files.storage_errors(self.path):
            new = not self.path.exists()
            with self.path.open("ab+", buffering=0) as file:
                _append(file, line.encode())
            if new:
                files.flush_folder(self.path.parent)


def read_record(path: str | Path) -> list[dict[str, Any]]:
    """All events of a record, in order; a torn last line (the machine stopped while writing) is left out.

    Errors: StorageError if it cannot be read, DataError naming the line for anything else that is no event.
    """
    path = Path(path)
    try:
        text = path.read_bytes().decode("utf-8", errors="replace")
    except OSError as error:
        raise StorageError(f"Cannot read the record {path}: {error.strerror}. Name the folder of a run.") from None
    whole, _, _torn = text.rpartition("\n")
    return [_event(path, number, line) for number, line in enumerate(whole.split("\n"), start=1) if line.strip()]


def begun(path: Path) -> bool:
    """Whether a record is there and begins with the event that a run begins with."""
    return path.exists() and any(event["event"] == "start" for event in read_record(path)[:1])


def keep_events(path: Path, wanted: Callable[[Event], bool]) -> int:
    """Rewrite a record atomically with the wanted events, in order; returns how many went."""
    events = read_record(path)
    kept = [event for event in events if wanted(event)]
    files.write_text(path, "".join(json.dumps(event, ensure_ascii=False) + "\n" for event in kept))
    return len(events) - len(kept)


def _append(file: io.FileIO, content: bytes) -> None:
    """Write all of `content` behind the last whole line, or nothing."""
    end = _whole(file)
    file.truncate(end)
    try:
        if file.write(content) != len(content):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        os.fsync(file.fileno())
    except OSError:
        with contextlib.suppress(OSError):
            file.truncate(end)
        raise


def _whole(file: io.FileIO) -> int:
    """Length of the file without a torn last line."""
    size = file.seek(0, os.SEEK_END)
    if size == 0:
        return 0
    file.seek(size - 1)
    if file.read(1) == b"\n":
        return size
    file.seek(0)
    return file.readall().rfind(b"\n") + 1


def _event(path: Path, number: int, line: str) -> dict[str, Any]:
    try:
        event = json.loads(line)
    except (ValueError, RecursionError):
        event = None
    if not isinstance(event, dict) or not isinstance(event.get("event"), str):
        raise DataError(f"{path}, line {number}: not an event. A record holds one JSON object with `event` per line.")
    if event["event"] == "start" and event.get("format") != FORMAT:
        raise DataError(f"{path}: record format {event.get('format')!r} is unknown; this parsinet reads format {FORMAT}. Update parsinet.")
    return event


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): _finite(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(inner) for inner in value]
    return value
