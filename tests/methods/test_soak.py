"""Many removals leave nothing behind: no tensor, no hook, no state of an optimizer, no memory."""

from __future__ import annotations

import gc
import tracemalloc
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import parsinet
from methods.runs import Run
from methods.toys import OPTIMIZERS, network, points
from parsinet.baselines import RandomUnits
from parsinet.methods import Spectral

WINDOW: dict[str, Any] = {"begin": 0.0, "end": 1.0, "interval": 1}
METHODS = {"spectral": lambda: Spectral(share=0.8, eigenvalues=0.0, **WINDOW), "random": lambda: RandomUnits(share=0.8, seed=0, **WINDOW)}
REMOVALS = 12
OWN = tracemalloc.Filter(True, str(Path(parsinet.__file__).parent / "*"))


def alive(run: Run) -> dict[str, int]:
    """What a run holds, in numbers that removals must not raise."""
    gc.collect()
    tensors = [thing for thing in gc.get_objects() if issubclass(type(thing), Tensor)]
    modules = list(run.model.modules())
    return {
        "tensors": len(tensors),
        "values": sum(tensor.numel() for tensor in tensors),
        "hooks": sum(len(module._forward_hooks) + len(module._forward_pre_hooks) for module in modules),
        "modules": len(modules),
        "states": len(run.optimizer.state),
        "parameters": sum(len(group["params"]) for group in run.optimizer.param_groups),
    }


def soaked(method: Any, leak: list[Any] | None = None) -> tuple[int, list[dict[str, int]], list[int]]:
    """Number of removals, what was alive after each, and bytes of Python's objects made by this library."""
    run = Run(network(first=60), method, OPTIMIZERS["adam"], points(4)[0], steps=REMOVALS)
    held, sizes, removals = [], [], 0
    tracemalloc.start()
    for k in range(REMOVALS):
        if run.step(k) is not None:
            removals += 1
            if leak is not None:
                leak.append(torch.zeros(300))
            if removals % 3 == 0:
                held.append(alive(run))
                own = tracemalloc.take_snapshot().filter_traces([OWN])
                sizes.append(sum(entry.size for entry in own.statistics("filename")))
    tracemalloc.stop()
    return removals, held, sizes


def grown(held: list[dict[str, int]]) -> dict[str, int]:
    """What has become more since the first look."""
    return {name: now - held[0][name] for name, now in held[-1].items() if now > held[0][name]}


@pytest.mark.parametrize("name", ["spectral", pytest.param("random", marks=pytest.mark.slow)])
def test_many_removals_leave_nothing_behind(name: str) -> None:
    removals, held, sizes = soaked(METHODS[name]())
    assert removals >= REMOVALS // 2
    assert held[-1]["values"] < held[0]["values"]
    assert grown(held) == {}
    assert sizes[-1] - sizes[0] < 100_000, "the record of what left may grow by the units, nothing else may"


@pytest.mark.slow
def test_the_law_sees_a_tensor_that_stays() -> None:
    assert "tensors" in grown(soaked(METHODS["random"](), leak=[])[1])


def test_the_law_sees_a_hook_that_stays() -> None:
    run = Run(nn.Sequential(network()), METHODS["random"](), OPTIMIZERS["adam"], points(4)[0], steps=REMOVALS)
    before = alive(run)
    run.model.register_forward_hook(lambda *_: None)
    assert grown([before, alive(run)])["hooks"] == 1
