"""Dense spectral training on MNIST: error against trained parameters for every variant, settings of the published experiment.

    python benchmarks/spectral/dense.py --data DIR [--nodes 50 100 200 300] [--seeds 0 1 2] [--only NAME …] [--set published|search|ours]

784-N-N-10 with ReLU and biases, Adamax, batch 200, at most 90 epochs, the last 20 % of the training split held out; training stops when the
held-out accuracy has not risen by 0.005 for 8 epochs (set ours: one cosine instead), and the last weights are kept.
Writes results/dense-<set>.json; `--table` prints it.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

import parsinet as pn
from parsinet.bench import run_script
from parsinet.data import Batches, Dataset, Split
from parsinet.training.evaluate import evaluate
from parsinet.training.loop import fit

RESULTS = Path(__file__).parent / "results"
BATCH, EPOCHS, PATIENCE, RISE = 200, 90, 8, 0.005


@dataclass(frozen=True)
class Setting:
    """One row: what trains, from which start, how fast. variant None is the plain network."""

    name: str
    variant: str | None
    initialiser: str = "keep"
    rate: float = 0.015
    cosine: int = 0
    """Epochs of a half cosine instead of stopping early; 0 for the published rule."""


PUBLISHED = [
    Setting("dense", None, rate=0.015),
    Setting("two-set", "two-set", "p2-spectral"),
    Setting("S-SVD (random factors)", "svd-gaussian", "p2-svd"),
    Setting("S-QR (triangular)", "qr", "p2-qr", 0.005),
    Setting("S-QR (full R)", "qr-full", "p2-qr", 0.005),
]
SEARCH = [
    Setting(f"{variant} {initialiser} {rate}", variant, initialiser, rate)
    for variant, initialisers in (
        ("two-set", ("p2-spectral", "glorot", "p2-sparse-qr", "spectral-learning", "hyperspectral")),
        ("svd", ("p2-sparse-qr", "glorot", "p2-qr")),
        ("qr", ("p2-qr", "glorot", "p2-sparse-qr")),
    )
    for initialiser in initialisers
    for rate in (0.005, 0.015, 0.05)
]
OURS = [
    Setting("dense, cosine", None, rate=0.015, cosine=40),
    Setting("two-set, hyperspectral start, cosine", "two-set", "hyperspectral", 0.05, 40),
    Setting("S-SVD (true factors), P2 sparse start, cosine", "svd", "p2-sparse-qr", 0.05, 40),
    Setting("S-QR (triangular), cosine", "qr", "p2-qr", 0.05, 40),
]
"""Among the best of each variant in the search, by held-out accuracy, on one cosine over 40 epochs."""

SETS = {"published": PUBLISHED, "search": SEARCH, "ours": OURS}


def network(nodes: int, seed: int) -> nn.Sequential:
    """Glorot uniform weights, biases zero."""
    torch.manual_seed(seed)
    layers = [nn.Linear(784, nodes), nn.Linear(nodes, nodes), nn.Linear(nodes, 10)]
    for layer in layers:
        nn.init.xavier_uniform_(layer.weight)
        nn.init.zeros_(layer.bias)
    return nn.Sequential(nn.Flatten(), layers[0], nn.ReLU(), layers[1], nn.ReLU(), layers[2])


def run(setting: Setting, nodes: int, seed: int, data: Dataset) -> dict[str, Any]:
    model = network(nodes, seed)
    if setting.variant is not None:
        draws = setting.initialiser not in ("keep", "gate")
        generator = torch.Generator().manual_seed(seed) if draws else None
        pn.spectral.spectralize(model, setting.variant, initialiser=setting.initialiser, generator=generator)
    trained = pn.spectral.trained_parameters(model)
    start = time.process_time()
    epochs = train(model, setting, data, seed)
    seconds = time.process_time() - start
    assert data.validation is not None
    row = {"setting": setting.name, "nodes": nodes, "seed": seed, "trained": trained, "epochs": epochs, "cpu_seconds": round(seconds, 1)}
    row |= {"test_accuracy": 1 - evaluate(model, data.test).error, "validation_accuracy": 1 - evaluate(model, data.validation).error}
    print(row, flush=True)
    return row


def train(model: nn.Module, setting: Setting, data: Dataset, seed: int) -> int:
    """Trains until the rule says stop; returns the epochs that took."""
    assert data.validation is not None
    optimizer = torch.optim.Adamax(model.parameters(), lr=setting.rate, eps=1e-7)
    batches = Batches(data.train, BATCH, seed=seed)
    steps = setting.cosine * len(batches)
    rate = pn.training.schedule.learning_rate if steps else None
    if steps and rate:
        shape = pn.training.recipe.Cosine()
        fit(
            model,
            optimizer,
            batches,
            epochs=setting.cosine,
            learning_rate=lambda step: rate(shape, setting.rate, step, steps, len(batches)),
        )
        return setting.cosine
    best, waited = 0.0, 0
    for epoch in range(1, EPOCHS + 1):
        fit(model, optimizer, batches, epochs=epoch)
        accuracy = 1 - evaluate(model, data.validation).error
        best, waited = (accuracy, 0) if accuracy - RISE > best else (best, waited + 1)
        if waited == PATIENCE:
            break
    return epoch


def pixels(folder: str | None) -> Dataset:
    """MNIST with pixels in [0, 1]; the last 20 % of the training split is held out."""
    data = pn.data.load("mnist", folder=None if folder is None else Path(folder) / "mnist")
    inputs, targets = data.train.inputs * data.std[0] + data.mean[0], data.train.targets
    cut = len(inputs) * 4 // 5
    parts = {"train": Split(inputs[:cut], targets[:cut]), "validation": Split(inputs[cut:], targets[cut:])}
    parts["test"] = Split(data.test.inputs * data.std[0] + data.mean[0], data.test.targets)
    return Dataset(**{**{field: getattr(data, field) for field in data.__dataclass_fields__}, **parts})


def table(rows: list[dict[str, Any]]) -> str:
    """Mean ± spread over seeds; trained parameters; accuracy relative to dense at the same width."""
    sizes = sorted({row["nodes"] for row in rows})
    lines = ["| variant | N | trained | test accuracy | relative to dense | held-out accuracy | epochs | CPU s |", "|---" * 8 + "|"]
    for nodes in sizes:
        here = [row for row in rows if row["nodes"] == nodes]
        dense = [row["test_accuracy"] for row in here if row["setting"].startswith("dense")]
        for name in dict.fromkeys(row["setting"] for row in here):
            found = [row for row in here if row["setting"] == name]
            test = [row["test_accuracy"] for row in found]
            share = f"{statistics.mean(test) / statistics.mean(dense):.3f}" if dense else "–"
            held = statistics.mean(row["validation_accuracy"] for row in found)
            epochs, seconds = (statistics.mean(row[key] for row in found) for key in ("epochs", "cpu_seconds"))
            spread = f"{statistics.mean(test):.4f} ± {statistics.pstdev(test):.4f}"
            lines.append(f"| {name} | {nodes} | {found[0]['trained']:,} | {spread} | {share} | {held:.4f} | {epochs:.0f} | {seconds:.0f} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", help="folder with mnist/ inside")
    parser.add_argument("--set", default="published", choices=list(SETS))
    parser.add_argument("--only", nargs="+", help="names of settings")
    parser.add_argument("--nodes", type=int, nargs="+", default=[50, 100, 300])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--table", action="store_true", help="only print the table")
    options = parser.parse_args()
    path = RESULTS / f"dense-{options.set}.json"
    if not options.table:
        data = pixels(options.data)
        settings = [setting for setting in SETS[options.set] if options.only is None or setting.name in options.only]
        rows = [run(setting, nodes, seed, data) for seed in options.seeds for nodes in options.nodes for setting in settings]
        words = ["DIR" if i and sys.argv[i] == "--data" else word for i, word in enumerate(sys.argv[1:])]
        record = {"command": " ".join(["python", "benchmarks/spectral/dense.py", *words]), "torch": torch.__version__, "rows": rows}
        path.write_text(json.dumps(record, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    print(table(json.loads(path.read_text(encoding="utf-8"))["rows"]))


if __name__ == "__main__":
    run_script(main)
