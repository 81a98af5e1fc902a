"""Run folders with made-up records: a dense run, a run whose units leave, and a deep network with many groups."""

import itertools
import json
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

Write = Callable[..., Path]
STEPS = 100


def write(folder: Path, events: list[dict[str, Any]]) -> Path:
    folder.mkdir(parents=True)
    (folder / "record.jsonl").write_text("".join(json.dumps(event) + "\n" for event in events))
    return folder


def perceptron(widths: Mapping[str, int]) -> int:
    """Weights and biases of inputs–fc1–fc2–10."""
    a, b, c = widths["inputs"], widths["fc1"], widths["fc2"]
    return a * b + b + b * c + c + c * 10 + 10


def chain(widths: Mapping[str, int]) -> int:
    """3 × 3 convolutions one after the other, without biases."""
    channels = [3, *widths.values()]
    return sum(9 * a * b for a, b in itertools.pairwise(channels)) + 10 * channels[-1]


def start(method: str, sizes: Mapping[str, int], parameters: int, macs: int, **more: Any) -> dict[str, Any]:
    groups = [{"name": name, "size": size, "removable": True, "exact": True, "reason": ""} for name, size in sizes.items()]
    return {
        "event": "start",
        "format": 1,
        "recipe": {"method": {"name": method}, "model": {"name": "lenet-300-100"}},
        "versions": {"python": "3.11.2", "torch": "2.13.0", "parsinet": "0.1.0"},
        "machine": {"processor": "x86_64", "cores": 2, "threads": 1},
        "seed": 0,
        "dataset": {"name": "mnist", "train": 55000, "validation": 5000, "test": 10000, "input_shape": [1, 28, 28], "classes": 10},
        "groups": groups,
        "parameters": parameters,
        "macs": macs,
        "bytes": 4 * parameters,
        **more,
    }


def end(before: tuple[int, int], after: tuple[int, int], test_error: float, seconds: float, cost: float) -> dict[str, Any]:
    def size(pair: tuple[int, int]) -> dict[str, int]:
        return {"parameters": pair[0], "nonzeros": pair[0], "macs": pair[1], "bytes": 4 * pair[0]}

    gain = 1 + 0.6 * (before[1] / after[1] - 1)
    latency = [
        {"batch": batch, "before": {"median": t, "p95": 1.2 * t}, "after": {"median": t / gain, "p95": 1.3 * t / gain}}
        for batch, t in ((1, 8.4e-5), (64, 1.1e-3))
    ]
    dense = 20 * 55000 * before[1]
    return {
        "event": "end",
        "test_loss": 0.08,
        "test_error": test_error,
        "validation_error": test_error,
        "train_seconds": seconds,
        "train_cpu_seconds": seconds,
        "train_macs": int(cost * dense),
        "dense_train_macs": dense,
        "before": size(before),
        "after": size(after),
        "latency": latency,
        "widths": {},
    }


def lively(
    folder: Path,
    method: str,
    sizes: Mapping[str, int],
    goals: Mapping[str, int],
    count: Callable[[Mapping[str, int]], int],
    *,
    epochs: int = 20,
    test_error: float = 0.0182,
    seed: int = 0,
    area: int = 1,
    finished: bool = True,
    name: str = "lenet-300-100",
    pace: float = 12.0,
) -> Path:
    """A run in which units leave every group on the way from `sizes` to `goals`, with gates that drift to 0 and 1."""
    rng = np.random.default_rng(seed)
    widths = dict(sizes)
    theta = {group: np.clip(rng.normal(0.5, 0.08, size), 0, 1) for group, size in sizes.items()}
    events = [start(method, sizes, count(widths), area * count(widths), recipe={"method": {"name": method}, "model": {"name": name}})]
    seconds = 0.0
    for epoch in range(1, epochs + 1):
        shrinking = 1 / (1 + math.exp(-(epoch - 0.4 * epochs) / (0.07 * epochs)))
        for group, size in sizes.items():
            target = round(size - (size - goals[group]) * shrinking) if epoch < 0.8 * epochs else goals[group]
            ranks = np.sort(theta[group])[::-1]
            lift = np.where(np.arange(len(ranks)) < goals[group], 0.09, -0.05) * rng.uniform(0.4, 1.6, len(ranks)) * 12 / epochs * 1.6
            theta[group] = np.clip(ranks + lift, 0, 1)
            if target < widths[group]:
                change = {group: [widths[group], target]}
                theta[group], widths[group] = theta[group][:target], target
                sized = {"parameters": count(widths), "macs": area * count(widths)}
                events.append({"event": "removal", "step": STEPS * (epoch - 1) + 50, "epoch": epoch, "groups": change, **sized})
        seconds += pace * (0.4 + 0.6 * count(widths) / count(sizes))
        error = 0.9 * test_error + 0.09 * math.exp(-epoch / (0.15 * epochs)) + 0.0008 * rng.normal()
        known = {g: {"theta": [round(float(v), 4) for v in t], "interior": 0.1, "sum": float(t.sum())} for g, t in theta.items()}
        described = {"groups": known, "price": 1e-3, "settled": False} if method == "gates" else {}
        events.append(
            {
                "event": "epoch",
                "epoch": epoch,
                "epochs": epochs,
                "step": STEPS * epoch,
                "loss": 0.1,
                "train_error": max(error * 0.5, 0.0002),
                "validation_loss": 0.1,
                "validation_error": error,
                "learning_rate": 1e-3,
                "parameters": count(widths),
                "macs": area * count(widths),
                "widths": dict(widths),
                "seconds": seconds,
                "cpu_seconds": seconds,
                "method": described,
                "something_new": [1, 2, 3],
            }
        )
    if not finished:
        return write(folder, events)
    events.append({"event": "settled", "step": STEPS * (4 * epochs // 5), "epoch": 4 * epochs // 5})
    before, after = count(sizes), count(widths)
    events.append(end((before, area * before), (after, area * after), test_error, seconds, 0.3 + 0.7 * after / before))
    return write(folder, sorted(events, key=lambda e: (e.get("step", 10**9 if e["event"] == "end" else -1), e["event"] == "epoch")))


LENET = {"inputs": 784, "fc1": 300, "fc2": 100}


@pytest.fixture
def dense(tmp_path: Path) -> Path:
    return lively(tmp_path / "runs" / "dense", "dense", LENET, LENET, perceptron, test_error=0.0171)


@pytest.fixture
def gates(tmp_path: Path) -> Path:
    return lively(tmp_path / "runs" / "gates", "gates", LENET, {"inputs": 512, "fc1": 56, "fc2": 42}, perceptron)


@pytest.fixture
def deep(tmp_path: Path) -> Path:
    sizes = {f"layer{1 + i // 7}.{i % 7 // 2}.conv{1 + i % 2}": 16 * 2 ** (i // 7) for i in range(20)}
    goals = {name: max(2, round(size * (0.25 + 0.6 * (i % 5) / 5))) for i, (name, size) in enumerate(sizes.items())}
    return lively(tmp_path / "runs" / "resnet", "gates", sizes, goals, chain, epochs=60, area=300, name="resnet-20", pace=40)
