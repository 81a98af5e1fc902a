"""LpSGD with topology evolution against GMP, RigL, SET and a static random mask: LeNet-300-100 with BatchNorm on MNIST.

    python benchmarks/sphere/lenet.py --data DIR [--seeds 0 1 2] [--sparsities 0.9 0.95 0.98 0.99] [--only ROW …]
    python benchmarks/sphere/lenet.py --data DIR --tune

One recipe for all: 20 epochs, batch 128, mean cross-entropy, one cosine after a warm-up epoch, Nesterov 0.9, test error of the last epoch.
--tune: three rates per row at 98 %, seed 0, half the epochs, error on 10,000 held-out training images; the best is stored in
results/lenet-tuning.json, which the other runs read. For the sphere the rate is that of the free tensors; the step
on spheres stays 0.01 and p the default. They write results/lenet.json, row by row.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from torch import nn

import parsinet as pn
from parsinet.baselines import GMP, SET, RandomMask, RigL
from parsinet.data import Batches, Dataset, Split
from parsinet.methods import Dense, Method, Sphere
from parsinet.training.evaluate import evaluate
from parsinet.training.loop import fit

RESULTS = Path(__file__).parent / "results"
EPOCHS, BATCH, STEP = 20, 128, 0.01
RATES = (0.02, 0.05, 0.1)
ROWS: dict[str, Callable[[float, float, int], Method]] = {
    "dense": lambda sparsity, rate, seed: Dense(),
    "sphere, no mask": lambda sparsity, rate, seed: Sphere(0.0, free_lr=rate, seed=seed),
    "sphere": lambda sparsity, rate, seed: Sphere(sparsity, free_lr=rate, seed=seed, remove_units=False),
    "GMP": lambda sparsity, rate, seed: GMP(sparsity=sparsity, seed=seed, remove_units=False),
    "RigL": lambda sparsity, rate, seed: RigL(sparsity=sparsity, seed=seed, remove_units=False),
    "SET": lambda sparsity, rate, seed: SET(sparsity=sparsity, seed=seed, remove_units=False),
    "static random": lambda sparsity, rate, seed: RandomMask(sparsity=sparsity, seed=seed, remove_units=False),
}
WHOLE = ("dense", "sphere, no mask")


def network(seed: int) -> nn.Sequential:
    """784-300-100-10 with BatchNorm before each ReLU."""
    torch.manual_seed(seed)
    layers: list[nn.Module] = [nn.Flatten()]
    for before, after in pairwise((784, 300, 100, 10)):
        layers += [nn.Linear(before, after)] if after == 10 else [nn.Linear(before, after), nn.BatchNorm1d(after), nn.ReLU()]
    return nn.Sequential(*layers)


def train(name: str, sparsity: float, rate: float, seed: int, epochs: int, data: Dataset) -> tuple[nn.Module, dict[str, Any]]:
    """One run; the last epoch's network and what it cost."""
    model, method = network(seed), ROWS[name](sparsity, rate, seed)
    groups = method.param_groups(model)
    if name.startswith("sphere"):
        base, optimizer = STEP, pn.sphere.LpSGD(groups, lr=STEP, momentum=0.9, nesterov=True)
    else:
        base, optimizer = rate, torch.optim.SGD(groups, lr=rate, momentum=0.9, nesterov=True, fused=True)
    batches = Batches(data.train, BATCH, seed=seed)
    warm, steps = len(batches), epochs * len(batches)
    pruner = pn.Pruner(model, optimizer, method, data.train.inputs[:2], steps=steps)

    def scheduled(step: int) -> float:
        return base * (step + 1) / warm if step < warm else base * 0.5 * (1 + math.cos(math.pi * (step - warm) / (steps - warm)))

    start = time.process_time()
    fit(model, optimizer, batches, epochs=epochs, pruner=pruner, learning_rate=scheduled)
    seconds = time.process_time() - start
    lean = pruner.finish()
    nonzeros = sum(int((module.weight != 0).sum()) for module in lean.modules() if isinstance(module, nn.Linear))
    return lean, {"nonzeros": nonzeros, "cpu_seconds": round(seconds, 1)}


def tune(names: list[str], data: Dataset) -> None:
    held = replace(data, train=_part(data.train, 0, 50_000), validation=_part(data.train, 50_000, 60_000))
    assert held.validation is not None
    path = RESULTS / "lenet-tuning.json"
    trials = _stored(path)
    for name in names:
        for rate in RATES:
            if not any(trial["row"] == name and trial["rate"] == rate for trial in trials):
                model, told = train(name, 0.98, rate, 0, EPOCHS // 2, held)
                trials.append({"row": name, "rate": rate, "validation_error": evaluate(model, held.validation).error, **told})
                print(trials[-1], flush=True)
                _write(path, trials)


def run(names: list[str], sparsities: list[float], seeds: list[int], data: Dataset) -> None:
    path, trials = RESULTS / "lenet.json", _stored(RESULTS / "lenet-tuning.json")
    done = _stored(path)
    jobs = [(seed, s, name) for seed in seeds for s in sparsities for name in names if name not in WHOLE or s == sparsities[0]]
    for seed, sparsity, name in jobs:
        wanted = 0.0 if name in WHOLE else sparsity
        if any((row["row"], row["sparsity"], row["seed"]) == (name, wanted, seed) for row in done):
            continue
        rate = min((trial for trial in trials if trial["row"] == name), key=lambda trial: trial["validation_error"])["rate"]
        model, told = train(name, wanted, rate, seed, EPOCHS, data)
        error = evaluate(model, data.test).error
        done.append({"row": name, "sparsity": wanted, "seed": seed, "rate": rate, "test_error": error, **told})
        print(done[-1], flush=True)
        _write(path, done)


def table() -> str:
    """Test error in per cent, mean ± spread (seeds); one row per method, one column per sparsity."""
    rows = _stored(RESULTS / "lenet.json")
    columns = sorted({row["sparsity"] for row in rows})
    lines = ["| method | rate | " + " | ".join(f"{100 * s:g} %" for s in columns) + " | CPU s |", "|---" * (len(columns) + 3) + "|"]
    for name in dict.fromkeys(row["row"] for row in rows):
        own = [row for row in rows if row["row"] == name]
        cells = []
        for sparsity in columns:
            errors = [100 * row["test_error"] for row in own if row["sparsity"] == sparsity]
            cells.append(f"{statistics.mean(errors):.2f} ± {statistics.pstdev(errors):.2f} ({len(errors)})" if errors else "–")
        seconds = statistics.mean(row["cpu_seconds"] for row in own)
        lines.append(f"| {name} | {own[0]['rate']:g} | " + " | ".join(cells) + f" | {seconds:.0f} |")
    return "\n".join(lines)


def _part(split: Split, first: int, last: int) -> Split:
    return Split(split.inputs[first:last], split.targets[first:last])


def _stored(path: Path) -> list[dict[str, Any]]:
    return list(json.loads(path.read_text(encoding="utf-8"))["rows"]) if path.exists() else []


def _write(path: Path, rows: list[dict[str, Any]]) -> None:
    words = ["DIR" if i and sys.argv[i] == "--data" else word for i, word in enumerate(sys.argv[1:])]
    record = {"command": " ".join(["python", "benchmarks/sphere/lenet.py", *words]), "torch": torch.__version__, "rows": rows}
    path.write_text(json.dumps(record, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", help="folder with mnist/ inside")
    parser.add_argument("--only", nargs="+", default=list(ROWS), choices=list(ROWS))
    parser.add_argument("--sparsities", type=float, nargs="+", default=[0.9, 0.95, 0.98, 0.99])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--tune", action="store_true")
    parser.add_argument("--table", action="store_true", help="only print the table")
    options = parser.parse_args()
    if not options.table:
        data = pn.data.load("mnist", folder=None if options.data is None else Path(options.data) / "mnist")
        if options.tune:
            tune(options.only, data)
            return
        run(options.only, options.sparsities, options.seeds, data)
    print(table())


if __name__ == "__main__":
    main()
