"""The record: what is written comes back; torn and foreign lines."""

import errno
import os
from pathlib import Path

import pytest

from parsinet.errors import DataError, StorageError
from parsinet.training import RecordWriter, read_record
from parsinet.training.record import keep_events

EVENTS = [
    {"event": "start", "format": 1, "commit": None},
    {"event": "epoch", "step": 3, "loss": 0.1, "widths": {"fc1": 7}, "name": "größe"},
    {"event": "epoch", "step": 6, "loss": 1e-17},
]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    writer = RecordWriter(tmp_path / "record.jsonl")
    for event in EVENTS:
        writer.write(event)
    return writer.path


def test_round_trip(path: Path) -> None:
    assert read_record(path) == EVENTS


def test_numbers_that_are_not_finite_become_null(path: Path) -> None:
    RecordWriter(path).write({"event": "end", "loss": float("nan"), "all": [float("inf"), (1.5,)]})
    assert read_record(path)[-1] == {"event": "end", "loss": None, "all": [None, [1.5]]}


@pytest.mark.parametrize("cut", [1, 2, 10, 30])
def test_a_torn_last_line_is_left_out(path: Path, cut: int) -> None:
    path.write_bytes(path.read_bytes()[:-cut])
    assert read_record(path) == EVENTS[:2]


@pytest.mark.parametrize("line", ["{broken", "[1]", '{"no": "event"}', '{"event": 3}'])
def test_a_broken_line_is_named(path: Path, line: str) -> None:
    path.write_text(f"{line}\n" + path.read_text(encoding="utf-8"), encoding="utf-8")
    with pytest.raises(DataError, match="line 1"):
        read_record(path)


def test_unknown_format_and_missing_file(path: Path) -> None:
    RecordWriter(path).write({"event": "start", "format": 99})
    with pytest.raises(DataError, match="format 99 is unknown"):
        read_record(path)
    with pytest.raises(StorageError, match="Cannot read the record"):
        read_record(path.parent / "none.jsonl")


def test_events_can_be_dropped_and_a_torn_line_goes_with_them(path: Path) -> None:
    path.write_text(path.read_text(encoding="utf-8") + '{"event": "ep', encoding="utf-8")
    assert keep_events(path, lambda event: event.get("step", 0) <= 3) == 1
    assert path.read_text(encoding="utf-8").endswith("}\n")
    assert read_record(path) == EVENTS[:2]


def test_a_full_disk_is_one_sentence(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StorageError, match="No space left on device"):
        RecordWriter(path).write(EVENTS[0])


def test_a_torn_line_is_cut_off_before_the_next_is_written(path: Path) -> None:
    """Else the two would make one line that nobody can read."""
    path.write_bytes(path.read_bytes()[:-3])
    RecordWriter(path).write({"event": "failed"})
    assert read_record(path) == [*EVENTS[:2], {"event": "failed"}]
    path.write_bytes(b'{"event": "st')
    RecordWriter(path).write({"event": "failed"})
    assert read_record(path) == [{"event": "failed"}]


def test_a_write_that_fails_leaves_the_record_as_it_was(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StorageError, match="No space left on device"):
        RecordWriter(path).write({"event": "epoch"})
    assert read_record(path) == EVENTS
    assert path.read_bytes().endswith(b"}\n")
