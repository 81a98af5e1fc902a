"""Loggers are told the record's numbers; one that fails costs a warning and not the run."""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from parsinet.errors import MissingExtraError, ParsinetWarning, UsageError
from parsinet.training import RunInterrupted, read_record, train
from parsinet.training.loggers import Loggers, numbers
from training.runs import Quick, Recipes, interrupted, untimed, weights

EVENTS: list[dict[str, Any]] = [
    {"event": "start", "groups": []},
    {"event": "epoch", "step": 10, "loss": 1.5, "validation_loss": None, "parameters": 100, "macs": 90, "widths": {"fc1": 3}},
    {"event": "removal", "step": 12, "groups": {"fc1": [3, 2]}, "parameters": 80, "macs": float("nan")},
    {"event": "settled", "step": 12},
    {"event": "end", "test_error": 0.1, "after": {"parameters": 80, "bytes": 320}, "widths": {"fc1": 2}},
]
TOLD = [
    (10, {"loss": 1.5, "parameters": 100.0, "macs": 90.0, "widths/fc1": 3.0}),
    (12, {"parameters": 80.0, "widths/fc1": 2.0}),
    (12, {"test_error": 0.1, "parameters": 80.0, "bytes": 320.0, "widths/fc1": 2.0}),
]


class Notes:
    """A logger that remembers, and fails at the n-th call; it draws random numbers, as some do."""

    def __init__(self, fails: int = 0) -> None:
        self.told: list[tuple[int, dict[str, float]]] = []
        self.closed = 0
        self.calls, self.fails = 0, fails

    def log(self, values: Mapping[str, float], step: int) -> None:
        self.calls += 1
        torch.rand(3)
        if self.calls == self.fails:
            raise OSError("the server is gone")
        self.told.append((step, dict(values)))

    def close(self) -> None:
        self.closed += 1


def test_what_is_told(tmp_path: Path) -> None:
    notes = Notes()
    loggers = Loggers([notes], tmp_path)
    before = torch.get_rng_state()
    for event in EVENTS:
        loggers(event)
    assert (notes.told, notes.closed) == (TOLD, 1)
    assert torch.equal(torch.get_rng_state(), before)


def test_a_logger_that_raises_is_left_alone_and_the_others_go_on(tmp_path: Path) -> None:
    bad, good = Notes(fails=2), type("Other", (Notes,), {})()
    loggers = Loggers([bad, good], tmp_path)
    with pytest.warns(ParsinetWarning, match="Notes is told nothing any more: OSError: the server is gone") as caught:
        deque(map(loggers, EVENTS))
    assert len(caught) == 1
    assert (bad.told, bad.calls, bad.closed) == (TOLD[:1], 2, 0)
    assert good.told == TOLD


def test_interruptions_are_no_failures_of_a_logger(tmp_path: Path) -> None:
    class Slow(Notes):
        def log(self, values: Mapping[str, float], step: int) -> None:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Loggers([Slow()], tmp_path).log({"loss": 1.0}, 1)


@pytest.mark.slow
def test_what_is_not_there_is_refused_before_a_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, small: Recipes) -> None:
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'parsinet\[wandb\]'"):
        train(small(loggers=["wandb"]), tmp_path / "run")
    assert not (tmp_path / "run").exists()
    with pytest.raises(UsageError, match=r"no logger 'tensorbord'\. Did you mean 'tensorboard'"):
        Loggers(["tensorbord"], tmp_path)
    with pytest.raises(UsageError, match="loggers"):
        small(loggers=["tensorbord"])


def scalars(folder: Path) -> dict[str, list[tuple[int, float]]]:
    """What TensorBoard shows of a run."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    shown = EventAccumulator(str(folder / "loggers" / "tensorboard"))
    shown.Reload()
    return {tag: [(entry.step, entry.value) for entry in shown.Scalars(tag)] for tag in shown.Tags()["scalars"]}


def expected(folder: Path, name: str) -> list[tuple[int, float]]:
    """The same, from the record."""
    step, found = 0, []
    for event in read_record(folder / "record.jsonl"):
        step = event.get("step", step)
        found += [(step, value)] if (value := numbers(event).get(name)) is not None else []
    return found


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_tensorboard_shows_the_record_also_after_a_resume(
    tmp_path: Path, pruning: Recipes, quick: Quick, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("tensorboard")
    plain = quick(pruning(epochs=3), tmp_path / "plain")
    with monkeypatch.context() as patch:
        interrupted(patch, 15)
        with pytest.raises(RunInterrupted):
            quick(pruning(epochs=3, loggers=["tensorboard"]), tmp_path / "run")
    run = quick(None, tmp_path / "run", resume=True)
    assert weights(run) == weights(plain)
    assert untimed(run.folder)[1:] == untimed(plain.folder)[1:]
    shown = scalars(run.folder)
    for name in ("loss", "parameters", "widths/0", "test_error"):
        if name in shown or expected(run.folder, name):
            assert shown[name] == [(step, pytest.approx(value, rel=1e-6)) for step, value in expected(run.folder, name)]
    assert len(shown["parameters"]) > 3


class Fake(SimpleNamespace):
    """Stands for what a package gives; every call is noted under its name."""

    def note(self, *values: Any, **named: Any) -> None:
        self.calls.append((values, named))


@pytest.mark.parametrize(("name", "environment"), [("wandb", "WANDB_PROJECT"), ("trackio", "TRACKIO_PROJECT")])
def test_a_resumed_run_is_the_same_one(name: str, environment: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a stand-in of the documented calls; the packages themselves were tried by hand (docs/integrations.md)."""
    begun: list[dict[str, Any]] = []
    told: list[Any] = []

    def init(**options: Any) -> Any:
        begun.append(options)
        run = Fake(calls=told, id=options.get("id") or "run-7", name=options.get("name"), finish=lambda: told.append("finished"))
        run.log = run.note
        return run

    monkeypatch.setitem(sys.modules, name, SimpleNamespace(init=init))
    monkeypatch.setenv(environment, "mine")
    for first in ({"event": "start"}, {"event": "resumed", "step": 10}):
        loggers = Loggers([name], tmp_path / "first", {"seed": 1})
        for event in (first, EVENTS[2], {"event": "interrupted", "step": 12}):
            loggers(event)
    assert [options["project"] for options in begun] == ["mine", "mine"]
    assert [options["resume"] for options in begun] == [begun[0]["resume"], "allow"]
    assert begun[0]["resume"] in (None, "never")
    assert told == [(({"parameters": 80.0, "widths/fc1": 2.0},), {"step": 12}), "finished"] * 2
    if name == "wandb":
        assert [options["id"] for options in begun] == [None, "run-7"]


def test_mlflow_goes_on_with_its_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a stand-in of the documented calls; the package itself was tried by hand."""
    made: list[Any] = []
    metrics: list[Any] = []
    client = SimpleNamespace(
        get_experiment_by_name=lambda name: None,
        create_experiment=lambda name: made.append(name) or "1",
        create_run=lambda experiment, run_name: made.append(run_name) or SimpleNamespace(info=SimpleNamespace(run_id="abc")),
        log_param=lambda run, key, value: made.append((run, key, value)),
        log_metric=lambda run, key, value, step: metrics.append((run, key, value, step)),
        set_terminated=lambda run: metrics.append((run, "ended")),
    )
    monkeypatch.setitem(sys.modules, "mlflow", SimpleNamespace(MlflowClient=lambda: client))
    monkeypatch.delenv("MLFLOW_EXPERIMENT_NAME", raising=False)
    for begin in (None, 10):
        loggers = Loggers(["mlflow"], tmp_path / "first", {"data": {"batch_size": 3}})
        loggers.begin(begin)
        loggers.log({"widths/a:b": 2.0}, 12)
        loggers.close()
    assert made == ["parsinet", "first", ("abc", "data.batch_size", "3")]
    assert metrics == [("abc", "widths/a_b", 2.0, 12), ("abc", "ended")] * 2
