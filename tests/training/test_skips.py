"""`skips` in a recipe: the network that is trained, inspected, saved and continued has them."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from rich.console import Console

import parsinet as pn
from parsinet.errors import UsageError
from parsinet.training import Recipe, RunInterrupted, RunResult, inspect, read_record, recipe_from, train
from parsinet.training.display import Display
from parsinet.training.networks import fresh_model

Recipes = Callable[..., Recipe]
Quick = Callable[..., RunResult]
LAYERS = {"model__widths": [16, 16, 16], "skips": True, "method__blocks": True, "method__groups": [], "method__block_price": 0.2}


def test_a_run_with_layer_gates_is_saved_and_loads(quick: Quick, pruning: Recipes) -> None:
    recipe = pruning(**LAYERS, epochs=3)
    result = quick(recipe)
    record = read_record(result.folder / "record.jsonl")
    assert any(name.endswith(".block") for event in record if event["event"] == "removal" for name in event["groups"])
    assert record[-1]["after"]["parameters"] < record[-1]["before"]["parameters"]
    x = torch.randn(2, 1, 8, 8)
    loaded = pn.load(result.folder / "model", lambda: fresh_model(recipe, x, 10))
    assert pn.measure.profile(loaded, x, latency=False).parameters == record[-1]["after"]["parameters"]


def test_interrupted_and_resumed_is_bitwise_the_uninterrupted(
    quick: Quick, pruning: Recipes, tmp_path: Path, console: Console, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = pruning(**LAYERS)
    whole = quick(recipe, "whole")
    monkeypatch.setattr(Display, "on_step", lambda _, state: os.kill(os.getpid(), signal.SIGINT) if state.step == 13 else None)
    with pytest.raises(RunInterrupted):
        quick(recipe, "parts")
    monkeypatch.undo()
    parts = train(None, tmp_path / "parts", resume=True, console=console)
    one, other = ((run.folder / "model" / "model.safetensors").read_bytes() for run in (whole, parts))
    assert one == other


def test_inspect_shows_the_sections_that_can_leave(small: Recipes) -> None:
    found = inspect(small(skips=["fc2"], model__widths=[24, 16, 16], dtype="float64"))
    assert [(row.name, row.parameters, row.removable) for row in found.blocks] == [("fc2.block", 24 * 16 + 16, True)]
    assert not inspect(small()).blocks


@pytest.mark.parametrize("value", [3, "fc1", [1], {"fc1": True}, None])
def test_skips_are_true_or_names(value: object) -> None:
    with pytest.raises(UsageError, match=r"Recipe: skips: must be true, false or a list of names of layers, got"):
        recipe_from({"skips": value})
    assert recipe_from({"skips": ["fc1"]}).plain()["skips"] == ["fc1"]
    assert recipe_from({"skips": True}).skips is True


def test_a_layer_that_does_not_fit_stops_the_run_before_it_begins(quick: Quick, small: Recipes) -> None:
    with pytest.raises(UsageError, match="add_skips: fc3 cannot be given a skip: fc3 is read by the model's output"):
        quick(small(skips=["fc3"]))
