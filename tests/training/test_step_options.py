"""Whole runs in mixed precision, with several batches per step, compiled: what is recorded and resumed, what is refused."""

from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console

from parsinet import export
from parsinet.errors import UsageError
from parsinet.training import LoopState, RunInterrupted, load_checkpoint, read_record, recipe_from, train
from parsinet.training.display import Display
from parsinet.training.snapshot import foreign
from training.runs import Quick, Recipes, interrupted, untimed, weights

CNN = {"name": "training.runs:small_cnn"}
OPTIONS: dict[str, dict[str, Any]] = {
    "bfloat16": {"precision": "bfloat16"},
    "float16": {"precision": "float16"},
    "accumulate": {"data__batch_size": 32, "accumulate": 4, "gradient_clip": 1.0},
    "channels last": {"model": CNN, "channels_last": True, "gradient_clip": 1.0},
}


@pytest.mark.parametrize("name", ["float16", "accumulate", "channels last", pytest.param("bfloat16", marks=pytest.mark.slow)])
def test_interrupted_and_resumed_is_bitwise_the_uninterrupted(
    quick: Quick, tmp_path: Path, console: Console, monkeypatch: pytest.MonkeyPatch, pruning: Recipes, name: str
) -> None:
    """12 steps an epoch in each case; 1438 examples in batches of 32 are 45, of which the last is of 30 examples and alone in its step."""
    recipe = pruning(**OPTIONS[name])
    whole = quick(recipe, "whole")
    assert [event["step"] for event in untimed(whole.folder) if event["event"] == "epoch"] == [12, 24]
    assert sum(event["event"] == "removal" for event in untimed(whole.folder)) >= 2
    interrupted(monkeypatch, 13)
    with pytest.raises(RunInterrupted):
        quick(recipe, "parts")
    monkeypatch.undo()
    state = load_checkpoint(tmp_path / "parts" / "checkpoint").state
    assert state["batches"] == {"seed": 0, "epoch": 1, "position": recipe.accumulate}
    assert bool(state["precision"]) == (name == "float16")
    resumed = train(None, tmp_path / "parts", resume=True, console=console)
    assert weights(whole) == weights(resumed)
    assert untimed(whole.folder) == untimed(tmp_path / "parts")


def test_the_run_is_in_the_precision_of_its_recipe(quick: Quick, small: Recipes) -> None:
    """The parameters stay float32, the numbers are others than in full precision."""
    full, low = quick(small(epochs=1), "full"), quick(small(epochs=1, precision="bfloat16"), "low")
    assert {parameter.dtype for parameter in low.model.parameters()} == {torch.float32}
    assert weights(full) != weights(low)
    assert abs(full.test.loss - low.test.loss) < 0.05


def test_convolutions_lie_channels_last(quick: Quick, small: Recipes) -> None:
    """In training and when it is read again; the order in memory changes sums by rounding alone."""
    plain, last = quick(small(model=CNN), "plain"), quick(small(model=CNN, channels_last=True), "last")
    for network in (last.model, export.of_run(last.folder).model):
        assert network[2].weight.is_contiguous(memory_format=torch.channels_last)
        assert not network[2].weight.is_contiguous()
    assert plain.model[2].weight.is_contiguous()
    assert abs(plain.test.loss - last.test.loss) < 1e-3


def test_a_network_without_convolutions_has_no_channels(quick: Quick, small: Recipes) -> None:
    with pytest.raises(UsageError, match="channels_last: model 'mlp' has no two-dimensional convolution"):
        quick(small(channels_last=True))


def test_channels_last_is_refused_where_a_removal_could_crash_torch(quick: Quick, small: Recipes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX2")
    options = {"model": {"name": "resnet-20", "width": 8}, "channels_last": True, "method__name": "gates"}
    with pytest.raises(UsageError, match=r"a strided 1×1 convolution \(.*\) is left with fewer than 8 input channels. Set round_to: 8"):
        quick(small(**options))


def test_a_checkpoint_of_before_an_entry_of_recipes_goes_on(small: Recipes) -> None:
    """What it could not say counts as the default."""
    plain = small().plain()
    del plain["channels_last"]
    assert foreign({"recipe": plain}, small()) is None
    assert foreign({"recipe": plain}, small(channels_last=True)) == ("its recipe has channels_last = False, the run's recipe.yaml True")


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")
def test_a_compiled_run_tells_how_often(quick: Quick, pruning: Recipes, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.compiler.reset()
    monkeypatch.setattr("parsinet.training.compiled.BACKEND", "eager")
    plain = quick(pruning(), "plain")
    compiled = quick(pruning(compile="settled"), "compiled")
    end, other = untimed(compiled.folder)[-1], untimed(plain.folder)[-1]
    assert end["compilations"] == 2, "full batches and the last of an epoch"
    assert "compilations" not in other
    assert weights(compiled) == weights(plain)


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"precision": "float16", "dtype": "float64"}, "precision float16 goes with dtype float32, got dtype float64."),
    ({"precision": "half"}, "precision must be 'full', 'bfloat16' or 'float16', got 'half'."),
    ({"accumulate": 0}, "accumulate must be ≥ 1, got 0."),
    ({"compile": "yes"}, "compile: must be true, false or 'settled', got 'yes'."),
]


@pytest.mark.parametrize(("values", "words"), REFUSED)
def test_what_cannot_be_is_refused(values: dict[str, Any], words: str) -> None:
    with pytest.raises(UsageError) as caught:
        recipe_from(values)
    assert words in str(caught.value)


def test_a_method_that_learns_from_gradients_is_refused_a_scale(quick: Quick, small: Recipes) -> None:
    with pytest.raises(UsageError, match="rigl learns from gradients, which a scaler changes"):
        quick(small(precision="float16", method__name="rigl", method__sparsity=0.5))


@pytest.mark.parametrize("estimator", ["curvature", "disarm", "drawn-labels"])
def test_comparisons_are_counted_as_training(quick: Quick, pruning: Recipes, monkeypatch: pytest.MonkeyPatch, estimator: str) -> None:
    """Every forward pass in training mode, counted by a hook.

    The last part of the gated phase compares losses at every fourth step; an estimator that asks for the loss does
    at every step of it, twice for pairs, once for drawn labels.
    """
    shown: list[int] = [0]

    def on_start(_: Display, state: LoopState) -> None:
        def count(module: torch.nn.Module, inputs: Any) -> None:
            shown[-1] += len(inputs[0]) * module.training

        state.model.register_forward_pre_hook(count)

    monkeypatch.setattr(Display, "on_start", on_start)
    monkeypatch.setattr(Display, "on_removal", lambda *_: shown.append(0))
    result = quick(pruning(epochs=3, method__estimator=estimator))
    start, *_, end = read_record(result.folder / "record.jsonl")
    removals = [event for event in read_record(result.folder / "record.jsonl") if event["event"] == "removal"][: len(shown) - 1]
    macs = [start["macs"], *(event["macs"] for event in removals)]
    assert sum(shown) > {"curvature": 3, "disarm": 5, "drawn-labels": 4}[estimator] * 1438
    assert end["train_macs"] == sum(examples * each for examples, each in zip(shown, macs, strict=True))
    assert end["dense_train_macs"] == 3 * 1438 * start["macs"]


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("precision", ["full", "bfloat16", "float16"])
def test_runs_on_cuda_repeat_bitwise_when_asked(quick: Quick, pruning: Recipes, precision: str) -> None:
    recipe = pruning(device="cuda", deterministic=True, precision=precision)
    first, second = quick(recipe, "first"), quick(recipe, "second")
    assert weights(first) == weights(second)
    assert sum(event["event"] == "removal" for event in untimed(first.folder)) >= 1
