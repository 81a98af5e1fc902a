"""What a whole training step of a spectral layer costs beside the plain layer with fused Adam, and what it keeps in memory.

    python benchmarks/spectral/step_cost.py [--threads 1] [--seconds 12]

One layer without bias, float32: forward, backward (also to the input), fused Adam. The variants take turns, one step each and each round
beginning with another, so that all meet the same machine. With one thread the clock is the processor time of the process, which other
programs on the machine disturb less than the wall clock; with more it is the wall clock. Written to results/step_cost.json (with more
threads results/step_cost-N.json): milliseconds (median and least), the median over rounds of each ratio to the plain layer and its
quartiles, and bytes of parameters, buffers, gradients and optimizer state over those of the plain layer.
"""

from __future__ import annotations

import argparse
import copy
import json
import os
import platform
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import nn

from parsinet import spectral
from parsinet.bench import run_script

LINEAR = ((128, 784, 2000), (512, 2048, 2048), (64, 4096, 4096))
"""Batch, senders, receivers."""
CONVOLUTIONS = ((64, 64, 64, 32), (64, 128, 128, 16), (64, 16, 16, 32))
"""Batch, channels in, channels out, height and width; kernels 3 × 3."""
VARIANTS = ("two-set", "two-set bfloat16", "one-set", "one-set-in", "full")
WARM_UP = 3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=12.0, help="per case")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    generator = torch.Generator().manual_seed(0)
    cases = [linear(*shape, generator) for shape in LINEAR] + [convolution(*shape, generator) for shape in CONVOLUTIONS]
    result = {
        "command": f"python benchmarks/spectral/step_cost.py --threads {options.threads} --seconds {options.seconds:g}",
        "machine": {
            "processor": platform.processor() or platform.machine(),
            "cores": os.cpu_count(),
            "load at the start": round(os.getloadavg()[0], 1),
            "torch": torch.__version__,
            "threads": options.threads,
            "clock": "processor" if options.threads == 1 else "wall",
        },
        "cases": [measure(*case, options) for case in cases],
    }
    name = "step_cost.json" if options.threads == 1 else f"step_cost-{options.threads}.json"
    text = json.dumps(result, indent=1)
    (Path(__file__).parent / "results" / name).write_text(text + "\n", encoding="utf-8")
    print(text)


def linear(batch: int, senders: int, receivers: int, generator: torch.Generator) -> tuple[str, nn.Module, torch.Tensor]:
    """A Linear layer and an input."""
    layer = nn.Linear(senders, receivers, bias=False)
    return f"Linear {batch}, {senders}, {receivers}", layer, torch.randn(batch, senders, generator=generator)


def convolution(batch: int, senders: int, receivers: int, side: int, generator: torch.Generator) -> tuple[str, nn.Module, torch.Tensor]:
    """A Conv2d layer and an input."""
    layer = nn.Conv2d(senders, receivers, 3, padding=1, bias=False)
    return f"Conv2d {batch}, {senders}, {receivers}, {side}", layer, torch.randn(batch, senders, side, side, generator=generator)


def measure(name: str, dense: nn.Module, x: torch.Tensor, options: argparse.Namespace) -> dict[str, object]:
    """Milliseconds, ratios and memory of all variants in one case."""
    clock = time.process_time if options.threads == 1 else time.perf_counter
    layers = {"dense": dense, **{variant: converted(dense, variant) for variant in VARIANTS}}
    g = torch.randn_like(dense(x).detach())
    steps = {variant: Step(layer, x.clone().requires_grad_(), g) for variant, layer in layers.items()}
    times: dict[str, list[float]] = {variant: [] for variant in steps}
    end, number = time.perf_counter() + options.seconds, 0
    while time.perf_counter() < end or number < WARM_UP + 5:
        for variant in [*list(steps)[number % len(steps) :], *list(steps)[: number % len(steps)]]:
            start = clock()
            steps[variant]()
            if number >= WARM_UP:
                times[variant].append(clock() - start)
        number += 1
    ratios = {name: sorted(own / base for own, base in zip(times[name], times["dense"], strict=True)) for name in VARIANTS}
    whole = steps["dense"].memory()
    return {
        "case": name,
        "rounds": number - WARM_UP,
        "milliseconds, median and least": {k: [round(1e3 * f(v), 3) for f in (statistics.median, min)] for k, v in times.items()},
        "ratio to dense": {variant: round(statistics.median(values), 3) for variant, values in ratios.items()},
        "ratio of the least": {variant: round(min(times[variant]) / min(times["dense"]), 3) for variant in VARIANTS},
        "quartiles of the ratio": {variant: [round(q, 3) for q in statistics.quantiles(values)[::2]] for variant, values in ratios.items()},
        "memory over dense": {variant: round(steps[variant].memory() / whole, 4) for variant in VARIANTS},
    }


def converted(dense: nn.Module, variant: str) -> nn.Module:
    """A copy of the layer in a variant, with its φ in 16 bits where the name says so."""
    name, _, narrow = variant.partition(" ")
    layer = spectral.spectralize(copy.deepcopy(dense), name)
    return spectral.narrow_bases(layer) if narrow else layer


class Step:
    """One training step, gradients of the input included as within a network."""

    def __init__(self, layer: nn.Module, x: torch.Tensor, g: torch.Tensor) -> None:
        self.layer, self.x, self.g = layer, x, g
        self.optimizer = torch.optim.Adam(layer.parameters(), lr=1e-4, fused=True)

    def __call__(self, then: Callable[[], None] | None = None) -> None:
        self.x.grad = None
        self.layer(self.x).backward(self.g)
        self.optimizer.step()
        if then is not None:
            then()
        self.optimizer.zero_grad()

    def memory(self) -> int:
        """Bytes of parameters, buffers, gradients and optimizer state, before the gradients go."""
        sizes: list[int] = []

        def count() -> None:
            state = [value for values in self.optimizer.state.values() for value in values.values()]
            grads = [parameter.grad for parameter in self.layer.parameters() if parameter.grad is not None]
            held = [*self.layer.parameters(), *self.layer.buffers(), *grads, *state]
            sizes.append(sum(tensor.nbytes for tensor in held))

        self(then=count)
        return sizes[0]


if __name__ == "__main__":
    run_script(main)
