"""What one optimizer step costs: LpSGD beside foreach SGD with momentum and foreach AdamW on the same parameters, one thread.

python benchmarks/sphere/step_cost.py [--rounds 60]

All optimizers take turns on copies of one model with fixed random gradients; the first rounds are not counted. Ratios are medians of
ratios round by round.
"""

import argparse
import copy
import json
import platform
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import nn

from parsinet import models, sphere
from parsinet.bench import run_script

WARM_UP = 10
PS = (1.07, 16 / 15, 1.2, 1.3, 4 / 3, 1.5, 3.0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=60)
    rounds = parser.parse_args().rounds
    torch.set_num_threads(1)
    result = {
        "command": f"python benchmarks/sphere/step_cost.py --rounds {rounds}",
        "machine": {"processor": platform.processor() or platform.machine(), "torch": torch.__version__, "threads": 1},
        "capability": torch.backends.cpu.get_cpu_capability(),
        "networks": {name: measured(model, last, rounds) for name, (model, last) in networks().items()},
    }
    text = json.dumps(result, indent=1)
    (Path(__file__).parent / "results" / "step_cost.json").write_text(text + "\n", encoding="utf-8")
    print(text)


def networks() -> dict[str, tuple[nn.Module, tuple[str, ...] | None]]:
    """Model and the layers left free as the last: None for the last one, () for none."""
    torch.manual_seed(0)
    return {
        "lenet-300-100": (models.build("lenet-300-100", (1, 28, 28), 10), None),
        "wrn-12": (models.build("wrn-12", (1, 28, 28), 10), None),
        "one 2048x2048 layer": (nn.Sequential(nn.Linear(2048, 2048, bias=False)), ()),
    }


def measured(model: nn.Module, last: tuple[str, ...] | None, rounds: int) -> dict[str, object]:
    steps = {
        "sgd momentum foreach": step_of(model, lambda m: torch.optim.SGD(m.parameters(), lr=1e-4, momentum=0.9, foreach=True)),
        "adamw foreach": step_of(model, lambda m: torch.optim.AdamW(m.parameters(), lr=1e-4, foreach=True)),
    }
    for p in PS:
        steps[f"lpsgd p={p:.4g}"] = step_of(model, lambda m, p=p: sphere.LpSGD(sphere.param_groups(m, p, last=last), lr=1e-4))
    plain = {"foreach": False}
    steps["lpsgd p=1.2 plain"] = step_of(model, lambda m: sphere.LpSGD(sphere.param_groups(m, 1.2, last=last, **plain), lr=1e-4))
    times: dict[str, list[float]] = {name: [] for name in steps}
    for number in range(rounds + WARM_UP):
        for name, step in steps.items():
            start = time.perf_counter()
            step()
            if number >= WARM_UP:
                times[name].append(time.perf_counter() - start)
    return {
        "parameters": sum(p.numel() for p in model.parameters()),
        "microseconds": {name: round(1e6 * statistics.median(values), 1) for name, values in times.items()},
        "over sgd": {name: ratio(values, times["sgd momentum foreach"]) for name, values in times.items()},
        "over adamw": {name: ratio(values, times["adamw foreach"]) for name, values in times.items()},
    }


def step_of(model: nn.Module, build: Callable[[nn.Module], torch.optim.Optimizer]) -> Callable[[], object]:
    own = copy.deepcopy(model)
    optimizer = build(own)
    generator = torch.Generator().manual_seed(1)
    for parameter in own.parameters():
        parameter.grad = torch.randn(parameter.shape, generator=generator)
    return optimizer.step


def ratio(one: list[float], other: list[float]) -> float:
    return round(statistics.median(a / b for a, b in zip(one, other, strict=True)), 2)


if __name__ == "__main__":
    run_script(main)
