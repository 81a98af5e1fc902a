"""Whole runs in a folder: what is left behind, what is refused, what an interruption costs (nothing)."""

import errno
import io
import os
import random
import re
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from rich.console import Console

from parsinet import files, models, structure
from parsinet.errors import DataError, ParsinetError, RunError, StorageError, UsageError
from parsinet.training import Recipe, RunInterrupted, load_checkpoint, load_recipe, read_record, train
from parsinet.training.checkpoint import Loaded
from training.runs import Quick, Recipes, at_step, untimed, weights


def events(folder: Path, kind: str) -> list[dict[str, Any]]:
    return [event for event in read_record(folder / "record.jsonl") if event["event"] == kind]


def test_a_run_leaves_everything_in_its_folder(quick: Quick, pruning: Recipes) -> None:
    recipe = pruning(data__validation=0.1, epochs=3)
    result = quick(recipe)
    assert load_recipe(result.folder / "recipe.yaml") == recipe
    start, *_, end = read_record(result.folder / "record.jsonl")
    assert (start["event"], end["event"]) == ("start", "end")
    assert start["recipe"] == recipe.plain()
    assert set(start["dataset"].pop("sha256")) == {"inputs", "targets"}
    assert (start["dataset"].pop("labels"), start["dataset"].pop("task")) == ([str(digit) for digit in range(10)], "classification")
    assert len(start["dataset"].pop("mean")) == len(start["dataset"].pop("std")) == 1
    assert start["dataset"] == {
        "name": "digits",
        "train": 1294,
        "validation": 144,
        "test": 359,
        "input_shape": [1, 8, 8],
        "classes": 10,
        "divided_by": 16,
    }
    epochs = events(result.folder, "epoch")
    assert [event["epoch"] for event in epochs] == [1, 2, 3]
    assert all(0 <= event[key] <= 1 for event in epochs for key in ("train_error", "validation_error"))
    assert end["test_error"] == result.test.error
    assert end["after"]["parameters"] == result.after.parameters < end["before"]["parameters"] == start["parameters"]
    assert [entry["batch"] for entry in end["latency"]] == [1, 64]


def test_the_saved_model_is_the_result(quick: Quick, pruning: Recipes) -> None:
    result = quick(pruning())
    again = structure.load(result.folder / "model", lambda: models.build("mlp", (1, 8, 8), 10, widths=[24, 16]))
    inputs = torch.randn(5, 1, 8, 8)
    assert torch.equal(again.eval()(inputs), result.model.eval()(inputs))


def test_training_macs_follow_every_removal(quick: Quick, pruning: Recipes) -> None:
    """Recomputed from the record: examples between removals times the macs there."""
    result = quick(pruning(epochs=3, method__decide="round"))
    start, *_, end = read_record(result.folder / "record.jsonl")
    assert len(events(result.folder, "removal")) >= 2
    size, batch, per_epoch = 1438, 128, 12

    def examples(step: int) -> int:
        return step // per_epoch * size + step % per_epoch * batch

    total, since, macs = 0, 0, start["macs"]
    for event in events(result.folder, "removal"):
        total, since, macs = total + (examples(event["step"]) - since) * macs, examples(event["step"]), event["macs"]
    assert end["train_macs"] == total + (3 * size - since) * macs
    assert end["dense_train_macs"] == 3 * size * start["macs"]


def test_weights_composed_for_a_batch_cost_each_example_its_part(quick: Quick, small: Recipes) -> None:
    """R Q is multiplied once for 128 examples: n_out·k·n_in multiply-adds, and n_out·n_in for each of them."""
    result = quick(small(method__name="spectral-sparse", epochs=1))
    start, *_, end = read_record(result.folder / "record.jsonl")
    shapes = [(24, 64), (16, 24), (10, 16)]
    once = sum(n_out * min(n_out, n_in) * n_in for n_out, n_in in shapes)
    epoch = events(result.folder, "epoch")[0]
    assert epoch["macs"] == round(start["macs"] + once / 128)
    assert end["train_macs"] == 1438 * epoch["macs"]


STEPS = [1, 6, 7, 9, 12, 17]
"""Units leave after 6, 9, 12 and 15."""


@pytest.mark.parametrize(
    ("step", "number"),
    [(1, signal.SIGINT), (10, signal.SIGINT), (12, signal.SIGTERM)]
    + [pytest.param(step, number, marks=pytest.mark.slow) for step in STEPS for number in (signal.SIGINT, signal.SIGTERM)],
)
def test_interrupted_and_resumed_is_bitwise_the_uninterrupted(
    quick: Quick, tmp_path: Path, console: Console, monkeypatch: pytest.MonkeyPatch, step: int, number: signal.Signals, pruning: Recipes
) -> None:
    recipe = pruning(data__validation=0.1, schedule__kind="cosine")
    whole = quick(recipe, "whole")
    assert any(event["step"] < step for event in events(whole.folder, "removal")) == (step > 6)
    at_step(monkeypatch, step, lambda: os.kill(os.getpid(), number))
    with pytest.raises(RunInterrupted, match="parsinet train --resume"):
        quick(recipe, "parts")
    monkeypatch.undo()
    parts = tmp_path / "parts"
    assert events(parts, "interrupted")[0]["step"] == step
    assert not events(parts, "end")
    resumed = train(None, parts, resume=True, console=console)
    assert weights(whole) == weights(resumed)
    assert untimed(whole.folder) == untimed(parts)


def forget_momentum(state: dict[str, Any]) -> None:
    state["optimizer"]["state"] = {}


def forget_position(state: dict[str, Any]) -> None:
    state["batches"]["position"] = 0


def forget_draws(state: dict[str, Any]) -> None:
    generator = state["pruner"]["method"]["state"]["generator"]
    generator.copy_(torch.Generator().manual_seed(99).get_state())


@pytest.mark.parametrize("forget", [forget_momentum, forget_position, forget_draws])
def test_the_law_of_resuming_sees_what_is_forgotten(
    quick: Quick,
    tmp_path: Path,
    console: Console,
    monkeypatch: pytest.MonkeyPatch,
    pruning: Recipes,
    forget: Callable[[dict[str, Any]], None],
) -> None:
    whole = quick(pruning(), "whole")
    at_step(monkeypatch, 5, lambda: os.kill(os.getpid(), signal.SIGINT))
    with pytest.raises(RunInterrupted):
        quick(pruning(), "parts")
    monkeypatch.undo()

    def faulty(*arguments: Any) -> Loaded:
        loaded = load_checkpoint(*arguments)
        forget(loaded.state)
        return loaded

    monkeypatch.setattr("parsinet.training.session.load_checkpoint", faulty)
    assert weights(whole) != weights(train(None, tmp_path / "parts", resume=True, console=console))


def test_a_killed_run_goes_back_to_its_checkpoint_and_repeats_the_rest(
    quick: Quick, tmp_path: Path, console: Console, monkeypatch: pytest.MonkeyPatch, pruning: Recipes
) -> None:
    recipe = pruning()
    whole = quick(recipe, "whole")

    class Killed(BaseException):
        pass

    def die() -> None:
        raise Killed

    at_step(monkeypatch, 20, die)
    with pytest.raises(Killed):
        quick(recipe, "parts")
    monkeypatch.undo()
    parts = tmp_path / "parts"
    newest = max((parts / "checkpoint").iterdir())
    (newest / "state.json").write_text("torn")
    with (parts / "record.jsonl").open("a") as record:
        record.write('{"event": "epo')
    resumed = train(None, parts, resume=True, console=console)
    assert "damaged" in console.file.getvalue()  # type: ignore[attr-defined]
    assert weights(whole) == weights(resumed)
    assert untimed(whole.folder) == untimed(parts)


def test_a_second_signal_ends_at_once_and_the_last_epoch_is_kept(
    quick: Quick, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, small: Recipes
) -> None:
    def twice() -> None:
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)

    at_step(monkeypatch, 15, twice)
    with pytest.raises(RunInterrupted):
        quick(small())
    assert events(tmp_path / "run", "interrupted")[0]["step"] == 12


def test_an_interruption_after_the_last_step_costs_no_training(
    quick: Quick, tmp_path: Path, console: Console, monkeypatch: pytest.MonkeyPatch, pruning: Recipes
) -> None:
    whole = quick(pruning(), "whole")

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("parsinet.training.session.conclude", interrupt)
    with pytest.raises(RunInterrupted):
        quick(pruning(), "parts")
    monkeypatch.undo()
    at_step(monkeypatch, 1, lambda: pytest.fail("it trained again"))
    assert weights(train(None, tmp_path / "parts", resume=True, console=console)) == weights(whole)


def test_signals_and_global_state_are_as_before(quick: Quick, small: Recipes) -> None:
    handlers = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    threads = torch.get_num_threads()
    random.seed(3)
    np.random.seed(3)
    torch.manual_seed(3)
    expected = random.random(), np.random.rand(), torch.rand(1)
    random.seed(3)
    np.random.seed(3)
    torch.manual_seed(3)
    quick(small(epochs=1, seed=9, deterministic=True, threads=1))
    assert (random.random(), np.random.rand(), torch.rand(1)) == expected
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == handlers
    assert torch.get_num_threads() == threads
    assert not torch.are_deterministic_algorithms_enabled()


def test_a_loss_that_is_not_finite_keeps_the_last_good_state(quick: Quick, tmp_path: Path, small: Recipes) -> None:
    recipe = small(optimizer__name="sgd", optimizer__lr=1e-2, schedule__kind="steps", schedule__steps=[[2, 1e12]])
    with pytest.raises(RunError, match=r"epoch 2, step \d+.*The last good state is .*-step-12"):
        quick(recipe)
    failed = events(tmp_path / "run", "failed")[0]
    assert failed["last_good_step"] == 12
    assert failed["epoch"] == 2
    assert max((tmp_path / "run" / "checkpoint").iterdir()).name.endswith("step-12")


def test_who_watches_is_given_every_event_and_can_end_the_run(quick: Quick, tmp_path: Path, small: Recipes) -> None:
    seen: list[str] = []
    whole = quick(small(), watch=lambda event: seen.append(event["event"]))
    assert seen == [event["event"] for event in read_record(whole.folder / "record.jsonl")]

    def enough(event: Any) -> None:
        if event["event"] == "epoch":
            raise RunError("That is enough.")

    with pytest.raises(RunError, match="That is enough"):
        quick(small(), "ended", watch=enough)
    assert [event["event"] for event in read_record(tmp_path / "ended" / "record.jsonl")] == ["start", "epoch", "failed"]
    assert events(tmp_path / "ended", "failed")[0]["reason"] == "That is enough."


def test_a_folder_that_holds_a_run_is_refused_and_stays(quick: Quick, small: Recipes) -> None:
    result = quick(small(epochs=1))
    before = weights(result)
    with pytest.raises(UsageError, match="already holds a run"):
        quick(small(epochs=1, seed=1))
    with pytest.raises(UsageError, match="nothing to resume"):
        train(None, result.folder, resume=True)
    with pytest.raises(UsageError, match="exclude each other"):
        train(None, result.folder, resume=True, overwrite=True)
    assert weights(result) == before


def test_overwriting_replaces_the_run_and_nothing_else(quick: Quick, small: Recipes) -> None:
    result = quick(small(epochs=1))
    before = weights(result)
    (result.folder / "notes.txt").write_text("mine")
    (result.folder / "report").mkdir()
    again = quick(small(epochs=1, seed=1), overwrite=True)
    assert weights(again) != before
    assert (result.folder / "notes.txt").read_text() == "mine"
    assert not (result.folder / "report").exists()


@pytest.mark.parametrize("overwrite", [False, True])
@pytest.mark.parametrize("name", ["model/nets.py", "checkpoint/bert.pt", "report/thesis.tex", "recipe.yaml"])
def test_what_no_run_has_made_is_never_replaced(quick: Quick, small: Recipes, tmp_path: Path, name: str, overwrite: bool) -> None:
    """A project that happens to have folders of these names."""
    mine = tmp_path / "project" / name
    mine.parent.mkdir(parents=True)
    mine.write_text("mine")
    with pytest.raises(UsageError, match=f"holds {name.partition('/')[0]} and no record of a run"):
        quick(small(epochs=1), "project", overwrite=overwrite)
    assert [path.read_text() for path in (tmp_path / "project").rglob("*") if path.is_file()] == ["mine"]


def test_several_seeds_are_judged_on_the_same_examples(quick: Quick, small: Recipes, tmp_path: Path) -> None:
    """The test part of data without one, and what is held out, are drawn by `data.split_seed` alone."""
    generator = torch.Generator().manual_seed(0)
    table = {"x": torch.randn(60, 6, generator=generator).numpy(), "y": torch.randint(2, (60,), generator=generator).numpy()}
    np.savez(tmp_path / "table.npz", **table)
    common = {"data__source": str(tmp_path / "table.npz"), "data__validation": 0.2, "data__batch_size": 16, "epochs": 1}

    def digest(name: str, **options: Any) -> str:
        (start,) = events(quick(small(**common, **options), name).folder, "start")
        return str(start["dataset"]["sha256"]["inputs"])

    assert digest("0", seed=0) == digest("1", seed=1) != digest("2", seed=0, data__split_seed=1)


def test_a_last_batch_of_one_is_refused_where_batch_normalisation_knows_no_spread(quick: Quick, small: Recipes, tmp_path: Path) -> None:
    x, y = np.random.default_rng(0).normal(size=(37, 6)), np.arange(37) % 2
    np.savez(tmp_path / "table.npz", x_train=x[:33], y_train=y[:33], x_test=x[33:], y_test=y[33:])
    common = {"data__source": str(tmp_path / "table.npz"), "epochs": 1}
    with pytest.raises(UsageError, match=r"data\.batch_size: 33 examples in batches of 16 leave one .* Set data\.batch_size: 17\."):
        quick(small(**common, data__batch_size=16, model__batch_norm=True), "refused")
    assert not (tmp_path / "refused").exists()
    quick(small(**common, data__batch_size=17, model__batch_norm=True), "fits")
    quick(small(**common, data__batch_size=16), "without")


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"data__source": "mnst"}, UsageError),
        ({"data__source": "none.npz"}, DataError),
        ({"model__name": "lenet"}, UsageError),
        ({"model__widths": [0]}, ParsinetError),
        ({"model__name": "char-gpt", "model__widths": None}, ParsinetError),
        ({"method__name": "gate"}, UsageError),
        ({"method__prize": 3}, UsageError),
        ({"ignored_layers": ["fc9"]}, UsageError),
        ({"device": "gpu"}, UsageError),
        ({"device": "meta"}, UsageError),
    ],
)
def test_a_run_that_cannot_start_destroys_nothing(quick: Quick, change: dict[str, Any], error: type[Exception], small: Recipes) -> None:
    first = quick(small(epochs=1))
    before = weights(first)
    with pytest.raises(error):
        quick(small(**change), overwrite=True)
    assert weights(first) == before


@pytest.mark.parametrize(
    ("part", "words"),
    [
        ({"data__folder": "/"}, "folder has no effect on 'digits'"),
        ({"data__download": True}, "download has no effect on 'digits'"),
        ({"data__block": 8}, "block has no effect on 'digits'"),
        ({"inputs": True}, "inputs: nothing leaves under method 'dense'"),
        ({"fold": "mean"}, "fold: nothing leaves under method 'dense'"),
        ({"data__augmentation": {"crop_padding": 8}}, "crop_padding must be below 8 for images of 8 × 8, got 8"),
        ({"data__augmentation": {"cutout": 100}}, "cutout must be below 16 for images of 8 × 8, got 100"),
    ],
)
def test_settings_without_effect_are_refused(quick: Quick, part: dict[str, Any], words: str, small: Recipes) -> None:
    with pytest.raises(UsageError, match=words):
        quick(small(**part))


def test_a_model_that_rejects_the_data_is_one_sentence(quick: Quick, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "nets.py").write_text(
        "from torch import nn\n"
        "def narrow(): return nn.Sequential(nn.Flatten(), nn.Linear(7, 10))\n"
        "def few(): return nn.Sequential(nn.Flatten(), nn.Linear(64, 3))\n"
        "def many(): return nn.LSTM(8, 10)\n"
        "def told(num_classes): return nn.Sequential(nn.Flatten(), nn.Linear(64, num_classes))\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    for factory, options, words in (
        ("narrow", {}, "make it fail"),
        ("few", {}, r"\(2, 3\), where \(2, 10\) is needed.*argument classes or num_classes;.*--set model.NAME=10"),
        ("told", {"num_classes": 3}, r"\(2, 3\), where \(2, 10\) is needed.*Leave out model.num_classes, or.*--set model.num_classes=10"),
        ("many", {}, "does not fit the data"),
    ):
        recipe = Recipe.model_validate({"model": {"name": f"nets:{factory}", **options}})
        with pytest.raises(RunError, match=words) as caught:
            quick(recipe)
        assert "\n" not in str(caught.value)
    assert not (tmp_path / "run").exists()


def test_resume_takes_the_stored_recipe_and_no_other(quick: Quick, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, small: Recipes) -> None:
    at_step(monkeypatch, 3, lambda: os.kill(os.getpid(), signal.SIGINT))
    with pytest.raises(RunInterrupted):
        quick(small())
    monkeypatch.undo()
    with pytest.raises(UsageError, match=r"differs from the one stored in .*, which has epochs = 2, not 3\. Go on without"):
        quick(small(epochs=3), resume=True)
    assert quick(small(), resume=True).recipe == small()
    with pytest.raises(UsageError, match="holds no run to resume"):
        train(None, tmp_path / "none", resume=True)
    with pytest.raises(UsageError, match="a recipe is needed"):
        train(None, tmp_path / "none")


def test_a_script_that_is_run_again_reads_what_has_ended(quick: Quick, small: Recipes, pruning: Recipes) -> None:
    """`resume="auto"`: the same result, from the folder, without a step; not for another recipe, and `resume=True` refuses it."""
    recipe = pruning(data__validation=0.1)
    first = quick(recipe)
    told, model = (first.folder / "record.jsonl").read_bytes(), first.model.eval()
    again = quick(recipe, resume="auto")
    assert (first.folder / "record.jsonl").read_bytes() == told
    assert (again.test, again.before, again.after, again.recipe) == (first.test, first.before, first.after, recipe)
    assert again.seconds == pytest.approx(first.seconds)
    inputs = torch.randn(5, 1, 8, 8)
    assert torch.equal(again.model.eval()(inputs), model(inputs))
    with pytest.raises(UsageError, match=r"the recipe differs .* which has data\.validation = 0\.1, not 0\.0"):
        quick(small(), resume="auto")
    with pytest.raises(UsageError, match="nothing to resume"):
        quick(recipe, resume=True)


def test_a_file_in_the_way_and_a_read_only_folder(quick: Quick, tmp_path: Path, small: Recipes) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="is a file"):
        quick(small(), "file")
    (tmp_path / "locked").mkdir(mode=0o500)
    locked = tmp_path / "locked" if os.geteuid() != 0 else Path("/proc")
    with pytest.raises(StorageError, match="Cannot write"):
        quick(small(), str(locked / "run"))


def test_a_disk_that_fills_up_keeps_the_last_checkpoint_and_resumes(
    quick: Quick, tmp_path: Path, console: Console, monkeypatch: pytest.MonkeyPatch, small: Recipes
) -> None:
    recipe = small(epochs=3)
    whole = quick(recipe, "whole")
    write = files.write_bytes

    def filling(path: Path, content: bytes) -> None:
        if (tmp_path / "parts" / "checkpoint" / "000002-step-12").exists():
            with files.storage_errors(path):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        write(path, content)

    monkeypatch.setattr(files, "write_bytes", filling)
    with pytest.raises(StorageError, match="No space left"):
        quick(recipe, "parts")
    monkeypatch.undo()
    assert events(tmp_path / "parts", "failed")[0]["last_good_step"] == 12
    assert weights(train(None, tmp_path / "parts", resume=True, console=console)) == weights(whole)


SGD = {"optimizer__name": "sgd"}
ACTS: list[tuple[dict[str, Any], dict[str, Any]]] = [
    ({}, {"seed": 1}),
    ({}, {"epochs": 1}),
    ({}, {"dtype": "float64"}),
    ({}, {"gradient_clip": 0.01}),
    ({}, {"data__batch_size": 64}),
    ({}, {"data__validation": 0.2}),
    ({}, {"data__augmentation.flip": True}),
    ({}, {"data__augmentation.crop_padding": 1}),
    ({}, {"data__augmentation.cutout": 2}),
    ({}, {"optimizer__lr": 2e-3}),
    ({}, {"optimizer__eps": 1e-3}),
    ({}, {"optimizer__betas": [0.5, 0.9]}),
    ({}, {"optimizer__weight_decay": 0.1}),
    ({}, {"optimizer__name": "adamw"}),
    ({"optimizer__name": "adamw"}, {"optimizer__name": "adamw", "optimizer__weight_decay": 0.5}),
    (SGD, {**SGD, "optimizer__momentum": 0.5}),
    (SGD, {**SGD, "optimizer__nesterov": True}),
    (SGD, {**SGD, "optimizer__weight_decay": 0.1}),
    ({}, {"schedule__kind": "constant", "schedule__warmup": 0.5}),
    ({}, {"schedule__kind": "cosine"}),
    ({"schedule__kind": "cosine"}, {"schedule__kind": "cosine", "schedule__hold": 0.5}),
    ({"schedule__kind": "cosine"}, {"schedule__kind": "cosine", "schedule__final": 0.5}),
    ({}, {"schedule__kind": "steps", "schedule__steps": [[2, 1e-4]]}),
    ({}, {"model__widths": [24, 12]}),
    ({}, {"distill__begin": 0.5}),
    ({"distill__begin": 0.5}, {"distill__begin": 0.7}),
    ({"distill__begin": 0.5}, {"distill__begin": 0.5, "distill__weight": 0.2}),
    ({"distill__begin": 0.5}, {"distill__begin": 0.5, "distill__temperature": 5}),
    ({"distill__begin": 0.5}, {"distill__begin": 0.5, "distill__decay": 0.2}),
    ({}, {"average__begin": 0.9}),
    ({"average__begin": 0.9}, {"average__begin": 0.5}),
    ({"average__begin": 0.5}, {"average__begin": 0.5, "average__kind": "ema"}),
    ({"average__begin": 0.5, "average__kind": "ema"}, {"average__begin": 0.5, "average__kind": "ema", "average__decay": 0.5}),
]


@pytest.fixture(scope="module")
def bases() -> dict[str, bytes]:
    """Weights of the runs without the change, each trained once."""
    return {}


@pytest.mark.parametrize(("base", "change"), ACTS, ids=[str(change) for _, change in ACTS])
def test_every_setting_acts(quick: Quick, base: dict[str, Any], change: dict[str, Any], small: Recipes, bases: dict[str, bytes]) -> None:
    if str(base) not in bases:
        bases[str(base)] = weights(quick(small(**base), "base"))
    assert bases[str(base)] != weights(quick(small(**change), "changed"))


def test_folding_acts_and_repeats_bitwise(quick: Quick, small: Recipes) -> None:
    """One removal in the middle; the biases of what reads the units differ from there on."""
    spectral = {"method__name": "spectral", "method__schedule": "pre"}
    runs = {name: quick(small(**spectral, fold=name.split()[0]), name) for name in ("none", "constant", "mean", "mean again")}
    assert len({weights(runs[name]) for name in ("none", "constant", "mean")}) == 3
    assert weights(runs["mean"]) == weights(runs["mean again"])
    assert {result.after.parameters for result in runs.values()} == {runs["none"].after.parameters}


def test_the_same_recipe_repeats_bitwise(quick: Quick, pruning: Recipes) -> None:
    assert weights(quick(pruning(), "one")) == weights(quick(pruning(), "two"))


def test_settings_of_removal_act(quick: Quick, pruning: Recipes) -> None:
    free = quick(pruning(round_to=1, epochs=3), "free")
    coarse = quick(pruning(round_to=8, epochs=3), "coarse")
    kept = quick(pruning(ignored_layers=["fc1"], epochs=3), "kept")
    widths = {result.folder.name: events(result.folder, "end")[0]["widths"] for result in (free, coarse, kept)}
    assert any(units % 4 for units in widths["free"].values())
    assert all(units % 8 == 0 for units in widths["coarse"].values())
    assert "fc1" not in widths["kept"]
    assert kept.model.get_parameter("fc1.weight").shape[0] == 24


@pytest.mark.parametrize(
    ("setting", "expected"),
    [pytest.param({"threads": 2}, (2, False), marks=pytest.mark.slow), ({"threads": 1, "deterministic": True}, (1, True))],
)
def test_settings_of_torch_act(
    quick: Quick, monkeypatch: pytest.MonkeyPatch, setting: dict[str, Any], expected: tuple[int, bool], small: Recipes
) -> None:
    seen: list[tuple[int, bool]] = []
    at_step(monkeypatch, 1, lambda: seen.append((torch.get_num_threads(), torch.are_deterministic_algorithms_enabled())))
    quick(small(**{"threads": 1, "epochs": 1, **setting}))
    assert seen == [expected]


def test_more_threads_than_any_machine_has_are_refused(quick: Quick, small: Recipes) -> None:
    with pytest.raises(UsageError, match="threads=100000 is more than torch can be trusted to start here; give at most"):
        quick(small(threads=100_000, epochs=1))


def test_text_trains_with_its_block(quick: Quick, tmp_path: Path, small: Recipes) -> None:
    (tmp_path / "text.txt").write_text("abcab " * 300)
    options = {"data__source": str(tmp_path / "text.txt"), "data__block": 16, "model__name": "char-gpt", "model__widths": None}
    recipe = small(**options).plain()
    recipe["model"] = {"name": "char-gpt"}
    result = quick(Recipe.model_validate({**recipe, "epochs": 1}))
    assert events(result.folder, "start")[0]["dataset"]["input_shape"] == [16]


def test_an_output_without_arrows_does_not_end_a_run(tmp_path: Path, pruning: Recipes) -> None:
    """As a file on Windows, or a terminal in an old locale."""
    output = io.TextIOWrapper(io.BytesIO(), encoding="cp1252")
    train(pruning(method__decide="round"), tmp_path / "run", console=Console(file=output, width=200))
    output.flush()
    said = output.buffer.getvalue().decode("cp1252")  # type: ignore[attr-defined]
    assert events(tmp_path / "run", "removal")
    assert re.search(r"fc1 24->\d+", said), said
