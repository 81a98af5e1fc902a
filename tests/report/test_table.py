"""The numbers of the table, worked out by hand from small records."""

import io
import json
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from parsinet.report import numbers, read
from parsinet.report.summary import summary
from parsinet.report.table import remarks, rows
from parsinet.report.terminal import show


def small(
    folder: Path,
    method: str,
    *,
    after: int,
    error: float,
    batch1: tuple[float, float],
    cost: int,
    data: str = "digits",
    start: int = 1000,
    **of_data: Any,
) -> Path:
    """A finished one-epoch run from `start` parameters (MACs: ten times) to `after`; training cost in MACs, 400 if dense."""

    def size(parameters: int) -> dict[str, int]:
        return {"parameters": parameters, "nonzeros": parameters, "macs": 10 * parameters, "bytes": 4 * parameters}

    latency = [{"batch": 1, "before": {"median": batch1[0], "p95": 1}, "after": {"median": batch1[1], "p95": 1}}]
    events: list[dict[str, Any]] = [
        {"event": "start", "format": 1, "recipe": {"method": {"name": method}}, "dataset": {"name": data, **of_data}, **size(start)},
        {"event": "epoch", "epoch": 1, "epochs": 4, "step": 10, "seconds": 3.0, **size(after)},
        {
            "event": "end",
            "test_error": error,
            "train_seconds": 1234.0,
            "train_macs": cost,
            "dense_train_macs": 400,
            "before": size(start),
            "after": size(after),
            "latency": latency,
        },
    ]
    folder.mkdir(parents=True)
    (folder / "record.jsonl").write_text("".join(json.dumps(event) + "\n" for event in events))
    return folder


def printed(table: Any, width: int = 200) -> str:
    console = Console(file=io.StringIO(), width=width)
    show(console, table)
    return console.file.getvalue()  # type: ignore[attr-defined,no-any-return]


def test_against_the_own_start_without_a_dense_run(tmp_path: Path) -> None:
    (row,) = rows([read(small(tmp_path / "a", "gates", after=250, error=0.0213, batch1=(8e-4, 2e-4), cost=100))])
    assert row.against is None
    assert (row.parameters, row.macs, row.bytes, row.train_macs) == (0.25, 0.25, 0.25, 0.25)
    assert row.speedup == pytest.approx({1: 4.0})
    assert row.error_change is None
    text = printed([row])
    for figure in ("2.13 %", "250", "2,500", "1,000 B", "0.200 ms", "1,234 s", "25.0 %", "4.0×", "of start"):
        assert figure in text, figure


def test_against_the_dense_run(tmp_path: Path) -> None:
    dense = small(tmp_path / "full", "dense", after=1000, error=0.02, batch1=(9e-4, 9e-4), cost=200)
    gates = small(tmp_path / "lean", "gates", after=250, error=0.0213, batch1=(8e-4, 2e-4), cost=100)
    first, second = rows([read(gates), read(dense)])
    assert first.against is second.run
    assert first.train_macs == 0.5
    assert first.error_change == pytest.approx(0.0013)
    assert first.speedup == pytest.approx({1: 4.0}), "same start: the run's own interleaved times compare"
    assert (second.against, second.error_change, second.train_macs) == (second.run, None, 1.0)
    text = printed([first, second])
    assert "+0.13 pp" in text
    assert "against the dense run 'full'" in text


def test_a_dense_run_of_another_size_is_compared_across_processes(tmp_path: Path) -> None:
    dense = small(tmp_path / "full", "dense", after=2000, error=0.02, batch1=(9e-4, 1e-3), cost=200, start=2000)
    gates = small(tmp_path / "lean", "gates", after=250, error=0.02, batch1=(8e-4, 2e-4), cost=100)
    _, row = rows([read(dense), read(gates)])
    assert row.parameters == 0.125
    assert row.speedup == pytest.approx({1: 5.0})


def test_a_dense_run_on_other_data_is_no_reference(tmp_path: Path) -> None:
    dense = small(tmp_path / "full", "dense", after=1000, error=0.02, batch1=(1, 1), cost=200, data="mnist")
    gates = small(tmp_path / "lean", "gates", after=250, error=0.02, batch1=(1, 1), cost=100)
    assert rows([read(dense), read(gates)])[1].against is None


@pytest.mark.parametrize(
    ("other", "same"),
    [
        ({}, True),
        ({"train": 8, "validation": 2, "sha256": {"targets": "ab"}}, True),
        ({"train": 11}, False),
        ({"test": 5}, False),
        ({"classes": 3}, False),
        ({"sha256": {"targets": "ba"}}, False),
    ],
)
def test_data_of_the_same_name_are_told_apart(tmp_path: Path, other: dict[str, Any], same: bool) -> None:
    known = {"input_shape": [6], "classes": 2, "train": 10, "validation": 0, "test": 4, "sha256": {"targets": "aa"}}
    common = {"after": 250, "error": 0.02, "batch1": (1, 1), "cost": 100}
    full = small(tmp_path / "full", "dense", **common, **known)
    lean = small(tmp_path / "lean", "gates", **common, **known | other)
    table = rows([read(full), read(lean)])
    assert (table[1].against is not None) is same
    assert ("lean: not compared with 'full', whose data digits are others." in remarks(table)) is not same


def test_missing_end_gives_a_partial_row(tmp_path: Path) -> None:
    folder = small(tmp_path / "run", "gates", after=250, error=0.02, batch1=(1, 1), cost=100)
    lines = (folder / "record.jsonl").read_text().splitlines()
    (folder / "record.jsonl").write_text("\n".join(lines[:2]) + "\n" + lines[2][:30])
    table = rows([read(folder)])
    assert (table[0].parameters, table[0].speedup, table[0].train_macs) == (0.25, {}, None)
    text = printed(table)
    assert "1 of 4 epochs" in text
    assert "–" in text
    assert any("still going or was killed" in line for line in remarks(table))
    assert any("torn" in line for line in remarks(table))


def test_a_failed_run_says_why(tmp_path: Path) -> None:
    folder = small(tmp_path / "run", "gates", after=250, error=0.02, batch1=(1, 1), cost=100)
    lines = (folder / "record.jsonl").read_text().splitlines()
    failed = json.dumps({"event": "failed", "reason": "loss is nan", "step": 11, "last_good_step": 10})
    (folder / "record.jsonl").write_text("\n".join([*lines[:2], failed]))
    text = printed(rows([read(folder)]))
    assert "failed, 1 of 4 epochs" in text
    assert "run: the run failed: loss is nan" in text


def test_a_narrow_terminal_cuts_no_number(tmp_path: Path) -> None:
    run = read(small(tmp_path / "run", "gates", after=1234567, error=0.0213, batch1=(8e-4, 2e-4), cost=100, start=9999999))
    text = printed(rows([run]), width=80)
    assert "…" not in text
    for figure in ("1,234,567", "12.3 M", "4,938 kB", "1,234 s", "0.200 ms"):
        assert figure in text, figure


@pytest.mark.parametrize("width", [40, 45, 60])
def test_the_narrowest_terminal_shows_names(tmp_path: Path, width: int) -> None:
    run = read(small(tmp_path / "first", "gates", after=1234567, error=0.0213, batch1=(8e-4, 2e-4), cost=100, start=9999999))
    assert printed(rows([run]), width=width).count("first") >= 2


def test_names_are_shown_as_they_are(tmp_path: Path) -> None:
    run = read(small(tmp_path / "[red]a|b_c", "gates", after=250, error=0.02, batch1=(1, 1), cost=100))
    assert "[red]a|b_c" in printed(rows([run]))
    page = summary(rows([run]), [("progress.png", "Progress")])
    assert r"| \[red\]a\|b\_c | gates | 2.00 % | 250 (25.0 %) |" in page
    assert "![Progress](progress.png)" in page


@pytest.mark.parametrize(
    ("form", "value", "text"),
    [
        (numbers.count, 266200, "266,200"),
        (numbers.count, 40_813_184, "40.8 M"),
        (numbers.stored, 1_067_000, "1,067 kB"),
        (numbers.stored, 42_100_000, "42.1 MB"),
        (numbers.share, 0.0053, "0.53 %"),
        (numbers.share, 0.2034, "20.3 %"),
        (numbers.times, 3.87, "3.9×"),
        (numbers.times, 0.5, "0.50×"),
        (numbers.milliseconds, 1.2345e-3, "1.23 ms"),
        (numbers.milliseconds, 2.5, "2,500 ms"),
        (numbers.duration, 12.34, "12.3 s"),
    ],
)
def test_numbers(form: Any, value: float, text: str) -> None:
    assert form(value) == text
