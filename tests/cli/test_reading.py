"""`report --html` and `watch` as a user types them."""

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from parsinet.cli import app
from parsinet.cli.optional_file import spelled
from parsinet.errors import StorageError

START = {"event": "start", "format": 1, "parameters": 100, "macs": 90, "bytes": 400}
SIZE = {"parameters": 100, "macs": 90, "bytes": 400}
END = {"event": "end", "test_error": 0.25, "train_seconds": 1.0, "before": SIZE, "after": SIZE}


@pytest.fixture(autouse=True)
def _here(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A finished run in a folder of one's own to stand in."""
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.chdir(tmp_path)
    Path("runs/a").mkdir(parents=True)
    Path("runs/a/record.jsonl").write_text(f"{json.dumps(START)}\n{json.dumps(END)}\n")


def parsinet(*arguments: str) -> Any:
    return CliRunner().invoke(app, list(arguments))


@pytest.mark.parametrize(
    ("typed", "read"),
    [
        (["runs/a"], ["runs/a"]),
        (["runs/a", "--html"], ["runs/a", "--html="]),
        (["--html", "runs/a"], ["--html=", "runs/a"]),
        (["--html", "page.html", "runs/a"], ["--html=page.html", "runs/a"]),
        (["runs/a", "--html", "PAGE.HTM"], ["runs/a", "--html=PAGE.HTM"]),
        (["--html=x", "runs/a"], ["--html=x", "runs/a"]),
        (["runs/a", "--html", "--debug"], ["runs/a", "--html=", "--debug"]),
        (["--html", "--html", "b.html"], ["--html=", "--html=b.html"]),
        ([], []),
    ],
)
def test_the_file_of_html_may_be_left_out(typed: list[str], read: list[str]) -> None:
    assert spelled(typed) == read


@pytest.mark.parametrize(
    ("arguments", "page"),
    [
        (["runs/a", "--html"], "runs/a/report/report.html"),
        (["--html", "runs/a"], "runs/a/report/report.html"),
        (["runs/a", "--html", "deep/page.html"], "deep/page.html"),
        (["runs/a", "--html=page"], "page"),
        (["runs/a", "--out", "plots", "--html"], "plots/report.html"),
        (["runs/a"], "runs/a/report/report.html"),
    ],
)
def test_report_writes_the_page(arguments: list[str], page: str) -> None:
    result = parsinet("report", *arguments)
    assert result.exit_code == 0, result.output
    assert f"Page: {page}" in result.stdout
    assert "25.00 %" in Path(page).read_text(encoding="utf-8")
    alone = any(word.startswith("--html") for word in arguments)
    assert alone != bool(list(Path().rglob("summary.md"))), "with --html the page alone is written"


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["report", "runs/a", "--out", "plots", "--html", "page.html"], 2, "exclude each other"),
        (["report", "runs/a", "--html=runs"], 1, "Cannot write runs"),
        (["report", "nowhere", "--html", "page.html"], 1, "does not exist"),
        (["watch", "runs/a", "--port", "80"], 2, "--port goes with --browser"),
    ],
)
def test_refusals(arguments: list[str], code: int, words: str) -> None:
    result = parsinet(*arguments)
    assert (result.exit_code, words in result.stderr) == (code, True), result.output
    assert not Path("page.html").exists()


def test_watch_shows_a_finished_run_and_leaves() -> None:
    result = parsinet("watch", "runs/a")
    assert result.exit_code == 0
    assert "100 parameters at a test error of 25.00 %" in result.stdout


def test_ctrl_c_leaves_without_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("parsinet.report.watch.lines.time.sleep", interrupted)
    monkeypatch.setattr("parsinet.report.watch.server.PageServer.serve_forever", interrupted)
    result = parsinet("watch", "nowhere")
    assert (result.exit_code, result.stdout.splitlines()[-1]) == (0, "No longer watching.")
    result = parsinet("watch", "nowhere", "--browser", "--port", "0")
    assert result.exit_code == 0
    assert "Watching nowhere at http://127.0.0.1:" in result.stdout
    assert not Path("nowhere").exists()


TRAIN = ["train", "--model", "mlp", "--set", "model.widths=[16]", "--epochs", "1", "--threads", "1", "--out", "new"]


def test_a_finished_run_has_its_page() -> None:
    result = parsinet(*TRAIN)
    assert result.exit_code == 0, result.output
    assert "Page: new/report/report.html" in result.stdout
    assert "dense trained mlp on digits" in Path("new/report/report.html").read_text(encoding="utf-8")


def test_a_finished_run_says_what_was_asked_for() -> None:
    result = parsinet(*TRAIN, "--method", "random-mask", "--set", "method.target=params=50%")
    assert result.exit_code == 0, result.output
    assert "Asked for params=50% (605 parameters that are not zero), " in result.stdout


def test_a_page_that_cannot_be_written_costs_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> None:
        raise StorageError("Cannot write the page: No space left on device.")

    monkeypatch.setattr("parsinet.report.write_page", full)
    result = parsinet(*TRAIN)
    assert result.exit_code == 0
    assert "Saved in new. Its page is missing. Cannot write the page: No space left on device." in result.stdout
    assert Path("new/model/model.safetensors").exists()
