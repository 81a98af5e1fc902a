"""The examples run, and end with what they say they show."""

from __future__ import annotations

import re
import runpy
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parent.parent.parent / "examples"
PARTS = ("before_after.py", "sample_text.py")
"""What examples share; no programs."""
TESTED_ELSEWHERE = ("several_processes.py", "sharded.py")
"""tests/distributed runs them under torchrun."""
SHRINKING = {
    "cnn_on_images.py": ["--epochs", "2"],
    "vit.py": ["--epochs", "2"],
    "lstm_on_text.py": ["--epochs", "2", "--characters", "6000"],
    "char_gpt.py": ["--epochs", "2", "--characters", "6000"],
}


def shown(example: str, options: list[str], patch: pytest.MonkeyPatch, captured: pytest.CaptureFixture[str]) -> str:
    """What an example prints, run as a program of its folder."""
    patch.syspath_prepend(str(EXAMPLES))
    patch.delenv("PARSINET_DATA", raising=False)
    patch.setattr(sys, "argv", [example, *options])
    runpy.run_path(str(EXAMPLES / example), run_name="__main__")
    return captured.readouterr().out


def row(table: str, name: str) -> tuple[float, float]:
    """A row of the table of before_after.py: before and after."""
    found = re.search(rf"^{name} +([\d.,]+) +([\d.,]+)$", table, re.MULTILINE)
    assert found, f"no row {name!r} in {table!r}"
    before, after = (float(number.replace(",", "")) for number in found.groups())
    return before, after


@pytest.mark.slow
@pytest.mark.parametrize("example", SHRINKING)
def test_a_network_ends_smaller(example: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    table = shown(example, SHRINKING[example], monkeypatch, capsys)
    for name in ("parameters", "macs", "bytes"):
        before, after = row(table, name)
        assert after < before
    assert row(table, "ms, batch 1") > (0, 0)


@pytest.mark.slow
def test_eigenvalues_learn_a_second_task(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("transformers")
    table = shown("finetune_by_eigenvalues.py", ["--steps", "100"], monkeypatch, capsys)
    assert "the file gives the same network: True" in table
    assert row(table, "parameters")[0] == row(table, "parameters")[1]
    before, after = row(table, "second task")
    assert after > before + 0.1


def test_the_loop_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert "bitwise equal: True" in shown("own_loop.py", ["--epochs", "2", "--out", str(tmp_path / "lean")], monkeypatch, capsys)


def test_own_rules_run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    printed = shown("own_rule.py", [], monkeypatch, capsys)
    assert "example.gated` at own_rule.py" in printed
    assert "capsules: 4 shrunk equals silenced: True" in printed


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
def test_the_loop_under_accelerate_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("accelerate", reason="accelerate is not installed (pip install 'parsinet[accelerate]')")
    options = ["--epochs", "4", "--out", str(tmp_path / "lean"), "--save", str(tmp_path / "saved")]
    whole = shown("accelerate_loop.py", options, monkeypatch, capsys)
    assert "bitwise equal: True" in whole
    resumed = shown("accelerate_loop.py", [*options[:-2], "--resume", str(tmp_path / "saved")], monkeypatch, capsys)
    assert resumed.splitlines()[-2] == whole.splitlines()[-2]


def test_every_example_is_tested() -> None:
    tested = {*SHRINKING, *PARTS, *TESTED_ELSEWHERE, "accelerate_loop.py", "finetune_by_eigenvalues.py", "own_loop.py", "own_rule.py"}
    assert {path.name for path in EXAMPLES.glob("*.py")} == tested


def test_a_row_is_read() -> None:
    table = "                 before  after\nmacs                 5,175,296       755,712\nms, batch 1             34.9   12.2\n"
    assert row(table, "macs") == (5175296, 755712)
    with pytest.raises(AssertionError, match="no row 'bytes'"):
        row(table, "bytes")
