"""Sweeps in reports: which trials are chosen, what is shown, what a damaged study.json says."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from parsinet.errors import DataError, StorageError
from parsinet.report import chosen, read_sweep, report, sweep_report


def trial(number: int, state: str = "complete", **more: Any) -> dict[str, Any]:
    rng = np.random.default_rng(number)
    size = int(10 ** rng.uniform(3, 5))
    error = round(0.02 + 30 / size + 0.02 * rng.random(), 4)
    run = {"seed": 0, "parameters": size, "macs": size, "bytes": 4 * size, "latency": 1e-4}
    told = {"number": number, "state": state, "params": {"optimizer.lr": 1e-3 * number, "model.lr": "a"}, "recipe": {}, "reason": ""}
    values = {"error": error, "macs": size} if state == "complete" else None
    return {**told, "values": values, "runs": [run] if values else [], "epochs": {}, **more}


def study(folder: Path, **changed: Any) -> Path:
    told = {
        "format": 1,
        "name": "first",
        "objectives": ["error", "macs"],
        "seeds": [0],
        "reference": {"name": "dense", "method": "dense", "values": {"error": 0.03, "macs": 120_000}},
        "trials": [*map(trial, range(30)), trial(30, "failed", reason="The loss is not finite."), trial(31, "running")],
        **changed,
    }
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "study.json").write_text(json.dumps(told))
    return folder


def shown(folder: Path, width: int = 200) -> str:
    console = Console(file=io.StringIO(), width=width)
    sweep_report(folder, console)
    return console.file.getvalue()  # type: ignore[attr-defined,no-any-return]


def front_faults(values: dict[int, tuple[float, float]], front: list[int]) -> list[str]:
    """What is wrong with a front, from the definition alone: (error, size) pairs that no other beats, by growing size."""

    def beaten(one: int) -> bool:
        a = values[one]
        return any(b != a and b[0] <= a[0] and b[1] <= a[1] for b in values.values())

    faults = [f"{number} is beaten" for number in front if beaten(number)]
    found = {values[number] for number in front}
    faults += [f"{number} is missing" for number in values if not beaten(number) and values[number] not in found]
    return faults + (["not by size"] if [values[n][1] for n in front] != sorted(values[n][1] for n in front) else [])


@pytest.mark.parametrize("seed", range(20))
def test_the_front_is_what_no_other_beats(seed: int) -> None:
    rng = np.random.default_rng(seed)
    values = {3 * n + 1: (float(rng.integers(1, 9)) / 10, float(rng.integers(1, 9))) for n in range(rng.integers(1, 25))}
    picks = chosen(values)
    assert front_faults(values, picks["front"]) == []
    assert values[picks["best"]][0] == min(error for error, _ in values.values())
    assert {picks["best"], picks["knee"]} <= {*picks["front"]}


def test_the_law_of_fronts_objects() -> None:
    values = {0: (0.1, 9.0), 1: (0.2, 5.0), 2: (0.3, 7.0)}
    assert front_faults(values, [1, 0]) == []
    assert front_faults(values, [2, 1, 0]) == ["2 is beaten", "not by size"]
    assert front_faults(values, [1]) == ["0 is missing"]


def test_the_knee_lies_furthest_below_the_line_between_the_ends() -> None:
    values = {0: (0.50, 1e2), 1: (0.10, 1e3), 2: (0.08, 1e4), 3: (0.07, 1e5)}
    assert chosen(values) == {"front": [0, 1, 2, 3], "best": 3, "knee": 1}
    assert chosen({0: (0.5, 1.0), 1: (0.1, 2.0)})["knee"] == 1, "of two ends the one that errs less"
    assert chosen({4: (0.5,), 7: (0.2,)}) == {"front": [7], "best": 7, "knee": None}
    assert chosen({}) == {"front": [], "best": None, "knee": None}


def test_table_and_picture_of_two_objectives(tmp_path: Path) -> None:
    words = shown(study(tmp_path))
    assert "first: 32 trials: 30 complete, 1 failed, 1 running." in words
    assert "1 failed: The loss is not finite." in words
    assert "Reference 'dense': validation error 3.00 %." in words
    assert "knee" in words
    assert "best" in words
    assert "optimizer.lr" in words, "paths that end alike are told apart"
    assert (tmp_path / "pareto.png").read_bytes().startswith(b"\x89PNG")


def test_a_narrow_terminal_gets_two_tables(tmp_path: Path) -> None:
    assert max(map(len, shown(study(tmp_path), width=80).splitlines())) <= 80


def test_history_of_one_objective(tmp_path: Path) -> None:
    pruned = [trial(number, "pruned", epochs={"1": 0.3, "2": 0.2}) for number in range(30, 34)]
    reference = {"name": "dense", "method": "dense", "values": {"error": 0.03}}
    words = shown(study(tmp_path, objectives=["error"], trials=[*map(trial, range(30)), *pruned], reference=reference))
    assert "34 trials: 30 complete, 4 pruned" in words
    assert (tmp_path / "history.png").is_file()


def test_a_sweep_without_results_is_shown_without_a_picture(tmp_path: Path) -> None:
    assert "no trials" in shown(study(tmp_path, trials=[]))
    assert not list(tmp_path.glob("*.png"))


def test_report_takes_a_sweep_for_a_run_and_can_write_elsewhere(tmp_path: Path) -> None:
    folder = study(tmp_path / "sweep")
    assert report([folder], tmp_path / "out", Console(file=io.StringIO())) == tmp_path / "out"
    assert (tmp_path / "out" / "pareto.png").is_file()


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("{", "is no JSON"),
        ("[]", "format None is unknown"),
        ('{"format": 2}', "format 2 is unknown"),
        ('{"format": 1}', "is damaged"),
        ('{"format": 1, "name": "x", "objectives": ["error"], "seeds": [0], "trials": [{"number": 0}]}', "is damaged"),
        (
            '{"format": 1, "name": "x", "objectives": ["error"], "seeds": [0], '
            '"trials": [{"number": 0, "state": "complete", "values": {"error": NaN}, "params": {}}]}',
            "not finite",
        ),
    ],
)
def test_a_damaged_study_is_said(content: str, words: str, tmp_path: Path) -> None:
    (tmp_path / "study.json").write_text(content)
    with pytest.raises(DataError, match=words):
        read_sweep(tmp_path)


def test_a_study_that_is_not_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="parsinet tune --out"):
        read_sweep(tmp_path)
