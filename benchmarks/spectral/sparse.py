"""Sparse training in reciprocal space against direct training under the same mask, and against what a user would pick instead; MNIST.

    python benchmarks/spectral/sparse.py --data DIR --set published|gradual [--seeds 0 1 2] [--sparsities 0.9 0.95 0.98] [--only ROW …]
    python benchmarks/spectral/sparse.py --data DIR --set published|gradual --tune

published: 784-500-500-10, tanh, biases, Adam (ε 1e-7), batch 200, pixels in [0, 1], 10 epochs at a constant rate; a constant mask per layer
in every step for S-QR (full R) and for plain weights. Beside them GMP, SET and RigL with the same optimizer, rate grid and epochs.
gradual: LeNet-300-100 with BatchNorm, batch 128, 20 epochs, one cosine, one mask for all layers on a cubic schedule.
--tune: learning rates of the grid at 98 %, seed 0, 5 epochs, error on 10,000 held-out training images; the best of each row
is stored in results/sparse-<set>-tuning.json, which the other runs read. They write results/sparse-<set>.json, row by row.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from torch import nn

import parsinet as pn
from parsinet.baselines import GMP, SET, RigL
from parsinet.bench import put_tables, run_script
from parsinet.data import Batches, Dataset, Split
from parsinet.methods import Dense, Method, SpectralSparse
from parsinet.training.evaluate import evaluate
from parsinet.training.loop import fit

RESULTS = Path(__file__).parent / "results"
README = Path(__file__).parent / "README.md"
GRID = {"adam": (1e-3, 2e-3, 5e-3), "sgd": (0.02, 0.05, 0.1)}
EPOCHS = {"published": 10, "gradual": 20}
TUNING_EPOCHS = 5
BATCH = {"published": 200, "gradual": 128}


class Plain(SpectralSparse):
    """The same mask over plain weights: φ trains, the eigenvalues stay 1 and 0."""

    def prepare(self, model: nn.Module) -> None:
        super().prepare(model)
        for layer in pn.spectral.spectral_layers(model).values():
            layer.spectrum.lambda_in.requires_grad_(False)
            layer.spectrum.lambda_out.requires_grad_(False)


def row(which: str, name: str, sparsity: float) -> Method:
    """The method of a row."""
    masked: dict[str, Any] = {"schedule": "constant", "scope": "layer", "every": 1} if which == "published" else {}
    start = "p2-sparse-qr" if which == "published" else "keep"
    window = {} if which == "published" else {"begin": 0.1, "end": 0.6}
    made = {
        "dense": lambda: Dense(),
        "S-QR (full R)": lambda: SpectralSparse(sparsity, variant="qr-full", initialiser=start, **masked),
        "plain weights, same mask": lambda: Plain(sparsity, variant="full", **masked),
        "full": lambda: SpectralSparse(sparsity, variant="full", **masked),
        "unit": lambda: SpectralSparse(sparsity, variant="unit", **masked),
        "GMP": lambda: GMP(sparsity=sparsity, remove_units=False, **window),
        "SET": lambda: SET(sparsity=sparsity, remove_units=False),
        "RigL": lambda: RigL(sparsity=sparsity, remove_units=False),
    }
    return made[name.split(" | ")[0]]()


ROWS = {
    "published": [f"{name} | adam" for name in ("dense", "S-QR (full R)", "plain weights, same mask", "GMP", "SET", "RigL")],
    "gradual": [f"{name} | {o}" for o in ("adam", "sgd") for name in ("dense", "S-QR (full R)", "full", "unit", "GMP")],
}


def network(which: str, seed: int) -> nn.Sequential:
    torch.manual_seed(seed)
    widths = (784, 500, 500, 10) if which == "published" else (784, 300, 100, 10)
    layers: list[nn.Module] = [nn.Flatten()]
    for before, after in pairwise(widths):
        layer = nn.Linear(before, after)
        if which == "published":
            nn.init.xavier_uniform_(layer.weight)
            nn.init.zeros_(layer.bias)
        layers.append(layer)
        if after != 10:
            layers += [nn.Tanh()] if which == "published" else [nn.BatchNorm1d(after), nn.ReLU()]
    return nn.Sequential(*layers)


def train(which: str, name: str, sparsity: float, rate: float, seed: int, epochs: int, data: Dataset) -> dict[str, Any]:
    """One run; the last epoch's network."""
    model, method = network(which, seed), row(which, name, sparsity)
    method.prepare(model)
    groups = method.param_groups(model)
    if name.endswith("sgd"):
        optimizer: torch.optim.Optimizer = torch.optim.SGD(groups, lr=rate, momentum=0.9, nesterov=True, fused=True)
    else:
        optimizer = torch.optim.Adam(groups, lr=rate, eps=1e-7, fused=True)
    batches = Batches(data.train, BATCH[which], seed=seed)
    steps = epochs * len(batches)
    pruner = pn.Pruner(model, optimizer, method, data.train.inputs[:2], steps=steps)
    cosine = (lambda step: rate * 0.5 * (1 + math.cos(math.pi * step / steps))) if which == "gradual" else None
    start = time.process_time()
    fit(model, optimizer, batches, epochs=epochs, pruner=pruner, learning_rate=cosine)
    seconds = time.process_time() - start
    moved = method.describe().get("layers", {})
    returned = sum(layer["returned"] for layer in moved.values()) if moved else method.describe().get("returned")
    lean = pruner.finish()
    nonzeros = sum(int((module.weight != 0).sum()) for module in lean.modules() if isinstance(module, nn.Linear))
    return {"model": lean, "nonzeros": nonzeros, "returned": returned, "cpu_seconds": round(seconds, 1)}


def tune(which: str, names: list[str], data: Dataset) -> None:
    """Rates by held-out error; the same number of trials for every row."""
    held = replace(data, train=_part(data.train, 0, 50_000), validation=_part(data.train, 50_000, 60_000))
    assert held.validation is not None
    path = RESULTS / f"sparse-{which}-tuning.json"
    trials = json.loads(path.read_text(encoding="utf-8"))["trials"] if path.exists() else []
    for name in names:
        for rate in GRID[name.rpartition(" | ")[2]]:
            if any(trial["row"] == name and trial["rate"] == rate for trial in trials):
                continue
            found = train(which, name, 0.98, rate, 0, TUNING_EPOCHS, held)
            error = evaluate(found["model"], held.validation).error
            trials.append({"row": name, "rate": rate, "validation_error": error, "cpu_seconds": found["cpu_seconds"]})
            print(trials[-1], flush=True)
            _write(path, {"trials": trials})


def best_rate(which: str, name: str) -> float:
    trials = json.loads((RESULTS / f"sparse-{which}-tuning.json").read_text(encoding="utf-8"))["trials"]
    own = [trial for trial in trials if trial["row"] == name]
    if not own:
        sys.exit(f"No rate for {name!r}: run with --tune first.")
    return float(min(own, key=lambda trial: trial["validation_error"])["rate"])


def run(which: str, names: list[str], sparsities: list[float], seeds: list[int], data: Dataset) -> None:
    path = RESULTS / f"sparse-{which}.json"
    done = json.loads(path.read_text(encoding="utf-8"))["rows"] if path.exists() else []
    for seed, sparsity, name in _jobs(names, sparsities, seeds):
        if any((entry["row"], entry["sparsity"], entry["seed"]) == (name, sparsity, seed) for entry in done):
            continue
        rate = best_rate(which, name)
        found = train(which, name, sparsity, rate, seed, EPOCHS[which], data)
        error = evaluate(found.pop("model"), data.test).error
        done.append({"row": name, "sparsity": sparsity, "seed": seed, "rate": rate, "epochs": EPOCHS[which], "test_error": error, **found})
        print(done[-1], flush=True)
        _write(path, {"rows": done})


def _jobs(names: list[str], sparsities: list[float], seeds: list[int]) -> Iterator[tuple[int, float, str]]:
    for seed in seeds:
        for sparsity in sparsities:
            for name in names:
                if not name.startswith("dense") or sparsity == sparsities[0]:
                    yield seed, 0.0 if name.startswith("dense") else sparsity, name


def _write(path: Path, record: dict[str, Any]) -> None:
    words = ["DIR" if i and sys.argv[i] == "--data" else word for i, word in enumerate(sys.argv[1:])]
    told = {"command": " ".join(["python", "benchmarks/spectral/sparse.py", *words]), "torch": torch.__version__}
    path.write_text(json.dumps({**told, **record}, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def load(which: str, folder: str | None) -> Dataset:
    data = pn.data.load("mnist", folder=None if folder is None else Path(folder) / "mnist")
    if which == "gradual":
        return data
    mean, std = data.mean[0], data.std[0]
    parts = {name: Split(split.inputs * std + mean, split.targets) for name, split in (("train", data.train), ("test", data.test))}
    return replace(data, **parts)


def _part(split: Split, first: int, last: int) -> Split:
    return Split(split.inputs[first:last], split.targets[first:last])


def table(which: str) -> str:
    """Test error, mean ± spread over seeds; one row per method, one column per sparsity."""
    entries = json.loads((RESULTS / f"sparse-{which}.json").read_text(encoding="utf-8"))["rows"]
    columns = sorted({entry["sparsity"] for entry in entries})
    lines = [
        "| method | rate | " + " | ".join(f"{100 * s:g} %" for s in columns) + " | CPU s | returns at most |",
        "|---" * (len(columns) + 4) + "|",
    ]
    for name in dict.fromkeys(entry["row"] for entry in entries):
        own = [entry for entry in entries if entry["row"] == name]
        cells = []
        for sparsity in columns:
            errors = [100 * entry["test_error"] for entry in own if entry["sparsity"] == sparsity]
            cells.append(f"{statistics.mean(errors):.2f} ± {statistics.pstdev(errors):.2f} ({len(errors)})" if errors else "–")
        seconds = statistics.mean(entry["cpu_seconds"] for entry in own)
        returned = "–" if own[0]["returned"] is None else f"{max(entry['returned'] for entry in own):,}"
        shown = name.replace(" | ", ", ")
        lines.append(f"| {shown} | {own[0]['rate']:g} | " + " | ".join(cells) + f" | {seconds:.0f} | {returned} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", help="folder with mnist/ inside")
    parser.add_argument("--set", default="published", choices=list(ROWS))
    parser.add_argument("--only", nargs="+", help="rows")
    parser.add_argument("--sparsities", type=float, nargs="+", default=[0.9, 0.95, 0.98])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--tune", action="store_true")
    parser.add_argument("--table", action="store_true", help="only rewrite the table of README.md and its claims")
    options = parser.parse_args()
    if options.table:
        print(table(options.set))
        put_tables(README.parent.parent / "claims.yaml", README, {f"sparse, {options.set}": table(options.set)})
        return
    data, names = load(options.set, options.data), options.only or ROWS[options.set]
    if options.tune:
        tune(options.set, names, data)
    else:
        run(options.set, names, options.sparsities, options.seeds, data)
        print(table(options.set))


if __name__ == "__main__":
    run_script(main)
