"""Records come back as they were written, whatever cut them off."""

import json
from pathlib import Path
from typing import Any

import pytest

from parsinet.errors import DataError
from parsinet.report import read

START: dict[str, Any] = {
    "event": "start",
    "format": 1,
    "recipe": {"method": {"name": "gates"}, "model": "mlp"},
    "dataset": {"name": "digits"},
    "groups": [{"name": "fc", "size": 8}],
    "parameters": 100,
    "macs": 90,
    "bytes": 400,
}


def epoch(number: int, step: int, parameters: int = 100, **more: Any) -> dict[str, Any]:
    return {"event": "epoch", "epoch": number, "epochs": 5, "step": step, "parameters": parameters, "macs": 90, "seconds": 1.0, **more}


def record(folder: Path, *events: Any) -> Path:
    folder.mkdir(exist_ok=True)
    lines = [event if isinstance(event, str) else json.dumps(event) for event in events]
    (folder / "record.jsonl").write_text("\n".join(lines) + "\n")
    return folder


def test_fields_and_unknown_keys(tmp_path: Path) -> None:
    gates = {"groups": {"fc": {"theta": [0.25, 1.0], "mood": "good"}, "other": {"score": 1}}, "price": 2}
    known = epoch(1, 10, validation_error=0.5, train_error=None, widths={"fc": 7}, method=gates, weather="fine")
    run = read(record(tmp_path / "run", {**START, "moon": 1}, {"event": "tea", "cups": 2}, known))
    assert (run.name, run.method, run.model, run.dataset, run.groups) == ("run", "gates", "mlp", "digits", {"fc": 8})
    assert run.epochs[0].theta == {"fc": (0.25, 1.0)}
    assert (run.epochs[0].validation_error, run.epochs[0].train_error, run.epochs[0].widths) == (0.5, None, {"fc": 7})
    assert (run.status, run.end, run.total_epochs) == ("unfinished", None, 5)


def test_not_a_number_is_unknown(tmp_path: Path) -> None:
    run = read(record(tmp_path / "run", START, epoch(1, 10, validation_error=float("nan"), train_error=float("inf"))))
    assert (run.epochs[0].validation_error, run.epochs[0].train_error) == (None, None)


def test_torn_last_line_is_left_out_and_said(tmp_path: Path) -> None:
    torn = json.dumps(epoch(2, 20))[:40]
    run = read(record(tmp_path / "run", START, epoch(1, 10), torn))
    assert [one.epoch for one in run.epochs] == [1]
    assert len(run.notes) == 1
    assert "line 3" in run.notes[0]
    assert "torn" in run.notes[0]


def test_unreadable_line_in_the_middle_is_said(tmp_path: Path) -> None:
    run = read(record(tmp_path / "run", START, '{"event":"ep\x00\x00', epoch(1, 10)))
    assert len(run.epochs) == 1
    assert "Line 2" in run.notes[0]


def test_resume_drops_what_it_went_back_behind(tmp_path: Path) -> None:
    removal = {"event": "removal", "step": 15, "epoch": 2, "groups": {"fc": [8, 5]}, "parameters": 60, "macs": 50}
    settled = {"event": "settled", "step": 18, "epoch": 2}
    events = [START, epoch(1, 10), removal, settled, epoch(2, 20, 60), {"event": "resumed", "step": 12}, epoch(2, 20, 99)]
    run = read(record(tmp_path / "run", *events))
    assert [(one.epoch, one.size.parameters) for one in run.epochs] == [(1, 100), (2, 99)]
    assert run.removals == ()
    assert run.settled is None


def test_failed_interrupted_and_resumed(tmp_path: Path) -> None:
    failed = {"event": "failed", "reason": "loss is nan", "step": 14, "last_good_step": 10}
    assert read(record(tmp_path / "a", START, epoch(1, 10), failed)).reason == "loss is nan"
    assert read(record(tmp_path / "b", START, epoch(1, 10), {"event": "interrupted", "step": 12})).status == "interrupted"
    assert read(record(tmp_path / "c", START, epoch(1, 10), failed, {"event": "resumed", "step": 10})).status == "unfinished"


def test_a_second_start_begins_anew(tmp_path: Path) -> None:
    run = read(record(tmp_path / "run", START, epoch(1, 10), {**START, "parameters": 7}))
    assert (run.start.parameters, run.epochs) == (7, ())
    assert run.notes == ("The record begins 2 times; what stands before the last beginning is left out.",)


def test_a_mark_at_the_beginning_of_the_file_is_no_matter(tmp_path: Path) -> None:
    path = record(tmp_path / "run", START) / "record.jsonl"
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert read(path.parent).notes == ()


@pytest.mark.parametrize(
    ("events", "words"),
    [
        ([], "no 'start' event"),
        (["not json at all", "neither"], r"no 'start' event.* Line 1 of the record cannot be read and was left out\."),
        ([START, {"event": "removal", "step": 1, "groups": {"fc2": [1]}}], "line 2: the 'removal' event is malformed"),
        ([{**START, "format": 2}], "format 2"),
        ([{"event": "start", "macs": 1}], "lacks 'parameters'"),
        ([{**START, "recipe": 3}], "malformed"),
        ([START, {"event": "epoch", "epoch": 1, "parameters": 1, "macs": 1}], "line 2: the 'epoch' event lacks 'step'"),
        ([START, epoch(1, 10, train_error="low")], "line 2: the 'epoch' event is malformed"),
        ([START, {"event": "end", "before": {}}], "lacks"),
    ],
)
def test_records_that_cannot_be_understood(tmp_path: Path, events: list[Any], words: str) -> None:
    with pytest.raises(DataError, match=words):
        read(record(tmp_path / "run", *events))


def test_folders_that_are_no_run(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="does not exist"):
        read(tmp_path / "nowhere")
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="is a file"):
        read(tmp_path / "file")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=r"no record\.jsonl.*parsinet train --out"):
        read(tmp_path / "empty")
    inner = record(tmp_path / "empty" / "first", START)
    with pytest.raises(DataError, match=f"contains runs; name them: {inner}"):
        read(tmp_path / "empty")
