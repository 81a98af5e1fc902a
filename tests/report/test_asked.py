"""What was asked for and what there is, in a sentence, for every kind of target."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from parsinet.methods import target as methods_target
from parsinet.report import read
from parsinet.report.asked import NEAR, asked
from parsinet.report.page import page
from parsinet.report.summary import summary
from parsinet.report.table import remarks, rows

BEFORE = {"parameters": 50000, "nonzeros": 50000, "macs": 49000, "bytes": 200000}
AFTER = {"parameters": 10030, "nonzeros": 9900, "macs": 9800, "bytes": 40120}


def run(folder: Path, asks: str | None, described: Mapping[str, Any], *, ended: bool = True) -> Path:
    """A run of one epoch whose method told `described`."""
    method = {"name": "gates"} if asks is None else {"name": "gates", "target": asks}
    events: list[dict[str, Any]] = [
        {"event": "start", "format": 1, "recipe": {"method": method}, **BEFORE},
        {"event": "epoch", "epoch": 1, "epochs": 1, "step": 10, "seconds": 3.0, "method": described, **AFTER},
        {"event": "end", "test_error": 0.02, "before": BEFORE, "after": AFTER},
    ]
    folder.mkdir(parents=True)
    (folder / "record.jsonl").write_text("".join(json.dumps(event) + "\n" for event in events[: 3 if ended else 2]))
    return folder


def goal(kind: str, wanted: float, reached: float | None) -> dict[str, Any]:
    return {"target": {"kind": kind, "wanted": wanted, "reached": reached}}


MASKS = {"target": 0.8, "tensors": {"fc.weight": {"density": 0.2}}}


@pytest.mark.parametrize(
    ("asks", "described", "words"),
    [
        ("params=20%", goal("parameters", 10122.4, 10030.0), "asked for params=20% (10,122 parameters), has 10,030 (0.91 % below)."),
        ("params=20%", goal("parameters", 10122.4, None), "asked for params=20% (10,122 parameters), has 10,030 (0.91 % below)."),
        ("params=10030", goal("parameters", 10030, 10030), "asked for params=10030 (10,030 parameters), has 10,030 (as asked)."),
        (None, goal("parameters", 10000, 10030), "asked for 10,000 parameters, has 10,030 (0.3 % above)."),
        ("macs=10537", goal("macs", 10537, 9800), "asked for macs=10537 (10,537 MACs), missed by 7 %: it has 9,800."),
        ("bytes=50k", goal("bytes", 50000, 40120), "asked for bytes=50k (50,000 bytes), missed by 19.8 %: it has 40,120."),
        ("latency=2ms", goal("latency", 2e-3, 1.97e-3), "asked for latency=2ms (2.00 ms per forward pass), has 1.97 ms (1.5 % below)."),
        ("latency=2ms", goal("latency", 2e-3, 3e-3), "asked for latency=2ms (2.00 ms per forward pass), missed by 50.0 %: it has 3.00 ms."),
        ("params=20%", goal("nonzeros", 10000, None), "asked for params=20% (10,000 parameters that are not zero), has 9,900 (1 % below)."),
        ("params=9900", goal("nonzeros", 9900, None), "asked for params=9900 (9,900 parameters that are not zero), has 9,900 (as asked)."),
        (
            "params=12k",
            goal("nonzeros", 12e3, None),
            "asked for params=12k (12,000 parameters that are not zero), missed by 17.5 %: it has 9,900.",
        ),
    ],
)
def test_a_target_is_told_with_what_became_of_it(tmp_path: Path, asks: str | None, described: Mapping[str, Any], words: str) -> None:
    assert asked(read(run(tmp_path / "run", asks, described))) == [words]


def test_before_the_last_decision_only_what_was_asked_is_told(tmp_path: Path) -> None:
    (words,) = asked(read(run(tmp_path / "run", "macs=20%", goal("macs", 9800, None), ended=False)))
    assert words == "asked for macs=20% (9,800 MACs); what stays is not decided."


@pytest.mark.parametrize(
    ("asks", "described"),
    [
        (None, {}),
        (None, MASKS),
        ("params=20%", {}),
        ("params=20%", MASKS),
        ("params=20%", goal("moons", 3, 2)),
        ("params=20%", goal("macs", 0, 2)),
        ("params=20%", {"target": {"kind": ["macs"], "wanted": "much"}}),
    ],
)
def test_without_a_target_nothing_is_told(tmp_path: Path, asks: str | None, described: Mapping[str, Any]) -> None:
    assert asked(read(run(tmp_path / "run", asks, described))) == []


def test_remarks_summary_and_page_have_the_sentence(tmp_path: Path) -> None:
    told = read(run(tmp_path / "t1", "macs=10537", goal("macs", 10537, 9800)))
    words = "t1: asked for macs=10537 (10,537 MACs), missed by 7 %: it has 9,800."
    assert words in remarks(rows([told]))
    assert f"- {words}" in summary(rows([told]), [])
    assert f"<li>{words}</li>" in page([told])


def test_near_is_what_methods_call_near() -> None:
    assert NEAR == methods_target.NEAR
