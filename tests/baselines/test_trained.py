"""Baselines that remove units, as `parsinet train` runs them: a few epochs on the digits leave a smaller network that still reads them."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console
from torch import nn
from torch.nn import functional as F

from parsinet import baselines
from parsinet.methods import Pruner
from parsinet.training import RunInterrupted, recipe_from, train, with_values
from parsinet.training.display import Display

TRAINED: dict[str, dict[str, Any]] = {
    "l0": {"lam": 1.0, "rate": 0.1},
    "vib": {"kl": 0.01, "rate": 0.05},
    "sbp": {"kl": 3.0, "rate": 0.1},
    "group-lasso": {"lam": 0.6},
    "slimming": {"share": 0.5},
    "magnitude-units": {"share": 0.5},
    "random-units": {"share": 0.5},
}

LATER = ("sbp", "random-units")
"""Trained in the slow run."""


def recipe(name: str, **dotted: Any) -> Any:
    """Six epochs of a small perceptron."""
    said = {"data.source": "digits", "data.batch_size": 64, "model.name": "mlp", "model.widths": [32, 24], "epochs": 6, "threads": 1}
    said |= {"optimizer.name": "adam", "optimizer.lr": 1e-2, "method.name": name, **dotted}
    if name == "slimming":
        said["model.batch_norm"] = True
    if name == "group-lasso":
        said["fold"] = "constant"
    return recipe_from(with_values({}, {**said, **{f"method.{key}": value for key, value in TRAINED[name].items()}}))


@pytest.mark.parametrize("name", [pytest.param(name, marks=pytest.mark.slow) if name in LATER else name for name in TRAINED])
def test_a_run_ends_smaller_and_still_reads_digits(name: str, tmp_path: Path) -> None:
    result = train(recipe(name), tmp_path / "run", console=Console(file=io.StringIO()))
    assert result.after.parameters < 0.85 * result.before.parameters
    assert result.test.error < 0.2
    events = [json.loads(line) for line in (tmp_path / "run" / "record.jsonl").read_text().splitlines()]
    assert {"removal", "settled", "end"} <= {event["event"] for event in events}


def test_an_interrupted_run_ends_as_the_uninterrupted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = train(recipe("vib"), tmp_path / "whole", console=Console(file=io.StringIO()))

    def on_step(_: Display, state: Any) -> None:
        state.stop = state.stop or state.step == 60

    with monkeypatch.context() as patch:
        patch.setattr(Display, "on_step", on_step)
        with pytest.raises(RunInterrupted):
            train(recipe("vib"), tmp_path / "parts", console=Console(file=io.StringIO()))
    parts = train(None, tmp_path / "parts", resume=True, console=Console(file=io.StringIO()))
    saved = [(tmp_path / folder / "model" / "model.safetensors").read_bytes() for folder in ("whole", "parts")]
    assert saved[0] == saved[1]
    assert parts.after.parameters == whole.after.parameters < whole.before.parameters


INPUTS: dict[str, dict[str, Any]] = {
    "l0": {"lam": 0.05, "rate": 0.1},
    "vib": {"kl": 0.003, "rate": 0.1},
    "sbp": {"kl": 0.5, "rate": 0.1},
    "group-lasso": {"lam": 0.3},
    "magnitude-units": {"share": {"input": 0.6, "0": 0.5}},
}


@pytest.mark.parametrize("name", INPUTS)
def test_features_of_the_inputs_leave_too_where_asked(name: str) -> None:
    """Six of ten features are noise, and they are the ones that leave; the network is called with all ten before and after."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(10, 12), nn.ReLU(), nn.Linear(12, 2)).double()
    method = baselines.build(name, inputs=True, **INPUTS[name])
    optimizer = torch.optim.Adam(method.param_groups(model), lr=0.02)
    random = torch.Generator().manual_seed(0)
    pruner = Pruner(model, optimizer, method, torch.randn(2, 10, dtype=torch.float64), steps=150, examples=64)
    for _ in range(150):
        x = torch.randn(64, 10, generator=random, dtype=torch.float64)
        (F.cross_entropy(model(x), (x[:, :4].sum(1) > 0).long()) + pruner.penalty()).backward()
        optimizer.step()
        optimizer.zero_grad()
        pruner.step()
    lean = pruner.finish()
    assert pruner.units("input") == [0, 1, 2, 3]
    x = torch.randn(500, 10, generator=random, dtype=torch.float64)
    assert (lean(x).argmax(1) == (x[:, :4].sum(1) > 0)).double().mean() > 0.95
