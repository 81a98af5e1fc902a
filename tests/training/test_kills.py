"""The small form of the benchmark: ten runs that get SIGKILL while they write, resumed, bitwise as the one that was never killed."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "durability" / "kills.py"


@pytest.mark.slow
def test_ten_kills_lose_nothing(tmp_path: Path) -> None:
    results = tmp_path / "kills.json"
    command = [sys.executable, str(SCRIPT), "--methods", "gates", "--limit", "10", "--scratch", str(tmp_path), "--results", str(results)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    rows = json.loads(results.read_text())["rows"]
    assert len(rows) == 10
    assert {row["outcome"] for row in rows} <= {"survived", "not killed"}
    assert sum(row["kills"] for row in rows) >= 8
