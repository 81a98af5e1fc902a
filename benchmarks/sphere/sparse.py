"""LpSGD with topology evolution against GMP, RigL, SET and a static random mask, at equal epochs and equal tuning.

    python benchmarks/sphere/sparse.py --data DIR --network lenet|mlp-500|conv|char-gpt --tune
    python benchmarks/sphere/sparse.py --data DIR --network … [--seeds 0 1 2] [--sparsities 0.9 0.98] [--only ROW …]

One recipe for all rows of a network: mean cross-entropy, one cosine after a warm-up epoch, error of the last epoch on the test split.
MLPs and the convolutional net: MNIST, batch 128, BatchNorm before each ReLU, Nesterov 0.9, decay 5e-4 except for the sphere, which has none
(GMP gains .3 to .5 points by it at 98 and 99 %). char-gpt: tinyshakespeare, batch 64, AdamW, decay 0.1, the weights of all blocks on
spheres. --tune: the network's rates for every row at one sparsity, seed 0, half the epochs, error on the last sixth of the
training split, held out; the best is stored in results/sparse-NETWORK-tuning.json, which the other runs read. For the sphere the rate is
that of the free tensors; the step on spheres stays 0.01, or 0.02 where the row says so. They write results/sparse-NETWORK.json, row by
row, and go on where they were interrupted.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from torch import nn

import parsinet as pn
from parsinet.baselines import GMP, SET, RandomMask, RigL
from parsinet.bench import run_script
from parsinet.data import Batches, Dataset, Split
from parsinet.methods import Dense, Method, Sphere
from parsinet.training.evaluate import evaluate
from parsinet.training.loop import fit

RESULTS = Path(__file__).parent / "results"
STEP = 0.01


@dataclass(frozen=True)
class Setting:
    """A network and what all its rows share."""

    build: Callable[[], nn.Module]
    epochs: int
    rates: tuple[float, ...]
    sparsities: tuple[float, ...]
    tuned_at: float
    batch: int = 128
    text: bool = False


def mlp(*widths: int) -> nn.Sequential:
    """Linear layers with BatchNorm before each ReLU."""
    layers: list[nn.Module] = [nn.Flatten()]
    for before, after in pairwise(widths):
        layers += [nn.Linear(before, after)] if after == 10 else [nn.Linear(before, after), nn.BatchNorm1d(after), nn.ReLU()]
    return nn.Sequential(*layers)


def conv() -> nn.Sequential:
    """LeNet-5-Caffe, 20-50-500, with BatchNorm before each ReLU."""
    blocks = [nn.Conv2d(1, 20, 5), nn.BatchNorm2d(20), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(20, 50, 5), nn.BatchNorm2d(50), nn.ReLU()]
    return nn.Sequential(*blocks, nn.MaxPool2d(2), *mlp(800, 500, 10))


SGD_RATES = (0.02, 0.05, 0.1, 0.2, 0.4)
SETTINGS = {
    "lenet": Setting(lambda: mlp(784, 300, 100, 10), 20, SGD_RATES, (0.9, 0.95, 0.98, 0.99, 0.995), 0.98),
    "mlp-500": Setting(lambda: mlp(784, 500, 500, 10), 10, SGD_RATES[1::2] + SGD_RATES[4:], (0.9, 0.95, 0.98), 0.98),
    "conv": Setting(conv, 6, SGD_RATES[1:4], (0.9, 0.98), 0.98),
    "char-gpt": Setting(lambda: pn.models.build("char-gpt", (64,), 65), 6, (1e-3, 3e-3, 1e-2), (0.8, 0.9), 0.9, 64, text=True),
}
ROWS = ("dense", "sphere, no mask", "sphere", "sphere, p = 6/5, step 0.02", "GMP", "RigL", "SET", "static random")
WHOLE = ("dense", "sphere, no mask")
BASELINES = {"GMP": GMP, "RigL": RigL, "SET": SET, "static random": RandomMask}


def method_of(name: str, sparsity: float, rate: float, seed: int, text: bool) -> Method:
    """The method of a row; masks leave the architecture as it is, so that all rows hold the same number of weights."""
    if name == "dense":
        return Dense()
    if name.startswith("sphere"):
        rule = {"free_rule": "adam"} if text else {}
        share = 0.0 if name in WHOLE else sparsity
        return Sphere(share, p=1.2 if "6/5" in name else 4 / 3, free_lr=rate, seed=seed, remove_units=False, **rule)
    return BASELINES[name](sparsity=sparsity, seed=seed, remove_units=False)


def train(
    name: str, sparsity: float, rate: float, seed: int, epochs: int, data: Dataset, setting: Setting
) -> tuple[nn.Module, dict[str, Any]]:
    """One run; the last epoch's network and what it cost."""
    torch.manual_seed(seed)
    model = setting.build()
    method = method_of(name, sparsity, rate, seed, setting.text)
    groups = method.param_groups(model)
    base = rate
    optimizer: torch.optim.Optimizer
    if name.startswith("sphere"):
        base = 2 * STEP if "0.02" in name else STEP
        optimizer = pn.sphere.LpSGD(groups, lr=base, momentum=0.9, nesterov=True)
    elif setting.text:
        optimizer = torch.optim.AdamW(groups, lr=rate, weight_decay=0.1, fused=True)
    else:
        optimizer = torch.optim.SGD(groups, lr=rate, momentum=0.9, nesterov=True, weight_decay=5e-4, fused=True)
    batches = Batches(data.train, setting.batch, seed=seed)
    warm, steps = len(batches), epochs * len(batches)
    pruner = pn.Pruner(model, optimizer, method, data.train.inputs[:2], steps=steps)

    def scheduled(step: int) -> float:
        return base * (step + 1) / warm if step < warm else base * 0.5 * (1 + math.cos(math.pi * (step - warm) / (steps - warm)))

    start = time.process_time()
    fit(model, optimizer, batches, epochs=epochs, pruner=pruner, learning_rate=scheduled)
    seconds = time.process_time() - start
    lean = pruner.finish()
    nonzeros = sum(int((module.weight != 0).sum()) for module in lean.modules() if isinstance(module, nn.Linear | nn.Conv2d))
    return lean, {"nonzeros": nonzeros, "cpu_seconds": round(seconds, 1)}


def tune(network: str, names: list[str], data: Dataset) -> None:
    setting, path = SETTINGS[network], RESULTS / f"sparse-{network}-tuning.json"
    cut = len(data.train) * 5 // 6
    held = replace(data, train=_part(data.train, 0, cut), validation=_part(data.train, cut, len(data.train)))
    assert held.validation is not None
    trials = _stored(path)
    for name in names:
        for rate in setting.rates:
            if not any(trial["row"] == name and trial["rate"] == rate for trial in trials):
                model, told = train(name, setting.tuned_at, rate, 0, setting.epochs // 2, held, setting)
                result = evaluate(model, held.validation)
                trials.append({"row": name, "rate": rate, "validation_error": result.error, "validation_loss": result.loss, **told})
                print(trials[-1], flush=True)
                _write(path, trials)


def run(network: str, names: list[str], sparsities: list[float], seeds: list[int], data: Dataset) -> None:
    setting, path, trials = SETTINGS[network], RESULTS / f"sparse-{network}.json", _stored(RESULTS / f"sparse-{network}-tuning.json")
    done = _stored(path)
    jobs = [(seed, s, name) for seed in seeds for s in sparsities for name in names if name not in WHOLE or s == sparsities[0]]
    for seed, sparsity, name in jobs:
        wanted = 0.0 if name in WHOLE else sparsity
        if any((row["row"], row["sparsity"], row["seed"]) == (name, wanted, seed) for row in done):
            continue
        rate = min((trial for trial in trials if trial["row"] == name), key=lambda trial: trial["validation_error"])["rate"]
        model, told = train(name, wanted, rate, seed, setting.epochs, data, setting)
        result = evaluate(model, data.test)
        done.append(
            {"row": name, "sparsity": wanted, "seed": seed, "rate": rate, "test_error": result.error, "test_loss": result.loss, **told}
        )
        print(done[-1], flush=True)
        _write(path, done)


def table(network: str) -> str:
    """Test error in per cent (loss for text), mean ± spread (seeds); one row per method, one column per sparsity."""
    rows = _stored(RESULTS / f"sparse-{network}.json")
    key, scale = ("test_loss", 1) if SETTINGS[network].text else ("test_error", 100)
    columns = sorted({row["sparsity"] for row in rows})
    lines = ["| method | rate | " + " | ".join(f"{100 * s:g} %" for s in columns) + " | CPU s |", "|---" * (len(columns) + 3) + "|"]
    for name in dict.fromkeys(row["row"] for row in rows):
        own = [row for row in rows if row["row"] == name]
        cells = []
        for sparsity in columns:
            found = [scale * row[key] for row in own if row["sparsity"] == sparsity]
            cells.append(
                f"{statistics.mean(found):.{2 if scale > 1 else 3}f} ± {statistics.pstdev(found):.2f} ({len(found)})" if found else "–"
            )
        seconds = statistics.mean(row["cpu_seconds"] for row in own)
        lines.append(f"| {name} | {own[0]['rate']:g} | " + " | ".join(cells) + f" | {seconds:.0f} |")
    return "\n".join(lines)


def _part(split: Split, first: int, last: int) -> Split:
    return Split(split.inputs[first:last], split.targets[first:last])


def _stored(path: Path) -> list[dict[str, Any]]:
    return list(json.loads(path.read_text(encoding="utf-8"))["rows"]) if path.exists() else []


def _write(path: Path, rows: list[dict[str, Any]]) -> None:
    words = ["DIR" if i and sys.argv[i] == "--data" else word for i, word in enumerate(sys.argv[1:])]
    record = {"command": " ".join(["python", "benchmarks/sphere/sparse.py", *words]), "torch": torch.__version__, "rows": rows}
    path.write_text(json.dumps(record, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", help="folder with mnist/ or tinyshakespeare/ inside")
    parser.add_argument("--network", choices=list(SETTINGS), default="lenet")
    parser.add_argument("--only", nargs="+", default=list(ROWS), choices=list(ROWS))
    parser.add_argument("--sparsities", type=float, nargs="+")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--tune", action="store_true")
    parser.add_argument("--table", action="store_true", help="only print the table")
    options = parser.parse_args()
    if not options.table:
        data = _load(options.data, SETTINGS[options.network].text)
        if options.tune:
            tune(options.network, options.only, data)
            return
        run(options.network, options.only, options.sparsities or list(SETTINGS[options.network].sparsities), options.seeds, data)
    print(table(options.network))


def _load(folder: str | None, text: bool) -> Dataset:
    if text:
        if folder is None:
            raise SystemExit("The text is read from DIR/tinyshakespeare/input.txt: give --data DIR.")
        return pn.data.load(str(Path(folder) / "tinyshakespeare" / "input.txt"))
    return pn.data.load("mnist", folder=None if folder is None else Path(folder) / "mnist")


if __name__ == "__main__":
    run_script(main)
