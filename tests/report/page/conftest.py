"""Records that are cut short, end badly or mean harm, each in a folder of its own."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

HOSTILE = "<script>alert('x')</script>"
Make = Callable[..., Path]

START: dict[str, Any] = {
    "event": "start",
    "format": 1,
    "recipe": {"method": {"name": "gates"}, "model": {"name": "mlp"}},
    "versions": {"python": "3.11.2"},
    "machine": {"processor": "x86_64"},
    "seed": 3,
    "dataset": {"name": "digits", "input_shape": [1, 2, 3]},
    "groups": [
        {"name": "input", "size": 6, "removable": True, "exact": True, "reason": ""},
        {"name": "fc", "size": 8, "removable": True, "exact": True, "reason": ""},
        {"name": "out", "size": 3, "removable": False, "exact": True, "reason": "it is part of the model's output"},
    ],
    "parameters": 100,
    "macs": 90,
    "bytes": 400,
}
END: dict[str, Any] = {
    "event": "end",
    "test_error": 0.125,
    "train_seconds": 4.0,
    "train_macs": 600,
    "dense_train_macs": 1200,
    "before": {"parameters": 100, "nonzeros": 100, "macs": 90, "bytes": 400},
    "after": {"parameters": 40, "nonzeros": 40, "macs": 30, "bytes": 160},
    "latency": [{"batch": 1, "before": {"median": 2e-4, "p95": 3e-4}, "after": {"median": 1e-4, "p95": 2e-4}}],
    "widths": {"input": 4, "fc": 5},
    "inputs": {"input": [0, 2, 3, 5]},
}


def epoch(number: int, **more: Any) -> dict[str, Any]:
    known = {"event": "epoch", "epoch": number, "epochs": 4, "step": 10 * number, "loss": 1.0 / number, "train_error": 0.5 / number}
    sizes = {"parameters": 100 - 10 * number, "macs": 90 - 10 * number, "widths": {"input": 6, "fc": 8 - number}, "seconds": 1.0 * number}
    return {**known, "validation_error": None, **sizes, "method": {"groups": {"fc": {"theta": [0.0, 0.5, 1.0]}}}, **more}


REMOVAL = {"event": "removal", "step": 25, "epoch": 3, "groups": {"fc": [6, 5]}, "parameters": 70, "macs": 60}
WHOLE = [START, epoch(1), epoch(2), REMOVAL, epoch(3), epoch(4), END]
BAD = {"loss": float("nan"), "train_error": float("inf"), "validation_error": float("-inf")}
CASES: dict[str, list[Any]] = {
    "whole": WHOLE,
    "no epochs": [START],
    "unfinished": [START, epoch(1), epoch(2), REMOVAL],
    "interrupted": [START, epoch(1), {"event": "interrupted", "step": 10, "epoch": 1}],
    "failed": [START, epoch(1), {"event": "failed", "reason": f"the loss is nan {HOSTILE}", "step": 14, "epoch": 2, "last_good_step": 10}],
    "torn": [START, epoch(1), json.dumps(epoch(2))[:60]],
    "not finite": [START, epoch(1, **BAD), epoch(2, **BAD), {**END, "test_error": None}],
    "finished without epochs": [START, END],
    "bare": [{"event": "start", "format": 1, "parameters": 10, "macs": 5}],
    "hostile": [
        {**START, "recipe": {"method": HOSTILE, "model": HOSTILE}, "dataset": {"name": HOSTILE}, "machine": {HOSTILE: HOSTILE},
         "groups": [{"name": HOSTILE, "size": 8, "removable": False, "reason": HOSTILE}]},
        epoch(1, widths={HOSTILE: 4}, method={"groups": {HOSTILE: {"theta": [0.5], "score": [1.0]}}, "hoyer": {HOSTILE: 0.5}}),
        {**END, "widths": {HOSTILE: 3}, "inputs": {}},
    ],
}  # fmt: skip


@pytest.fixture
def make(tmp_path: Path) -> Make:
    """A run folder with one of `CASES`, or the events given, as its record."""

    def made(case: str | list[Any], name: str = "run") -> Path:
        folder = tmp_path / "made" / name
        folder.mkdir(parents=True)
        events = CASES[case] if isinstance(case, str) else case
        lines = [event if isinstance(event, str) else json.dumps(event) for event in events]
        (folder / "record.jsonl").write_text("\n".join(lines) + "\n")
        return folder

    return made


@pytest.fixture(params=CASES)
def case(request: pytest.FixtureRequest) -> str:
    """The name of each of `CASES`."""
    return str(request.param)
