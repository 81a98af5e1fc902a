"""Whole sweeps on digits: what they leave, how they go on, what is given up, what fails."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from rich.console import Console

from parsinet.errors import ArgumentTypeError, DataError, MissingExtraError, RunError, StorageError, UsageError
from parsinet.report import Sweep, report
from parsinet.training import RunInterrupted, load_recipe, read_record, recipe_from, train
from parsinet.training.folder import RunFolder
from parsinet.tuning import objectives, tune
from training.runs import interrupted
from tuning.sweeps import BASE, SPACE, count_faults

optuna = pytest.importorskip("optuna")

from parsinet.tuning import ledger as ledgers  # noqa: E402
from parsinet.tuning import trial, work  # noqa: E402

Tuned = Callable[..., Sweep]


@pytest.fixture
def tuned(tmp_path: Path) -> Tuned:
    """A sweep in `tmp_path`/sweep over a journal, which is quicker than a database."""

    def run(trials: int = 2, **options: Any) -> Sweep:
        settings = {"recipe": BASE, "space": SPACE, "out": tmp_path / "sweep", "sampler": "random", "storage": str(tmp_path / "journal")}
        return tune(trials=trials, console=Console(file=io.StringIO(), width=200), **{**settings, **options})

    return run


def study(folder: Path) -> dict[str, Any]:
    told: dict[str, Any] = json.loads((folder / "study.json").read_text())
    return told


def test_what_a_sweep_leaves(tmp_path: Path) -> None:
    console = Console(file=io.StringIO(), width=200)
    found = tune({**BASE, "epochs": 1}, SPACE, tmp_path / "sweep", trials=2, seeds=[0, 1], console=console)
    folder, told = tmp_path / "sweep", study(tmp_path / "sweep")
    assert count_faults(told["trials"], 2) == []
    for row in told["trials"]:
        runs = [folder / run["folder"] for run in row["runs"]]
        ends = [read_record(run / "record.jsonl")[-1] for run in runs]
        assert row["values"]["error"] == pytest.approx(sum(end["validation_error"] for end in ends) / 2)
        assert row["values"]["macs"] == sum(end["after"]["macs"] for end in ends) / 2
        assert recipe_from(row["recipe"]) == load_recipe(runs[0] / "recipe.yaml")
    best = min(told["trials"], key=lambda row: (row["values"]["error"], row["values"]["macs"]))
    assert found.best == told["best"] == best["number"]
    assert load_recipe(folder / "best.yaml") == recipe_from(best["recipe"])
    assert (folder / "knee.yaml").is_file()
    assert (folder / "pareto.png").read_bytes().startswith(b"\x89PNG")
    assert "2 trials" in console.file.getvalue()  # type: ignore[attr-defined]
    (folder / "pareto.png").unlink()
    assert report([folder], console=console) == folder
    assert (folder / "pareto.png").is_file()
    assert not list((folder / ".workers").iterdir())


@pytest.mark.slow
def test_a_repeated_call_goes_on(tuned: Tuned) -> None:
    folder = tuned(1).folder
    record = (folder / "trials/0000/seed-0/record.jsonl").read_bytes()
    first = study(folder)["trials"]
    assert len(tuned(2).trials) == 2
    assert study(folder)["trials"][:1] == first
    assert (folder / "trials/0000/seed-0/record.jsonl").read_bytes() == record
    assert len(tuned(1).trials) == 2, "a lower number asks for nothing, and loses nothing"


def test_the_test_split_is_not_looked_at(tuned: Tuned) -> None:
    folder = tuned(1).folder / "trials/0000/seed-0"
    told = objectives.measured(folder)
    events = read_record(folder / "record.jsonl")

    def with_end(**changed: Any) -> Any:
        lines = [*events[:-1], {**events[-1], **changed}]
        (folder / "record.jsonl").write_text("".join(json.dumps(event) + "\n" for event in lines))
        return objectives.measured(folder)

    assert with_end(test_error=0.0, test_loss=0.0) == told
    assert with_end(validation_error=0.0) != told, "the law can see a change"
    with pytest.raises(DataError, match="no validation error"):
        with_end(validation_error=None)


@pytest.mark.slow
def test_ctrl_c_gives_the_trial_back_and_the_next_call_goes_on_with_it(
    tuned: Tuned, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    interrupted(monkeypatch, 3)
    with pytest.raises(RunInterrupted):
        tuned(1)
    monkeypatch.undo()
    continued = tuned(1)
    assert "resumed" in [event["event"] for event in read_record(continued.folder / "trials/0000/seed-0/record.jsonl")]
    whole = tuned(1, out=tmp_path / "whole", storage=str(tmp_path / "other"), name="sweep")
    assert [trial.values for trial in continued.trials] == [trial.values for trial in whole.trials]


def test_a_run_that_has_ended_before_the_study_was_told_is_only_read(tuned: Tuned, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(work, "values_of", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        tuned(1)
    monkeypatch.undo()
    monkeypatch.setattr("parsinet.tuning.trial.train", None)
    assert tuned(1).trials[0].state == "complete"


def test_pruned_trials_end_early_and_say_why(tuned: Tuned, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ledgers, "pruner", lambda *_: optuna.pruners.ThresholdPruner(upper=1e-9))
    found = tuned(2, objectives=("error",), pruner="median")
    assert [trial.state for trial in found.trials] == ["pruned", "pruned"]
    assert found.best is None
    assert all(set(trial.epochs) == {1} for trial in found.trials)
    assert "Given up after epoch 1" in found.trials[0].reason
    events = [event["event"] for event in read_record(found.folder / "trials/0000/seed-0/record.jsonl")]
    assert events == ["start", "epoch", "failed"]
    assert not (found.folder / "history.png").exists()


@pytest.mark.slow
@pytest.mark.parametrize("pruner", ["median", "hyperband"])
def test_bad_trials_are_pruned(pruner: str, tuned: Tuned) -> None:
    space = {"optimizer.lr": {"low": 1e-7, "high": 1e-1, "log": True}}
    found = tuned(14, recipe={**BASE, "epochs": 4}, space=space, objectives=("error",), pruner=pruner)
    states = [trial.state for trial in found.trials]
    assert set(states) == {"complete", "pruned"}
    assert found.trial(found.best).params["optimizer.lr"] > 1e-3  # type: ignore[arg-type]
    assert (found.folder / "history.png").is_file()


def test_a_trial_that_fails_says_why_and_the_others_go_on(tuned: Tuned, monkeypatch: pytest.MonkeyPatch) -> None:
    run = work.run_trial

    def failing(claimed: Any, *arguments: Any) -> Any:
        if claimed.number == 0:
            raise RunError("The loss is not finite.")
        return run(claimed, *arguments)

    monkeypatch.setattr(work, "run_trial", failing)
    found = tuned(2)
    assert [(trial.state, trial.reason) for trial in found.trials] == [("failed", "The loss is not finite."), ("complete", "")]


@pytest.mark.slow
def test_trials_that_all_fail_end_the_sweep(tuned: Tuned, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(work, "run_trial", lambda *_: 1 / 0)
    with pytest.raises(RunError, match=r"5 trials in a row failed, the last because: ZeroDivisionError"):
        tuned(9)
    monkeypatch.undo()
    assert [trial.state for trial in tuned(6).trials] == ["failed"] * 5 + ["complete"]


@pytest.mark.slow
def test_a_full_disk_loses_nothing(tuned: Tuned, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise StorageError("Cannot write x: No space left on device.")

    monkeypatch.setattr(work, "run_trial", full)
    with pytest.raises(StorageError, match="No space left"):
        tuned(1)
    monkeypatch.undo()
    assert [trial.state for trial in tuned(1).trials] == ["complete"]


def test_trials_of_another_sweep_are_not_taken_for_own(tuned: Tuned, tmp_path: Path) -> None:
    recipe = recipe_from({**BASE, "epochs": 1})
    train(recipe, tmp_path / "sweep/trials/0000/seed-0", console=Console(quiet=True))
    with pytest.raises(UsageError, match="holds trials that the study 'sweep' does not know"):
        tuned(1)
    with pytest.raises(StorageError, match="holds a run with another recipe"):
        trial._check_same(recipe_from(BASE), RunFolder(tmp_path / "sweep/trials/0000/seed-0"))


@pytest.mark.slow
def test_a_reference_stands_beside_the_trials(tuned: Tuned, tmp_path: Path) -> None:
    for name, split in (("dense", 0), ("other", 1)):  # any seed of the run itself: the held-out part depends on the split's alone
        recipe = recipe_from({**BASE, "seed": 3, "data": {**BASE["data"], "split_seed": split}})
        train(recipe, tmp_path / name, console=Console(quiet=True))
    found = tuned(1, reference=tmp_path / "dense")
    assert found.reference is not None
    assert found.reference.values[1] == objectives.measured(tmp_path / "dense")["macs"]  # type: ignore[index]
    assert tuned(1).reference == found.reference, "it stays where a later call gives none"
    with pytest.raises(UsageError, match=r"data\.split_seed = 1, the sweep 0"):
        tuned(1, reference=tmp_path / "other")
    with pytest.raises(UsageError, match="holds no finished run"):
        tuned(1, reference=tmp_path / "nothing")


@pytest.mark.parametrize(
    ("options", "kind", "words"),
    [
        ({"trials": 0}, UsageError, "trials must be ≥ 1"),
        ({"trials": 1.5}, ArgumentTypeError, "whole number"),
        ({"recipe": "base.yaml"}, ArgumentTypeError, "recipe must be a mapping"),
        ({"space": [1]}, ArgumentTypeError, "space must be a mapping"),
    ],
)
def test_what_is_refused_leaves_no_folder(
    options: Mapping[str, Any], kind: type[Exception], words: str, tuned: Tuned, tmp_path: Path
) -> None:
    with pytest.raises(kind, match=words):
        tuned(**options)
    assert not (tmp_path / "sweep").exists()


def test_a_folder_that_holds_a_run_is_left_alone(tuned: Tuned, tmp_path: Path) -> None:
    (tmp_path / "sweep").mkdir()
    (tmp_path / "sweep" / "recipe.yaml").write_text(yaml.safe_dump(BASE))
    with pytest.raises(UsageError, match="holds a run, not a sweep"):
        tuned(1)


def test_without_optuna_the_install_command_is_named(tuned: Tuned, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'parsinet\[tune\]'"):
        tuned(1)
    assert not (tmp_path / "sweep").exists()


def test_not_under_torchrun(tuned: Tuned, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("parsinet.tuning.sweep.launched", lambda: 2)
    with pytest.raises(UsageError, match="start the same command several times"):
        tuned(1)
