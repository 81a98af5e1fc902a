"""Workers as processes: two on one study, and one that gets kill -9 in the middle of a trial."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import yaml

from parsinet.training import read_record
from tuning.sweeps import BASE, SPACE, count_faults

pytest.importorskip("optuna")
pytestmark = pytest.mark.slow

TRIALS = 4


def worker(folder: Path, *more: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "parsinet", "tune", "--recipe", "base.yaml", "--space", "space.yaml", "--out", "sweep"]
    options = ["--trials", str(TRIALS), "--sampler", "random", *more]
    return subprocess.Popen([*command, *options], cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def files(folder: Path, epochs: int) -> None:
    (folder / "base.yaml").write_text(yaml.safe_dump({**BASE, "epochs": epochs}))
    (folder / "space.yaml").write_text(yaml.safe_dump(SPACE))


def trials(folder: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads((folder / "sweep" / "study.json").read_text())["trials"]
    return found


@pytest.mark.parametrize("storage", [(), ("--storage", "journal.log")], ids=["database", "journal"])
def test_two_workers_share_the_trials_of_one_study(storage: tuple[str, ...], tmp_path: Path) -> None:
    files(tmp_path, epochs=10)
    for process in [worker(tmp_path, *storage), worker(tmp_path, *storage)]:
        output, _ = process.communicate(timeout=550)
        assert process.returncode == 0, output
    assert count_faults(trials(tmp_path), TRIALS) == []
    assert {trial["state"] for trial in trials(tmp_path)} == {"complete"}
    assert len({trial["worker"] for trial in trials(tmp_path)}) == 2


def test_kill_9_loses_nothing_but_the_epoch(tmp_path: Path) -> None:
    files(tmp_path, epochs=60)
    victim = worker(tmp_path)
    record = tmp_path / "sweep/trials/0001/seed-0/record.jsonl"
    while not (record.is_file() and any(event["event"] == "epoch" for event in read_record(record))):
        assert victim.poll() is None, victim.communicate()[0]
        time.sleep(0.02)
    os.kill(victim.pid, signal.SIGKILL)
    victim.communicate()
    assert "end" not in [event["event"] for event in read_record(record)]
    other = worker(tmp_path)
    output, _ = other.communicate(timeout=550)
    assert other.returncode == 0, output
    assert "trial 1, gone on with" in output
    assert count_faults(trials(tmp_path), TRIALS) == []
    assert [trial["lost"] for trial in trials(tmp_path)] == [0, 1, 0, 0]
    assert "resumed" in [event["event"] for event in read_record(record)]
