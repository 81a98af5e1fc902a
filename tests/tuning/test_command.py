"""`parsinet tune` as a user meets it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from parsinet.cli import app
from parsinet.training import load_recipe
from tuning.sweeps import BASE, SPACE

pytest.importorskip("optuna")


@pytest.fixture(autouse=True)
def _files(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setenv("TERM", "dumb")
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.chdir(tmp_path)
    Path("base.yaml").write_text(yaml.safe_dump({**BASE, "epochs": 1}))
    Path("space.yaml").write_text(yaml.safe_dump(SPACE))


def tune(*more: str) -> Any:
    return CliRunner().invoke(app, ["tune", "--recipe", "base.yaml", "--space", "space.yaml", "--out", "sweep", *more])


@pytest.mark.slow
def test_a_sweep_on_the_command_line() -> None:
    result = tune("--trials", "1", "--objectives", "error, params", "--set", "optimizer.weight_decay=1e-4", "--storage", "journal.log")
    assert result.exit_code == 0, result.output
    assert "trial 0: error" in result.stdout
    assert "parsinet train --recipe sweep/best.yaml" in result.stdout
    assert load_recipe("sweep/best.yaml").optimizer.weight_decay == 1e-4  # type: ignore[union-attr]
    shown = CliRunner().invoke(app, ["report", "sweep"])
    assert shown.exit_code == 0, shown.output
    assert "0 best knee" in shown.stdout
    refused = CliRunner().invoke(app, ["report", "sweep", "sweep/trials/0000/seed-0"])
    assert (refused.exit_code, "a sweep is reported by itself" in refused.stderr) == (2, True)


@pytest.mark.parametrize(
    ("options", "code", "words"),
    [
        (["--trials", "0"], 2, "trials must be ≥ 1"),
        (["--recipe", "none.yaml"], 1, "Cannot read the recipe none.yaml"),
        (["--space", "none.yaml"], 1, "Cannot read the space none.yaml"),
        (["--space", "torn.yaml"], 2, "Space torn.yaml is not valid YAML"),
        (["--set", "data.validation=0"], 2, "never by the test split"),
        (["--objectives", "error,size"], 2, "no objective 'size'"),
        (["--pruner", "median"], 2, "two objectives"),
        (["--seeds", "0;1"], 2, "--seeds needs whole numbers with commas between"),
        (["--storage", "study.sqlite"], 2, "no journal file"),
        (["--out", "base.yaml"], 1, "is a file"),
        (["--reference", "nowhere"], 2, "holds no finished run"),
    ],
)
def test_what_is_refused(options: list[str], code: int, words: str) -> None:
    Path("torn.yaml").write_text("optimizer.lr: {low: 1")
    result = tune(*options)
    assert (result.exit_code, words in result.stderr) == (code, True), result.stderr
    assert result.stderr.startswith("parsinet: ")
    assert result.stderr.count("\n") == 1
