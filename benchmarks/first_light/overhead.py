"""What a step costs: the loop against a bare hand-written loop, a gated step against a dense one before anything is removed.

    python benchmarks/first_light/overhead.py [--rounds 40]

LeNet-300-100, batch 128, fused Adam, one thread, random tensors of MNIST shape; the variants take turns of one short epoch in one process,
so that all meet the same machine. Written to results/overhead.json: the median over rounds of each variant's time and of its ratio.
"""

from __future__ import annotations

import argparse
import functools
import io
import json
import platform
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch
from rich.console import Console
from torch import Tensor, nn
from torch.nn import functional

from parsinet import methods, models
from parsinet.bench import run_script
from parsinet.data import Batches, Split
from parsinet.methods import Method, Pruner
from parsinet.training import fit
from parsinet.training.display import Display
from parsinet.training.state import LoopState

BATCH, STEPS = 128, 40
Epoch = Callable[[], None]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=40)
    rounds = parser.parse_args().rounds
    torch.set_num_threads(1)
    generator = torch.Generator().manual_seed(0)
    split = Split(torch.randn(BATCH * STEPS, 1, 28, 28, generator=generator), torch.randint(10, (BATCH * STEPS,), generator=generator))
    variants = {
        "bare loop": bare(split),
        "fit": looped(split, methods.Dense()),
        "fit with live display": looped(split, methods.Dense(), display=True),
        "fit with gates, nothing removed": looped(split, methods.Gates(interval=10**9, fall_steps=10**9)),
    }
    times = measure(variants, rounds)
    result = {
        "command": f"python benchmarks/first_light/overhead.py --rounds {rounds}",
        "machine": {"processor": platform.processor() or platform.machine(), "torch": torch.__version__, "threads": 1},
        "milliseconds per step": {name: round(1e3 * statistics.median(values) / STEPS, 4) for name, values in times.items()},
        "ratio": {
            "fit / bare loop": ratio(times, "fit", "bare loop"),
            "fit with live display / bare loop": ratio(times, "fit with live display", "bare loop"),
            "gated step / dense step": ratio(times, "fit with gates, nothing removed", "fit"),
        },
    }
    text = json.dumps(result, indent=1)
    (Path(__file__).parent / "results" / "overhead.json").write_text(text + "\n", encoding="utf-8")
    print(text)


def measure(variants: dict[str, Epoch], rounds: int) -> dict[str, list[float]]:
    """Seconds per epoch of each variant; the variants take turns, the first two rounds are not counted."""
    times: dict[str, list[float]] = {name: [] for name in variants}
    for number in range(rounds + 2):
        for name, epoch in variants.items():
            start = time.perf_counter()
            epoch()
            if number >= 2:
                times[name].append(time.perf_counter() - start)
    return times


def ratio(times: dict[str, list[float]], one: str, other: str) -> float:
    """Median of the ratios round by round."""
    return round(statistics.median(a / b for a, b in zip(times[one], times[other], strict=True)), 3)


def network() -> nn.Module:
    torch.manual_seed(0)
    return models.build("lenet-300-100", (1, 28, 28), 10)


def adam(groups: object) -> torch.optim.Optimizer:
    return torch.optim.Adam(groups, lr=1e-3, fused=True)  # type: ignore[arg-type]


def bare(split: Split) -> Epoch:
    """The loop everyone writes: permute, cut, forward, backward, step; it also counts loss and mistakes, as any loop that reports does."""
    model, generator = network(), torch.Generator().manual_seed(0)
    optimizer = adam(model.parameters())

    def epoch() -> None:
        model.train()
        total, wrong = torch.zeros(()), torch.zeros((), dtype=torch.int64)
        for index in torch.randperm(len(split.inputs), generator=generator).split(BATCH):
            x, y = split.inputs[index], split.targets[index]
            logits: Tensor = model(x)
            loss = functional.cross_entropy(logits, y)
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            total += loss.detach()
            wrong += (logits.argmax(1) != y).sum()
        float(total), int(wrong)

    return epoch


def looped(split: Split, method: Method, *, display: bool = False) -> Epoch:
    """parsinet's loop with a pruner, epoch by epoch, with or without the live terminal display."""
    model = network()
    optimizer = adam(method.param_groups(model))
    pruner = Pruner(model, optimizer, method, split.inputs[:2])
    state = LoopState(model, optimizer, Batches(split, BATCH), 10**9, pruner)

    def epoch() -> None:
        console = Console(file=io.StringIO(), force_terminal=True)
        shown = Display(console, "overhead", STEPS)
        run = functools.partial(fit, model, optimizer, state.batches, epochs=state.batches.epoch + 1, pruner=pruner, state=state)
        if display:
            with shown:
                run(callbacks=(shown,))
        else:
            run()

    return epoch


if __name__ == "__main__":
    run_script(main)
