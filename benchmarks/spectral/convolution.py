"""Spectral convolutions on MNIST: variants from scratch, nodes removed, and a pretrained network fine-tuned by its eigenvalues alone.

    python benchmarks/spectral/convolution.py --data DIR --part variants|finetune [--seeds 0 1 2]

variants: LeNet-5-Caffe on the first 10,000 training images, Adam on one cosine, batch 128, 10 epochs (a shortened run).
finetune: the same network trained on upright digits (20,000 images, 4 epochs), then on 5,000 turned by 90°, 10 epochs: full training, the
last layer, biases only, eigenvalues only (φ = W frozen). The rate of each is the best of three by error on 5,000 more turned images,
seed 0. Test error on all 10,000 test images, last epoch. Writes results/convolution-<part>.json.
"""

from __future__ import annotations

import argparse
import copy
import json
import math
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import nn

import parsinet as pn
from parsinet.bench import run_script
from parsinet.data import Batches, Split
from parsinet.methods import Dense, Method, Spectral
from parsinet.training.evaluate import evaluate
from parsinet.training.loop import fit

RESULTS = Path(__file__).parent / "results"
BATCH = 128
Row = dict[str, Any]


class Variant(Spectral):
    """A variant of spectral layers that removes nothing."""

    def __init__(self, variant: str, initialiser: str | None = None, **options: Any) -> None:
        super().__init__(0.0, variant=variant, initialiser=initialiser, **options)


VARIANTS: dict[str, tuple[Callable[[], Method], float]] = {
    "dense": (Dense, 2e-3),
    "one-set, drawn basis": (lambda: Variant("one-set", "spectraltools-1.0"), 2e-2),
    "two-set, drawn basis": (lambda: Variant("two-set", "glorot"), 2e-2),
    "S-SVD": (lambda: Variant("svd", "glorot"), 2e-2),
    "S-QR (triangular)": (lambda: Variant("qr"), 2e-3),
    "full": (lambda: Variant("full"), 2e-3),
    "half of the nodes removed": (lambda: Spectral(0.5), 2e-3),
    "four fifths of the nodes removed": (lambda: Spectral(0.8), 2e-3),
}
RATES = {"all": (5e-4, 1e-3, 2e-3), "last layer": (2e-3, 5e-3, 2e-2), "biases": (2e-3, 1e-2, 5e-2), "eigenvalues": (2e-3, 1e-2, 5e-2)}


def train(model: nn.Module, method: Method, rate: float, split: Split, epochs: int, seed: int) -> tuple[nn.Module, int, float]:
    """One cosine; returns the finished model, the numbers that trained, CPU seconds."""
    method.prepare(model)
    groups = method.param_groups(model)
    trained = sum(p.numel() for group in groups for p in group["params"])
    optimizer = torch.optim.Adam(groups, lr=rate, fused=True)
    batches = Batches(split, BATCH, seed=seed)
    steps = epochs * len(batches)
    pruner = pn.Pruner(model, optimizer, method, split.inputs[:2], steps=steps)
    start = time.process_time()
    fit(model, optimizer, batches, epochs=epochs, pruner=pruner, learning_rate=lambda s: rate * 0.5 * (1 + math.cos(math.pi * s / steps)))
    return pruner.finish(), trained, time.process_time() - start


def variants(data: pn.data.Dataset, seeds: list[int]) -> list[Row]:
    rows, part = [], first(data.train, 0, 10_000)
    for seed in seeds:
        for name, (build, rate) in VARIANTS.items():
            torch.manual_seed(seed)
            method = build()
            if isinstance(method, Spectral):
                method.seed = seed
            model = pn.models.build("lenet-5-caffe", data.input_shape, 10)
            lean, trained, seconds = train(model, method, rate, part, 10, seed)
            profile = pn.measure.profile(lean, part.inputs[:2], latency=False)
            row = {"row": name, "seed": seed, "rate": rate, "trained": trained, "parameters": profile.parameters, "macs": profile.macs}
            rows.append({**row, "test_error": evaluate(lean, data.test).error, "cpu_seconds": round(seconds, 1)})
            print(rows[-1], flush=True)
    return rows


def finetune(data: pn.data.Dataset, seeds: list[int]) -> list[Row]:
    rows: list[Row] = []
    turned, held, test = turn(first(data.train, 20_000, 25_000)), turn(first(data.train, 25_000, 30_000)), turn(data.test)
    bases: dict[int, nn.Module] = {}
    for seed in seeds:
        torch.manual_seed(seed)
        model = pn.models.build("lenet-5-caffe", data.input_shape, 10)
        bases[seed] = train(model, Dense(), 2e-3, first(data.train, 0, 20_000), 4, seed)[0]
        rows.append({"row": "before", "seed": seed, "trained": 0, "test_error": evaluate(bases[seed], test).error})
    for name, rates in RATES.items():
        trials = {rate: evaluate(adapt(bases[seeds[0]], name, rate, turned, seeds[0])[0], held).error for rate in rates}
        rate = min(trials, key=lambda candidate: trials[candidate])
        for seed in seeds:
            model, trained, seconds = adapt(bases[seed], name, rate, turned, seed)
            error = evaluate(model, test).error
            rows.append(
                {"row": name, "seed": seed, "rate": rate, "trained": trained, "test_error": error, "cpu_seconds": round(seconds, 1)}
            )
            print(rows[-1], trials, flush=True)
    return rows


def adapt(base: nn.Module, name: str, rate: float, split: Split, seed: int) -> tuple[nn.Module, int, float]:
    """Fine-tune a copy: everything, its last layer, its biases, or its eigenvalues and biases."""
    model = copy.deepcopy(base)
    last = [module for module in model.modules() if isinstance(module, nn.Linear)][-1]
    chosen = {"last layer": {id(p) for p in last.parameters()}, "biases": {id(p) for p in model.parameters() if p.dim() == 1}}
    if name in chosen:
        for parameter in model.parameters():
            parameter.requires_grad_(id(parameter) in chosen[name])
    return train(model, Variant("two-set") if name == "eigenvalues" else Dense(), rate, split, 10, seed)


def first(split: Split, begin: int, end: int) -> Split:
    return Split(split.inputs[begin:end], split.targets[begin:end])


def turn(split: Split) -> Split:
    return Split(split.inputs.rot90(1, (-2, -1)).contiguous(), split.targets)


def table(rows: list[Row]) -> str:
    lines = ["| row | trained | parameters left | MACs | test error % | CPU s |", "|---" * 6 + "|"]
    for name in dict.fromkeys(row["row"] for row in rows):
        own = [row for row in rows if row["row"] == name]
        errors = [100 * row["test_error"] for row in own]
        left, macs = (f"{statistics.mean(row[key] for row in own):,.0f}" if key in own[0] else "–" for key in ("parameters", "macs"))
        seconds = f"{statistics.mean(row['cpu_seconds'] for row in own):.0f}" if "cpu_seconds" in own[0] else "–"
        spread = f"{statistics.mean(errors):.2f} ± {statistics.pstdev(errors):.2f}"
        lines.append(f"| {name} | {own[0]['trained']:,} | {left} | {macs} | {spread} | {seconds} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", help="folder with mnist/ inside")
    parser.add_argument("--part", required=True, choices=["variants", "finetune"])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--table", action="store_true", help="only print the table")
    options = parser.parse_args()
    path = RESULTS / f"convolution-{options.part}.json"
    if not options.table:
        data = pn.data.load("mnist", folder=None if options.data is None else Path(options.data) / "mnist")
        rows = (variants if options.part == "variants" else finetune)(data, options.seeds)
        words = ["DIR" if i and sys.argv[i] == "--data" else word for i, word in enumerate(sys.argv[1:])]
        record = {"command": " ".join(["python", "benchmarks/spectral/convolution.py", *words]), "torch": torch.__version__, "rows": rows}
        path.write_text(json.dumps(record, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    print(table(json.loads(path.read_text(encoding="utf-8"))["rows"]))


if __name__ == "__main__":
    run_script(main)
