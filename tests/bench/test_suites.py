"""Suites: what a file may say, which trainings follow from it, and what a run of one leaves behind."""

from __future__ import annotations

import copy
import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from rich.console import Console

from bench.conftest import VALUES
from parsinet import bench
from parsinet.bench import Suite, curves, jobs, page, workers
from parsinet.bench.peers import PEERS
from parsinet.bench.trainings import trained
from parsinet.cli import names
from parsinet.errors import MissingExtraError, RunError, UsageError


def written(folder: Path, **changes: Any) -> str:
    values = copy.deepcopy(VALUES)
    for path, value in changes.items():
        section = values
        *parents, last = path.split("__")
        for key in parents:
            section = section[key]
        section[last] = value
    (folder / "own.yaml").write_text(yaml.safe_dump(values))
    return str(folder / "own.yaml")


@pytest.mark.parametrize("name", bench.names())
def test_every_suite_loads(name: str) -> None:
    suite = bench.load(name)
    assert all(len(row.strengths) * len(row.tune) == suite.trials for row in suite.rows.values())
    assert sorted(names.SUITES) == list(bench.names())


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"rows__dense__settings": {"epochs": 4}}, "sets epochs, which all rows share"),
        ({"rows__dense__settings": {"data.batch_size": 4}}, "sets data.batch_size, which all rows share"),
        ({"rows__dense__tune": [{"seed": 1}, {}]}, "sets seed, which all rows share"),
        ({"rows__dense__tune": [{}]}, "1 strengths × 1 candidates to try, but every row gets 2 trials"),
        ({"recipe__average": {}}, "sets average"),
        ({"sizes": []}, "sizes"),
        ({"rows__dense__settings": {"optimizer.rate": 4}}, "optimizer.rate"),
        ({"colour": "red"}, "colour"),
    ],
)
def test_what_would_not_be_fair_is_refused(changes: dict[str, Any], words: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError) as caught:
        bench.load(written(tmp_path, **changes))
    assert words in str(caught.value)


def test_an_unknown_suite_names_the_nearest() -> None:
    with pytest.raises(UsageError, match="Did you mean 'quick'"):
        bench.load("quik")


def test_trials_come_first_and_choose(suite: Suite) -> None:
    tried = jobs.trials(suite, list(suite.rows))
    assert [job.kind for job in tried] == ["trial"] * 4
    assert {job.settings["data"]["validation"] for job in tried} == {0.2}
    assert jobs.finals(suite, list(suite.rows), [0], []) == []
    events = [
        {"event": "trial", "row": job.row, "candidate": job.candidate, "strength": job.strength, "settings": job.settings}
        | {"seed": job.seed, "parameters": 600, "error": error}
        for job, error in zip(tried, (0.2, 0.1, 0.1, 0.2), strict=True)
    ]
    found = jobs.finals(suite, list(suite.rows), [0, 1], events)
    assert [(job.row, job.strength, job.seed) for job in found[:3]] == [("dense", None, 0), ("magnitude", 0.3, 0), ("magnitude", 0.6, 0)]
    assert found[0].settings["optimizer"]["lr"] == 1e-2
    assert found[1].settings["method"] == {"name": "magnitude-units", "begin": 0.5, "share": 0.3}
    assert {job.settings["data"]["validation"] for job in found} == {0.0}


def test_strengths_are_read_off_the_trials() -> None:
    """A law size = 1000 / strength is found again, between its points and beyond them."""
    points = [(strength, 1000 / strength) for strength in (1.0, 10.0, 100.0)]
    assert [jobs.strength_for(size, points) for size in (500, 50, 20, 2000, 5)] == [2.0, 20.0, 50.0, 0.5, 200.0]


def test_curves_are_read_at_sizes_and_errors() -> None:
    points = [(100.0, 0.04), (400.0, 0.01)]
    assert curves.at_size(points, 200) == pytest.approx(0.02)
    assert curves.at_error(points, 0.02) == pytest.approx(200)
    assert curves.at_size(points, 1000) is None
    assert curves.at_error(points, 0.001) is None
    assert curves.at_error(points, 0.05) == 100
    spreads = {"a": [curves.Spread((1.0,)), curves.Spread((3.0,))], "b": [curves.Spread((2.0,)), None], "c": [None, None]}
    assert curves.ranked(spreads) == {"a": 1.0, "b": 2.25, "c": 2.75}


@pytest.mark.slow
def test_a_run_goes_on_where_it_was_and_tells_of_itself(suite: Suite, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []

    def here(waiting: list[jobs.Job], count: int) -> Any:
        asked.append(len(waiting))
        yield from map(trained, waiting)

    monkeypatch.setattr(workers, "results", here)
    console = Console(quiet=True)
    bench.run(suite, tmp_path, console=console)
    with (tmp_path / "records.jsonl").open("a") as file:
        file.write('{"event": "ro')  # torn by a kill
    events = bench.run(suite, tmp_path, console=console)
    assert asked == [4, 3, 0, 0]
    text = (tmp_path / "report.md").read_text()
    assert "## At equal size" in text
    assert "| magnitude | 0.6 | 1 |" in text
    assert (tmp_path / "pareto.png").stat().st_size > 10_000
    assert str(tmp_path) not in json.dumps(events)
    final = [event for event in events if event["event"] == "row"]
    assert {"seconds", "cpu_seconds", "train_macs", "speed", "versions", "machine", "commit", "protocol"} <= set(final[0])
    assert page.text(suite, []) == "# tiny\n\nNothing is trained yet.\n"
    with pytest.raises(UsageError, match="no row 'dens'"):
        bench.run(suite, tmp_path, only=["dens"])


def test_a_peer_that_is_not_installed_is_skipped_with_its_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = written(tmp_path, rows={"peer": {"settings": {"peer.name": "geotorch", "peer.rank": 2, "peer.fixed": []}, "tune": [{}, {}]}})
    monkeypatch.setitem(__import__("sys").modules, "geotorch", None)
    events = bench.run(bench.load(path), tmp_path / "out", console=Console(quiet=True))
    assert [event["event"] for event in events] == ["skipped"]
    assert 'pip install "parsinet[peers]"' in events[0]["reason"]
    with pytest.raises(MissingExtraError, match=r"parsinet\[peers\]"):
        PEERS["geotorch"].procedure({"rank": 2, "fixed": []})
    with pytest.raises(UsageError, match=r"needs peer\.rank"):
        PEERS["geotorch"].procedure({"fixed": []})
    with pytest.raises(UsageError, match="no option 'rang'"):
        PEERS["geotorch"].procedure({"rang": 1})


def test_what_a_peer_cannot_group_is_told(suite: Suite) -> None:
    pytest.importorskip(PEERS["torchao"].module)
    (job, *_) = jobs.trials(suite, ["dense"])
    settings = {**job.settings, "peer": {"name": "torchao", "fixed": [], "lam": 1.0, "groups": "row"}}
    with pytest.raises(UsageError, match=r"no groups 'row'\. Did you mean 'rows'"):
        trained(jobs.Job("trial", "torchao", None, {}, settings, job.start))


@pytest.mark.parametrize(
    ("peer", "options"),
    [
        *(("torch-pruning", {"importance": name, "share": 0.5}) for name in ("group-magnitude", "l1", "taylor", "random")),
        ("torchao", {"lam": 3.0}),
        ("torchao", {"lam": 3.0, "groups": "weights"}),
        ("geotorch", {"rank": 3}),
    ],
)
def test_peers_train_under_the_protocol(peer: str, options: dict[str, Any], suite: Suite) -> None:
    pytest.importorskip(PEERS[peer].module)
    (job, *_) = jobs.trials(suite, ["dense"])
    settings = {**job.settings, "peer": {"name": peer, "fixed": ["fc3"], **options}}
    dense, event = trained(job), trained(jobs.Job("trial", peer, None, {}, settings, job.start))
    size = "nonzeros" if options.get("groups") == "weights" else "parameters"
    assert event[size] < 0.9 * dense[size]
    assert event["protocol"] == dense["protocol"]


@pytest.mark.slow
def test_workers_run_jobs_and_tell_of_failures(suite: Suite) -> None:
    good = jobs.trials(suite, ["dense"])[0]
    bad = jobs.Job("trial", "bad", None, {}, {**good.settings, "method": {"name": "gates", "price": -1.0}}, good.start)
    found = {event["row"]: event for event in workers.results([good, bad], 2)}
    assert found["dense"]["protocol"]["order"] == trained(good)["protocol"]["order"]
    assert found["bad"]["event"] == "failed"
    assert "price" in found["bad"]["reason"]


def test_one_seed_has_no_spread_and_what_is_missing_is_told(suite: Suite) -> None:
    suite = suite.model_copy(update={"seeds": (0, 1)})
    rows = [
        {"event": "row", "row": title, "seed": seed, "parameters": size, "error": error + 0.02 * seed}
        for title, seeds, error in (("dense", (0, 1), 0.2), ("magnitude", (0,), 0.1))
        for seed in seeds
        for size in (400, 800)
    ]
    table = [line for line in page.at_sizes(suite, rows).splitlines() if line.startswith("|")]
    assert table[0].startswith("| mean place | row | seeds |")
    assert table[2:] == ["| 1.0 | magnitude | 1 | **10.00** | **10.00** |", "| 2.0 | dense | 2 | 21.00 ± 1.41 | 21.00 ± 1.41 |"]
    rest = [{**row, "strength": None, "settings": {}} for row in rows]
    assert page._left_out(suite, rest) == "- magnitude: not run with seed 1"


ROWS = {
    "an option of a method": ({"settings": {"method.name": "magnitude-units", "method.scpoe": "layer"}}, "no option 'scpoe'"),
    "a candidate": ({"settings": {"method.name": "gates"}, "tune": [{}, {"method.priec": 1}]}, "no option 'priec'"),
    "a strength": (
        {"settings": {"method.name": "gates"}, "strength": {"option": "method.price", "trials": [1e-3, 2e-3], "values": [-1.0]}},
        "price must be > 0",
    ),
    "an option of a peer": ({"settings": {"peer.name": "torch-pruning", "peer.shaer": 0.3}, "tune": [{}, {}]}, "no option 'shaer'"),
    "one it needs": ({"settings": {"peer.name": "geotorch", "peer.rank": 2}, "tune": [{}, {}]}, "geotorch needs peer.fixed (names of"),
    "a peer": ({"settings": {"peer.name": "torch-prunin"}, "tune": [{}, {}]}, "There is no peer 'torch-prunin'"),
}


@pytest.mark.parametrize(("row", "words"), ROWS.values(), ids=ROWS)
def test_rows_that_could_not_train_are_refused_before_any_does(row: dict[str, Any], words: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=re.escape(words)) as refused:
        bench.load(written(tmp_path, rows={"tried": {"tune": [{}, {}], **row} if "strength" not in row else row}))
    assert "row 'tried'" in str(refused.value)


def test_failed_trainings_are_told_at_the_end(suite: Suite, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(waiting: list[jobs.Job], count: int) -> Any:
        yield from ({"event": "failed", "row": job.row, "strength": job.strength, "seed": job.seed, "reason": "No."} for job in waiting)

    monkeypatch.setattr(workers, "results", failing)
    with pytest.raises(RunError, match=r"^4 trainings failed, the first: No\. The others are in .*report\.md; the same"):
        bench.run(suite, tmp_path, console=Console(quiet=True))
    assert (tmp_path / "report.md").exists()
