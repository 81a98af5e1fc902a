"""A run that is saved after every step goes on from each of these checkpoints, bitwise as if it had never stopped."""

from __future__ import annotations

import io
import json
import shutil
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from methods.runs import BEGINNINGS, beginnings, same
from parsinet.training import Recipe, load_checkpoint, read_record, recipe_from, train, with_values
from parsinet.training.checkpoint import Loaded, checkpoints, read_checkpoint

SHARED: dict[str, Any] = {
    "data": {"source": "digits", "batch_size": 128, "validation": 0.1, "augmentation": {"crop_padding": 1}},
    "model": {"name": "mlp", "widths": [24, 16]},
    "epochs": 2,
    "threads": 1,
    "round_to": 1,
    "checkpoint": {"every": {"steps": 1}, "keep": 1000},
}
GATES = {"name": "gates", "fall_steps": 10, "interval": 3, "gated": 0.7, "price": 0.01}
LIFTS = {"distill": {"begin": 0.4}, "average": {"begin": 0.8}}
RECIPES: dict[str, tuple[dict[str, Any], int]] = {
    "gates": ({"method": GATES, "optimizer.lr": 1e-2}, 3),
    "gates, a teacher, an average": ({"method": GATES, "optimizer.lr": 1e-2, "model.batch_norm": True, **LIFTS}, 3),
    "gates, a draw per example": ({"method": {**GATES, "draws": "example"}, "optimizer.lr": 1e-2}, 3),
    "gates, pairs of losses": ({"method": {**GATES, "estimator": "disarm"}, "optimizer.lr": 1e-2}, 1),
    "gates, drawn labels": ({"method": {**GATES, "estimator": "drawn-labels"}, "optimizer.lr": 1e-2}, 3),
    "gates, skips": ({"method": {**GATES, "blocks": True, "block_price": 0.05}, "model.widths": [16, 16, 16], "skips": True}, 3),
    "spectral": ({"method": {"name": "spectral", "share": 0.6, "begin": 0.1, "end": 0.8, "interval": 3}}, 3),
    "spectral-sparse": ({"method": {"name": "spectral-sparse", "every": 3}}, 0),
    "sphere": ({"method": {"name": "sphere", "sparsity": 0.97, "interval": 2, "begin": 0.1, "end": 0.8}}, 1),
    "magnitude, folds": ({"method": {"name": "magnitude-units", "share": 0.6, "begin": 0.1, "end": 0.8, "interval": 4}, "fold": "mean"}, 3),
    "rigl": ({"method": {"name": "rigl", "sparsity": 0.97, "interval": 3}}, 0),
}
"""Name → recipe, and the least number of removals in it; where weights leave, not units, masks move every few steps."""
TELLING = {"gates, a teacher, an average", "spectral", "magnitude, folds", "rigl"}
"""Every kind of state is in one of these, but for that of whole layers, which `test_skips.py` resumes; the others are slow."""
CLOCKS = {"seconds", "cpu_seconds", "train_seconds", "train_cpu_seconds", "latency", "commit"}


def recipe(name: str) -> Recipe:
    return recipe_from(with_values(SHARED, RECIPES[name][0]))


def run(folder: Path, recipe: Recipe | None, **options: Any) -> None:
    train(recipe, folder, console=Console(file=io.StringIO()), **options)


def ending(folder: Path) -> dict[str, Any]:
    """All that a run ends with, clocks left out: weights, optimizer, generators and the rest of the last checkpoint; result; record."""
    state = read_checkpoint(checkpoints(folder / "checkpoint")[-1])
    del state["monitor"]["watch"]
    told = [event for event in read_record(folder / "record.jsonl") if event["event"] != "resumed"]
    record = [{key: value for key, value in event.items() if key not in CLOCKS} for event in told]
    return {"state": state, "model": model_file(folder / "model" / "model.safetensors"), "record": record}


def model_file(path: Path) -> dict[str, Any]:
    """What a file of weights holds. Of modules that are gone the record tells what they lost before, which a resumed run, in which they go
    at once, does not know; neither does a load need it."""
    content = path.read_bytes()
    size = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + size])
    record = json.loads(header.pop("__metadata__")["structure"])
    for section in ("tensors", "sizes"):
        record[section] = {name: dims for name, dims in record[section].items() if not beneath(name, record.get("absent", {}))}
    for place, answer in record.get("absent", {}).items():
        if "answer_size" in record["attributes"].get(place, {}):
            del answer["size"]
    del record["sha256"]
    return {"tensors": header, "data": content[8 + size :], "record": record}


def beneath(name: str, places: Iterable[str]) -> bool:
    return any(name.startswith(f"{place}.") for place in places)


def cut_back(whole: Path, folder: Path, last: Path) -> None:
    """`whole` as a run that was killed some time after its checkpoint `last`, before it ended; the record may be far ahead of it."""
    folder.mkdir()
    shutil.copy(whole / "recipe.yaml", folder)
    shutil.copytree(last, folder / "checkpoint" / last.name)
    lines = (whole / "record.jsonl").read_text().splitlines(keepends=True)
    (folder / "record.jsonl").write_text("".join(lines[:-1]) + lines[-1][:40])


@BEGINNINGS
@pytest.mark.parametrize("name", [pytest.param(name, marks=() if name in TELLING else pytest.mark.slow) for name in RECIPES])
def test_every_checkpoint_is_as_good_as_an_uninterrupted_run(name: str, begin: str, tmp_path: Path) -> None:
    whole = tmp_path / "whole"
    run(whole, recipe(name))
    end = ending(whole)
    assert sum(event["event"] == "removal" for event in end["record"]) >= RECIPES[name][1]
    saved = checkpoints(whole / "checkpoint")
    pruners = [read_checkpoint(path)["pruner"]["units"] for path in saved]
    for k in beginnings(begin, pruners)[slice(None) if begin == "every" else slice(2, 4)]:
        parts = tmp_path / f"from-{k}"
        cut_back(whole, parts, saved[k])
        run(parts, None, resume=True)
        assert same(ending(parts), end), f"resumed from {saved[k].name} the run ends differently"


def forget_tally(state: dict[str, Any]) -> None:
    state["loop"]["tally"]["wrong"] += 1


def forget_position(state: dict[str, Any]) -> None:
    state["batches"]["position"] = 0


def forget_events(state: dict[str, Any]) -> None:
    state["monitor"]["told"] += 1


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run to its end, which nobody changes."""
    folder = tmp_path_factory.mktemp("spectral") / "whole"
    run(folder, recipe("spectral"))
    return folder


@pytest.mark.parametrize("forget", [forget_tally, forget_position, forget_events])
def test_the_law_sees_what_is_forgotten(
    forget: Callable[[dict[str, Any]], None], whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    parts = tmp_path / "parts"
    cut_back(whole, parts, checkpoints(whole / "checkpoint")[7])

    def faulty(*arguments: Any) -> Loaded:
        loaded = load_checkpoint(*arguments)
        forget(loaded.state)
        return loaded

    monkeypatch.setattr("parsinet.training.session.load_checkpoint", faulty)
    run(parts, None, resume=True)
    assert not same(ending(parts), ending(whole))
