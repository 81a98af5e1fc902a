"""What a run survives besides signals: a full disk at any write, checkpoints that are not its own, another torch, no checkpoint at all."""

from __future__ import annotations

import dataclasses
import errno
import itertools
import os
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from rich.console import Console

from parsinet import structure
from parsinet.data import Dataset, Split
from parsinet.errors import RunError, StorageError, UsageError
from parsinet.models import build
from parsinet.training import RunInterrupted, environment, evaluate, load_checkpoint, read_record, recover, train
from parsinet.training.checkpoint import best_checkpoint, checkpoints
from parsinet.training.datasets import load_data
from parsinet.training.display import Display
from training.runs import Quick, Recipes, at_step, weights


@pytest.fixture
def stopped(quick: Quick, small: Recipes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A run that was interrupted after step 5, `tmp_path / "parts"`, beside the whole one, `tmp_path / "whole"`."""
    quick(small(), "whole")
    monkeypatch.setattr(Display, "on_step", lambda _, state: os.kill(os.getpid(), signal.SIGINT) if state.step == 5 else None)
    with pytest.raises(RunInterrupted):
        quick(small(), "parts")
    monkeypatch.undo()
    return tmp_path / "parts"


def resume(run: Path, console: Console) -> str:
    """Resume, check that nothing was lost; what was printed."""
    train(None, run, resume=True, console=console)
    assert weights(run) == weights(run.parent / "whole")
    return console.file.getvalue()  # type: ignore[attr-defined, no-any-return]


def test_other_versions_and_another_machine_are_said_and_recorded(stopped: Path, console: Console, monkeypatch: pytest.MonkeyPatch) -> None:
    here = environment.versions()
    monkeypatch.setattr(environment, "versions", lambda: {**here, "torch": "9.9.0"})
    said = resume(stopped, console)
    assert f"torch {here['torch']} → 9.9.0. The run goes on, but bitwise equality is no longer promised." in said
    (resumed,) = (event for event in read_record(stopped / "record.jsonl") if event["event"] == "resumed")
    assert resumed["versions"]["torch"] == "9.9.0"
    assert resumed["machine"]["cores"] == os.cpu_count()


def test_a_run_stopped_behind_its_last_step_tells_of_no_epoch_beyond_the_last(
    quick: Quick, small: Recipes, tmp_path: Path, console: Console, monkeypatch: pytest.MonkeyPatch
) -> None:
    quick(small(), "whole")
    monkeypatch.setattr(Display, "on_epoch", lambda _, state, result: os.kill(os.getpid(), signal.SIGINT) if result.epoch == 2 else None)
    with pytest.raises(RunInterrupted):
        quick(small(), "parts")
    monkeypatch.undo()
    resume(tmp_path / "parts", console)
    told = [event for event in read_record(tmp_path / "parts" / "record.jsonl") if event["event"] in ("interrupted", "resumed")]
    assert [event["epoch"] for event in told] == [2, 2]


def test_the_same_machine_says_nothing(stopped: Path, console: Console) -> None:
    assert "Not as" not in resume(stopped, console)


def swap(targets: torch.Tensor, inputs: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    return targets.flip(0), inputs


def shorten(targets: torch.Tensor, inputs: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    return targets[:-1], inputs[:-1]


def retouch(targets: torch.Tensor, inputs: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    return targets, inputs + torch.eye(8)[0] * 1e-3


@pytest.fixture
def other_data(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[..., tuple[torch.Tensor, torch.Tensor]]], None]:
    """From now on the training split is another one."""

    def change(how: Callable[..., tuple[torch.Tensor, torch.Tensor]]) -> None:
        def changed(*arguments: object) -> Dataset:
            dataset = load_data(*arguments)  # type: ignore[arg-type]
            targets, inputs = how(dataset.train.targets, dataset.train.inputs)
            return dataclasses.replace(dataset, train=Split(inputs, targets))

        monkeypatch.setattr("parsinet.training.assembly.load_data", changed)

    return change


@pytest.mark.parametrize(("how", "said"), [(swap, "the targets of its training examples"), (shorten, "examples, now there are")])
def test_other_data_are_refused(stopped: Path, console: Console, other_data: Callable[..., None], how: object, said: str) -> None:
    before = {path: path.read_bytes() for path in stopped.rglob("*") if path.is_file() and path.name != "record.jsonl"}
    other_data(how)
    with pytest.raises(RunError, match=said):
        train(None, stopped, resume=True, console=console)
    assert {path: path.read_bytes() for path in before} == before


def test_other_inputs_are_said(stopped: Path, console: Console, other_data: Callable[..., None]) -> None:
    other_data(retouch)
    train(None, stopped, resume=True, console=console)
    assert "Not as when the checkpoint was written: the inputs of the training examples." in console.file.getvalue()  # type: ignore[attr-defined]


def edit(run: Path, old: str, new: str) -> None:
    text = (run / "recipe.yaml").read_text()
    assert old in text
    (run / "recipe.yaml").write_text(text.replace(old, new))


def test_a_changed_recipe_is_refused_and_what_is_of_the_place_may_change(stopped: Path, console: Console) -> None:
    before = (stopped / "recipe.yaml").read_text()
    edit(stopped, "epochs: 2", "epochs: 3")
    told = (stopped / "record.jsonl").read_bytes()
    with pytest.raises(RunError, match=r"is of this run: .*its recipe has epochs = 2, the run's recipe\.yaml 3.*Put recipe\.yaml"):
        train(None, stopped, resume=True, console=console)
    assert (stopped / "record.jsonl").read_bytes() == told, "a run that was not resumed has not failed"
    (stopped / "recipe.yaml").write_text(before)
    edit(stopped, "keep: 2", "keep: 5")
    resume(stopped, console)


def test_a_checkpoint_of_another_run_is_passed_over(stopped: Path, console: Console, quick: Quick, small: Recipes) -> None:
    other = quick(small(seed=1, epochs=1), "other")
    shutil.copytree(load_checkpoint(other.folder / "checkpoint").path, stopped / "checkpoint" / "000077-step-99")
    assert "Passed over damaged checkpoints: 000077-step-99 (its recipe has " in resume(stopped, console)


def test_a_run_without_a_checkpoint_starts_from_its_first_step(stopped: Path, console: Console) -> None:
    shutil.rmtree(stopped / "checkpoint")
    (stopped / "record.jsonl").unlink()
    assert "has no checkpoint yet: the run starts from its first step" in resume(stopped, console)


def test_a_run_that_dies_while_it_starts_again_can_still_be_resumed(
    stopped: Path, console: Console, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Starting anew, for want of a checkpoint, deletes what is there; the recipe is there at every moment."""
    shutil.rmtree(stopped / "checkpoint")

    def die(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    for broken in ("parsinet.training.folder.save_recipe", "pathlib.Path.unlink"):
        monkeypatch.setattr(broken, die)
        with pytest.raises(KeyboardInterrupt):
            train(None, stopped, resume=True, console=console)
        monkeypatch.undo()
    resume(stopped, console)


MOMENTS = (3, 8, 17, 30)
FLUSHES = 34
"""Of the whole run; from the one after the last on, a full disk would come too late."""


@pytest.mark.parametrize(
    "number", [*MOMENTS, *(pytest.param(k, marks=pytest.mark.slow) for k in range(1, FLUSHES + 1) if k not in MOMENTS)]
)
def test_a_disk_that_is_full_at_any_moment_costs_a_sentence(
    quick: Quick, small: Recipes, tmp_path: Path, console: Console, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    """From the n-th flush on nothing can be written; then there is room again."""
    quick(small(), "whole")
    counted, fsync = itertools.count(1), os.fsync

    def full(handle: int) -> None:
        if next(counted) >= number:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        fsync(handle)

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StorageError, match=r"No space left on device\. Free space"):
        quick(small(), "parts")
    monkeypatch.undo()
    if (tmp_path / "parts" / "recipe.yaml").exists():
        resume(tmp_path / "parts", console)
    else:
        quick(small(), "parts")
        assert weights(tmp_path / "parts") == weights(tmp_path / "whole")


@pytest.fixture
def tiny_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 300 KiB."""
    place = tmp_path / "disk"
    place.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=300k", "tmpfs", str(place)], capture_output=True).returncode:
        pytest.skip("only root can mount a small file system")
    try:
        yield place
    finally:
        subprocess.run(["umount", str(place)], check=True)


@pytest.mark.slow
def test_a_disk_that_is_really_full(tiny_disk: Path, tmp_path: Path, console: Console, small: Recipes) -> None:
    recipe = small(checkpoint={"every": {"steps": 1}, "keep": 100})
    train(recipe, tmp_path / "whole", console=console)
    with pytest.raises(StorageError, match="No space left on device"):
        train(recipe, tiny_disk / "parts", console=console)
    assert checkpoints(tiny_disk / "parts" / "checkpoint")
    shutil.copytree(tiny_disk / "parts", tmp_path / "parts")
    resume(tmp_path / "parts", console)


def test_the_network_of_a_checkpoint_can_be_had(stopped: Path, small: Recipes) -> None:
    lean = recover(stopped)
    saved = load_checkpoint(stopped / "checkpoint").state["model"]
    assert all(torch.equal(tensor, saved[name]) for name, tensor in lean.state_dict().items())
    with pytest.raises(UsageError, match=r"best needs data\.validation"):
        recover(stopped, best=True)
    with pytest.raises(UsageError, match="holds no run"):
        recover(stopped / "model")


def test_the_best_network_is_the_one_that_was_recorded(quick: Quick, small: Recipes, tmp_path: Path) -> None:
    result = quick(small(data__validation=0.2, epochs=4, checkpoint={"best": True, "every": {"epochs": 4}}))
    told = [event["validation_error"] for event in read_record(result.folder / "record.jsonl") if event["event"] == "epoch"]
    best = best_checkpoint(result.folder / "checkpoint")
    assert best is not None
    lean = recover(result.folder, best=True)
    validation = load_data(result.recipe.data).validation
    assert validation is not None
    assert evaluate(lean, validation).error == min(told)
    structure.save(lean, tmp_path / "lean")
    structure.load(tmp_path / "lean", lambda: build("mlp", (1, 8, 8), 10, widths=[24, 16]))


def test_data_of_ones_own_may_lie_elsewhere(
    quick: Quick, small: Recipes, tmp_path: Path, console: Console, monkeypatch: pytest.MonkeyPatch
) -> None:
    generator = torch.Generator().manual_seed(0)
    table = {"x": torch.randn(60, 6, generator=generator).numpy(), "y": torch.randint(2, (60,), generator=generator).numpy()}
    np.savez(tmp_path / "here.npz", **table)
    recipe = small(data__source=str(tmp_path / "here.npz"), data__batch_size=16)
    quick(recipe, "whole")
    at_step(monkeypatch, 2, lambda: os.kill(os.getpid(), signal.SIGINT))
    with pytest.raises(RunInterrupted):
        quick(recipe, "parts")
    monkeypatch.undo()
    (tmp_path / "here.npz").rename(tmp_path / "there.npz")
    edit(tmp_path / "parts", "here.npz", "there.npz")
    resume(tmp_path / "parts", console)


@pytest.mark.parametrize("left", ["nothing", "no file", "its beginning"])
def test_a_record_that_was_lost_costs_what_it_told_and_not_the_run(
    quick: Quick, small: Recipes, tmp_path: Path, console: Console, monkeypatch: pytest.MonkeyPatch, left: str
) -> None:
    whole = quick(small(), "whole")
    last = max(event["step"] for event in read_record(whole.folder / "record.jsonl") if event["event"] == "epoch")
    monkeypatch.setattr(Display, "on_step", lambda _, state: os.kill(os.getpid(), signal.SIGINT) if state.step == last - 1 else None)
    with pytest.raises(RunInterrupted):
        quick(small(), "parts")
    monkeypatch.undo()
    record = tmp_path / "parts" / "record.jsonl"
    first = record.read_text().splitlines(keepends=True)[0]
    record.write_text(first if left == "its beginning" else "")
    if left == "no file":
        record.unlink()
    said = resume(tmp_path / "parts", console)
    assert "has lost 1 of 1 events before this checkpoint; its curves lack them." in said
    assert ("has lost its beginning, which is told anew" in said) == (left != "its beginning")
    events = read_record(record)
    assert [event["event"] for event in events[:2]] == ["start", "resumed"]
    assert events[0]["parameters"] == read_record(whole.folder / "record.jsonl")[0]["parameters"]
    assert events[-1]["event"] == "end"


def test_ctrl_c_before_a_resumed_run_goes_on_says_that_everything_is_saved(
    stopped: Path, console: Console, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("parsinet.training.session.restore", interrupted)
    with pytest.raises(RunInterrupted, match=r"everything is saved. Continue with: parsinet train --resume"):
        train(None, stopped, resume=True, console=console)
    monkeypatch.undo()
    resume(stopped, console)
