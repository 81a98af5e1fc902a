"""What the README shows runs as it stands, and the examples run."""

from __future__ import annotations

import re
import runpy
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


@pytest.mark.slow
def test_the_readme_code_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (code,) = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), re.DOTALL)
    names: dict[str, object] = {}
    exec(compile(code, "README.md", "exec"), names)
    assert (tmp_path / "lean" / "structure.json").exists()
    pruner = names["pruner"]
    assert all(units < size for units, size in zip(pruner.widths().values(), (300, 100), strict=True))  # type: ignore[attr-defined]


@pytest.mark.parametrize("example", [["own_loop.py", "--epochs", "2"]])
def test_the_examples_run(example: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "argv", [*example, "--out", str(tmp_path / "lean")])
    runpy.run_path(str(ROOT / "examples" / example[0]), run_name="__main__")
    assert "bitwise equal: True" in capsys.readouterr().out


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
def test_the_example_with_accelerate_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("accelerate", reason="accelerate is not installed (pip install 'parsinet[accelerate]')")
    monkeypatch.setattr(sys, "argv", ["accelerate_loop.py", "--epochs", "4", "--out", str(tmp_path / "lean")])
    runpy.run_path(str(ROOT / "examples" / "accelerate_loop.py"), run_name="__main__")
    assert "bitwise equal: True" in capsys.readouterr().out


def test_the_example_of_own_rules_runs(capsys: pytest.CaptureFixture[str]) -> None:
    runpy.run_path(str(ROOT / "examples" / "own_rule.py"), run_name="__main__")
    shown = capsys.readouterr().out
    assert "example.gated` at own_rule.py" in shown
    assert "capsules: 4 shrunk equals silenced: True" in shown


def test_relative_links_lead_somewhere() -> None:
    for page in [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").glob("*.md")]:
        for target in re.findall(r"\]\(([^)#:]+)\)", page.read_text(encoding="utf-8")):
            assert (page.parent / target).exists(), f"{page.name} links to {target}"
