"""Runs that differ in their seeds alone are told together; others never are."""

import json
from pathlib import Path
from typing import Any

import pytest

from parsinet.report import read
from parsinet.report.page import page
from parsinet.report.seeds import alike, over_seeds
from parsinet.report.summary import summary
from parsinet.report.table import remarks, rows

BEFORE = {"parameters": 50000, "macs": 49000}
RECIPE = {"data": {"source": "digits", "folder": None}, "method": {"name": "gates"}, "epochs": 3, "threads": None, "seed": 0}


def run(folder: Path, seed: int, error: float, parameters: int, *, ended: bool = True, **recipe: Any) -> Path:
    after = {"parameters": parameters, "macs": parameters - 1000}
    events = [
        {"event": "start", "format": 1, "seed": seed, "recipe": {**RECIPE, "seed": seed, **recipe}, **BEFORE},
        {"event": "epoch", "epoch": 1, "epochs": 3, "step": 10, "seconds": 3.0, **after},
        {"event": "end", "test_error": error, "before": BEFORE, "after": after},
    ]
    folder.mkdir()
    (folder / "record.jsonl").write_text("".join(json.dumps(event) + "\n" for event in events[: 3 if ended else 2]))
    return folder


def test_seeds_of_one_recipe_are_told_in_the_mean(tmp_path: Path) -> None:
    told = [
        read(run(tmp_path / "a", 0, 0.02, 10_000)),
        read(run(tmp_path / "b", 1, 0.03, 12_000, threads=2, method={"name": "gates", "seed": 7})),
        read(run(tmp_path / "c", 2, 0.04, 14_000, data={"source": "digits", "folder": "elsewhere", "split_seed": 2})),
    ]
    words = (
        "'a', 'b', 'c', 3 seeds of one recipe: test error 3.00 ± 1.00 % (2.00 to 4.00), 12,000 ± 2,000 parameters, "
        "11,000 ± 2,000 MACs. ± is the standard deviation over seeds."
    )
    assert over_seeds(told) == [words]
    assert words in remarks(rows(told))
    assert f"- {words}" in summary(rows(told), [])
    assert "3.00 ± 1.00 %" in page(told)


def test_many_runs_are_named_by_the_first_and_the_last(tmp_path: Path) -> None:
    told = [read(run(tmp_path / f"g{seed}", seed, 0.01 * seed, 10_000)) for seed in range(6)]
    assert over_seeds(told)[0].startswith("'g0' … 'g5', 6 seeds of one recipe: test error 2.50")


@pytest.mark.parametrize(
    "other",
    [
        {"seed": 0},
        {"seed": 1, "epochs": 4},
        {"seed": 1, "method": {"name": "gates", "price": 0.1}},
        {"seed": 1, "data": {"source": "mnist"}},
        {"seed": 1, "ended": False},
    ],
    ids=["the same seed", "epochs", "an option of the method", "data", "not finished"],
)
def test_runs_that_differ_in_more_are_not(tmp_path: Path, other: dict[str, Any]) -> None:
    told = [read(run(tmp_path / "a", 0, 0.02, 10_000)), read(run(tmp_path / "b", error=0.03, parameters=9_000, **other))]
    assert over_seeds(told) == []


def test_records_without_a_recipe_are_never_alike(tmp_path: Path) -> None:
    assert alike({}) == ""
    told = [read(run(tmp_path / name, seed, 0.02, 10_000)) for seed, name in enumerate("ab")]
    assert over_seeds(told)
    for folder in (tmp_path / "a", tmp_path / "b"):
        record = folder / "record.jsonl"
        first, *rest = map(json.loads, record.read_text().splitlines())
        record.write_text("".join(json.dumps(event) + "\n" for event in ({**first, "recipe": {}}, *rest)))
    assert over_seeds([read(tmp_path / "a"), read(tmp_path / "b")]) == []
