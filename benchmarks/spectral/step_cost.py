"""What a whole training step of a spectral layer costs beside the dense layer with fused Adam.

    python benchmarks/spectral/step_cost.py [--rounds 20]

One Linear layer without bias, float32, one thread: forward, backward (also to the input), fused Adam. The variants take turns, one step
each, so that all meet the same machine. Written to results/step_cost.json: median milliseconds, and the median over rounds of each
ratio to dense.
"""

from __future__ import annotations

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

from parsinet import spectral

SHAPES = ((128, 784, 2000), (512, 2048, 2048), (64, 4096, 4096))
"""Batch, senders, receivers."""
VARIANTS = ("two-set", "one-set", "one-set-in", "full")
WARM_UP = 3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=20)
    rounds = parser.parse_args().rounds
    torch.set_num_threads(1)
    result = {
        "command": f"python benchmarks/spectral/step_cost.py --rounds {rounds}",
        "machine": {"processor": platform.processor() or platform.machine(), "torch": torch.__version__, "threads": 1},
        "shapes": [measure(*shape, rounds) for shape in SHAPES],
    }
    text = json.dumps(result, indent=1)
    (Path(__file__).parent / "results" / "step_cost.json").write_text(text + "\n", encoding="utf-8")
    print(text)


def measure(batch: int, senders: int, receivers: int, rounds: int) -> dict[str, object]:
    """Milliseconds and ratios of all variants at one shape."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(batch, senders, generator=generator, requires_grad=True)
    g = torch.randn(batch, receivers, generator=generator)
    dense = nn.Linear(senders, receivers, bias=False)
    layers = {"dense": dense, **{name: spectral.spectralize(copy.deepcopy(dense), name) for name in VARIANTS}}
    steps = {name: step(layer, x, g) for name, layer in layers.items()}
    times: dict[str, list[float]] = {name: [] for name in steps}
    for number in range(rounds + WARM_UP):
        for name, run in steps.items():
            start = time.perf_counter()
            run()
            if number >= WARM_UP:
                times[name].append(time.perf_counter() - start)
    pairs = {name: [own / base for own, base in zip(values, times["dense"], strict=True)] for name, values in times.items()}
    return {
        "batch, senders, receivers": [batch, senders, receivers],
        "milliseconds": {name: round(1e3 * statistics.median(values), 3) for name, values in times.items()},
        "ratio to dense": {name: round(statistics.median(pairs[name]), 3) for name in VARIANTS},
        "range of the ratio": {name: [round(min(pairs[name]), 3), round(max(pairs[name]), 3)] for name in VARIANTS},
    }


def step(layer: nn.Module, x: torch.Tensor, g: torch.Tensor) -> Callable[[], None]:
    """One training step, gradients of the input included as within a network."""
    optimizer = torch.optim.Adam(layer.parameters(), lr=1e-3, fused=True)

    def run() -> None:
        x.grad = None
        layer(x).backward(g)
        optimizer.step()
        optimizer.zero_grad()

    return run


if __name__ == "__main__":
    main()
