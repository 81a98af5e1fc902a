"""What tests of whole runs share: what a run left, and an interruption at a given step."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from torch import nn

from parsinet.training import LoopState, Recipe, RunResult, read_record
from parsinet.training.display import Display

Quick = Callable[..., RunResult]
Recipes = Callable[..., Recipe]
CLOCKS = {"seconds", "cpu_seconds", "train_seconds", "train_cpu_seconds", "latency"}


def small_cnn(input_shape: tuple[int, ...], classes: int) -> nn.Sequential:
    """Two convolutions for digits."""
    head = nn.Linear(12, classes)
    return nn.Sequential(
        nn.Conv2d(input_shape[0], 16, 3), nn.ReLU(), nn.Conv2d(16, 12, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), head
    )


def weights(run: RunResult | Path) -> bytes:
    folder = run if isinstance(run, Path) else run.folder
    return (folder / "model" / "model.safetensors").read_bytes()


def untimed(folder: Path) -> list[dict[str, Any]]:
    """What happened, without clocks and without the traces of interruptions."""
    kept = [event for event in read_record(folder / "record.jsonl") if event["event"] not in ("interrupted", "resumed", "failed")]
    return [{key: value for key, value in event.items() if key not in CLOCKS} for event in kept]


def at_step(monkeypatch: pytest.MonkeyPatch, step: int, action: Callable[[], object]) -> None:
    """Do something right after a step, as a user at the keyboard might."""

    def on_step(_: Display, state: LoopState) -> None:
        if state.step == step:
            action()

    monkeypatch.setattr(Display, "on_step", on_step)


def interrupted(monkeypatch: pytest.MonkeyPatch, step: int) -> None:
    """Ctrl-C after a step."""
    at_step(monkeypatch, step, lambda: os.kill(os.getpid(), signal.SIGINT))
