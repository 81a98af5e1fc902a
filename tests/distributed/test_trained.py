"""Whole runs of several processes: bitwise repeatable, resumable, ended by any of them with one message."""

from __future__ import annotations

import io
import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from distributed.pair import TESTS, environment
from parsinet.training import read_record, train

RECIPE = ["--data", "digits", "--epochs", "3", "--method", "gates", "--set", "method.price=0.01", "--seed", "3"]


def test_a_run_repeats_and_resumes_bitwise(told: dict[str, list[Any]]) -> None:
    """On every rank the same; stopped on rank 1 alone, it is rank 0 that says so."""
    first, second = told["trained"]
    assert first["weights"] == second["weights"]
    assert len(set(first["weights"])) == 1
    assert len(set(first["errors"] + second["errors"])) == 1
    assert [rank["interrupted"][1] for rank in (first, second)] == [False, True]
    assert "interrupted" in first["events"]
    assert "resumed" in first["events"]
    assert first["events"][-1] == "end"
    assert all(0 < error < 1 for error in first["train_error"])
    assert first["widths"]["fc1"] < 24


@pytest.mark.slow
def test_one_process_goes_on_with_what_two_began(told: dict[str, list[Any]]) -> None:
    """From the same batch with the same network, and says that it is not bitwise."""
    first, _ = told["trained"]
    folder, console = Path(first["folder"]) / "alone", Console(file=io.StringIO(), width=200)
    train(None, folder, resume=True, console=console)
    assert "processes 2 → 1" in console.file.getvalue()  # type: ignore[attr-defined]
    start, *_, last, end = read_record(folder / "record.jsonl")
    assert (start["processes"], last["epoch"], last["step"], end["event"]) == (2, 2, 22, "end")
    assert end["widths"] == first["widths"]
    assert end["train_macs"] == first["train_macs"]


def test_what_rank_0_finds_in_the_folder_is_refused_on_all(told: dict[str, list[Any]]) -> None:
    for rank in told["trained"]:
        assert rank["taken"][0] == "UsageError"
        assert "first already holds a run" in rank["taken"][1]
        assert rank["batch"][0] == "UsageError"
        assert "2 cannot share it evenly" in rank["batch"][1]


def launch(folder: Path, *arguments: str, processes: int = 2, restarts: int = 0, **own: str) -> subprocess.Popen[str]:
    """`parsinet train` in two processes, as torchrun starts them; one process needs no torchrun."""
    elastic = ["-m", "torch.distributed.run", "--nnodes", "1", "--nproc-per-node", str(processes), "--max-restarts", str(restarts)]
    elastic += ["--rdzv-backend", "c10d", "--rdzv-endpoint", "127.0.0.1:0"]
    command = [sys.executable, *(elastic if processes > 1 else []), "-m", "parsinet", "train", *arguments]
    return subprocess.Popen(command, cwd=folder, env=environment(**own), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def ended(job: subprocess.Popen[str], seconds: int = 200) -> tuple[int, str, str]:
    """Exit status, and what parsinet said: on stdout, and on stderr in lines of its own."""
    try:
        out, err = job.communicate(timeout=seconds)
    finally:
        job.kill()
    return job.returncode, out, "\n".join(line for line in err.splitlines() if "parsinet: " in line)


@pytest.mark.slow
def test_torchrun_trains_one_run_and_one_process_goes_on(tmp_path: Path) -> None:
    jobs = [launch(tmp_path, *RECIPE, "--out", name, *more) for name, more in (("first", ()), ("second", ("--auto-resume",)))]
    for job in jobs:
        code, out, said = ended(job)
        assert code == 0, said
        assert out.count("epoch 3/3") == 1
        assert out.count("Saved in") == 1
    weights = [(tmp_path / name / "model" / "model.safetensors").read_bytes() for name in ("first", "second")]
    assert weights[0] == weights[1]


@pytest.mark.slow
@pytest.mark.parametrize("rank", ["0", "1"])
def test_an_error_on_one_rank_ends_all_with_one_message(tmp_path: Path, rank: str) -> None:
    begun = time.monotonic()
    model = ["--model", "distributed.faults:build", "--out", "run"]
    code, _, said = ended(launch(tmp_path, *RECIPE, *model, FAULT="raise", FAULT_RANK=rank))
    assert code != 0
    assert said.count("the input of rank") == 1
    assert len(said.splitlines()) == 1
    assert time.monotonic() - begun < 120
    failed = read_record(tmp_path / "run" / "record.jsonl")[-1]
    assert failed["event"] == "failed"
    assert "the input of rank" in failed["reason"]


@pytest.mark.slow
@pytest.mark.parametrize("rank", ["0", "1"])
def test_a_process_that_is_killed_ends_the_job_and_a_restarted_one_goes_on(tmp_path: Path, rank: str) -> None:
    model = ["--model", "distributed.faults:build", "--out", "run", "--auto-resume", "--set", "checkpoint.every.steps=5"]
    code, out, said = ended(launch(tmp_path, *RECIPE, *model, restarts=1, FAULT="kill", FAULT_RANK=rank))
    assert said.count("has died or does not answer") == 1
    assert code == 0
    assert out.count("Resumed at") == 1
    straight, _, _ = ended(launch(tmp_path, *RECIPE, *model[:2], "--out", "straight"))
    assert straight == 0
    weights = [(tmp_path / name / "model" / "model.safetensors").read_bytes() for name in ("run", "straight")]
    assert weights[0] == weights[1]


def examples(folder: Path) -> list[set[str]]:
    """Step by step, the examples that all processes together have had; a batch that was filled up holds none twice."""
    lines = [[json.loads(line) for line in path.read_text().splitlines()] for path in sorted(folder.glob("rank-*.jsonl"))]
    ranks = [{line["pass"]: line["examples"] for line in rank} for rank in lines]
    return [set().union(*rows) for rows in zip(*(rank.values() for rank in ranks), strict=True)]


@pytest.mark.slow
@pytest.mark.parametrize(("before", "after"), [(2, 1), (1, 2)])
def test_a_killed_run_goes_on_with_another_number_of_processes_at_the_right_examples(tmp_path: Path, before: int, after: int) -> None:
    """Killed in step 12, two steps after its checkpoint: what follows has the examples of steps 11, 12, … of a run of one process."""
    seen = {name: tmp_path / name for name in ("first", "second", "straight")}
    for folder in seen.values():
        folder.mkdir()
    model = ["--model", "distributed.faults:build", "--set", "checkpoint.every.steps=5"]
    fault = {"FAULT": "kill", "TORCHELASTIC_RESTART_COUNT": "0", **({"FAULT_RANK": "1"} if before == 2 else {})}
    code, _, _ = ended(launch(tmp_path, *RECIPE, *model, "--out", "run", processes=before, SEEN=str(seen["first"]), **fault))
    assert code != 0
    code, out, said = ended(launch(tmp_path, "--resume", "run", processes=after, SEEN=str(seen["second"])))
    assert code == 0, said
    assert f"processes {before} → {after}" in out
    code, _, _ = ended(launch(tmp_path, *RECIPE, *model, "--out", "straight", processes=1, SEEN=str(seen["straight"])))
    assert code == 0
    first, second, straight = (examples(folder) for folder in seen.values())
    assert first == straight[:12]
    assert second == straight[10:]
    assert second != straight[9:-1], "the comparison can fail"
    events = read_record(tmp_path / "run" / "record.jsonl")
    assert [event["step"] for event in events if event["event"] == "resumed"] == [10]
    ends = [read_record(tmp_path / name / "record.jsonl") for name in ("run", "straight")]
    assert len({(record[-2]["step"], record[-2]["epoch"]) for record in ends}) == 1


@pytest.mark.slow
def test_ctrl_c_saves_and_another_number_of_processes_goes_on(tmp_path: Path) -> None:
    job = launch(tmp_path, *RECIPE[:2], "--epochs", "2000", *RECIPE[4:], "--out", "run")
    record = tmp_path / "run" / "record.jsonl"
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and not (record.exists() and '"epoch"' in record.read_text()):
        time.sleep(0.5)
    job.send_signal(signal.SIGINT)
    code, _, said = ended(job)
    assert code != 0
    assert said.count("Continue with") == 1
    assert read_record(record)[-1]["event"] == "interrupted"
    text = (tmp_path / "run" / "recipe.yaml").read_text()
    assert "epochs: 2000" in text


@pytest.mark.slow
def test_the_example_runs(tmp_path: Path) -> None:
    example = TESTS.parent / "examples" / "several_processes.py"
    elastic = ["-m", "torch.distributed.run", "--nproc-per-node", "2", "--rdzv-backend", "c10d", "--rdzv-endpoint", "127.0.0.1:0"]
    command = [sys.executable, *elastic, str(example), "--epochs", "3"]
    done = subprocess.run(command, cwd=tmp_path, env=environment(), timeout=200, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("2 processes") == 1
    assert (tmp_path / "lean" / "structure.json").is_file()
