"""Gates with a target: prices that keep a network's shape even, gates that doubt noisy estimates; 5,000 held-out images of CIFAR-10.

    python benchmarks/gates/evenness.py --data DIR [--network resnet-20|vgg-small] [--seeds 0 1 2]
    python benchmarks/gates/evenness.py [--network …] --table

The networks of curves.py, their recipe and their 8,000 training images, ResNet-20 at half the resolution (16 × 16 pixels: a run takes a
minute), to 40 % of the multiply-adds. "narrow" is a dense network of a smaller width from scratch, "widths left" one with the widths that
the first row of gates left at that seed. No test image is looked at. Rows that stand in the results are not run again.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from protocol import stored, train, write
from settings import SETTINGS, build, of_widths
from torch import nn
from torch.nn import functional as F

import parsinet as pn
from parsinet.bench import put_tables, run_script
from parsinet.data import Augmentation, Dataset, Split
from parsinet.methods import Dense, Gates
from parsinet.structure import trace
from parsinet.training.evaluate import evaluate

RESULTS = Path(__file__).parent / "results"
README = Path(__file__).parent / "README.md"
TARGET, HELD_OUT = "macs=40%", 5_000
SURE: Mapping[str, Any] = {"doubt": 0.0, "gated": 0.4}
FIRST = "Gates, `doubt=0`"
VARIANTS: Mapping[str, Mapping[str, Any]] = {
    FIRST: SURE,
    "Gates, `evenness=4`": {**SURE, "evenness": 4.0},
    "Gates, `gated=0.6, clamp=1`": {"doubt": 0.0, "gated": 0.6, "clamp": 1.0},
    "Gates, `doubt=2`": {"doubt": 2.0, "gated": 0.4},
    "Gates, `doubt=2, gated=0.7`": {"doubt": 2.0, "gated": 0.7},
    "Gates, `doubt=2, gated=0.9`": {"doubt": 2.0, "gated": 0.9},
    "Gates, `doubt=2, evenness=4`": {"doubt": 2.0, "gated": 0.4, "evenness": 4.0},
    "Gates, `doubt=2, gated=0.7, evenness=4`": {"doubt": 2.0, "gated": 0.7, "evenness": 4.0},
    "Gates, `doubt=2, gated=0.7, evenness=16`": {"doubt": 2.0, "gated": 0.7, "evenness": 16.0},
    "Gates, `doubt=2, evenness=4, theta=0.9`": {"doubt": 2.0, "gated": 0.4, "evenness": 4.0, "theta": 0.9},
}
ROWS = ("narrow", *VARIANTS, "widths left")
EVEN = (", gated=0.7, evenness=4", ", gated=0.7, evenness=16")


@dataclass(frozen=True)
class Case:
    """What is tried on a network. results: where its rows are kept. pool: pixels of a side that become one. narrow: width of the row of
    that name."""

    title: str
    results: str
    pool: int
    narrow: int
    rows: tuple[str, ...]


CASES = {
    "resnet-20": Case("Noise and shape", "evenness", 2, 10, ROWS),
    "vgg-small": Case(
        "Noise and shape, VGG-Small",
        "evenness-vgg-small",
        1,
        20,
        ("narrow", FIRST, *(f"Gates, `doubt=2{more}`" for more in ("", ", gated=0.7", ", gated=0.9", *EVEN))),
    ),
}


def load(network: str, folder: Path | None) -> tuple[Dataset, Split]:
    """The data of curves.py, pooled, and training images that no network is trained on."""
    pool, whole = CASES[network].pool, pn.data.load("cifar10", folder=None if folder is None else folder / "cifar10-jpeg")
    examples = SETTINGS[network].examples
    order = torch.randperm(len(whole.train), generator=torch.Generator().manual_seed(0))

    def pooled(rows: torch.Tensor) -> Split:
        return Split(F.avg_pool2d(whole.train.inputs[rows], pool), whole.train.targets[rows])

    return Dataset(**{**whole.__dict__, "train": pooled(order[:examples])}), pooled(order[examples : examples + HELD_OUT])


def job(network: str, name: str, seed: int, data: Dataset, earlier: list[dict[str, Any]]) -> tuple[nn.Module, dict[str, Any]]:
    """One run; the last epoch's network and what it cost."""
    setting, case = SETTINGS[network], CASES[network]
    recipe = replace(setting.recipe, augment=Augmentation(crop_padding=4 // case.pool, flip=True))
    if name in VARIANTS:
        method, model = Gates(seed=seed, target=TARGET, **VARIANTS[name]), build(network, seed, data)
        return train(method, model, seed, data.train, epochs=setting.epochs, recipe=recipe)
    left = [row["widths"] for row in earlier if row["row"] == FIRST and row["seed"] == seed]
    model = build(network, seed, data, width=case.narrow) if name == "narrow" else of_widths(network, seed, data, left[0])
    return train(Dense(), model, seed, data.train, epochs=setting.epochs, recipe=recipe)


def run(network: str, name: str, seed: int, data: Dataset, held_out: Split, earlier: list[dict[str, Any]]) -> dict[str, Any]:
    """One training; the last epoch's error on the held-out images, sizes, the multiply-adds spent."""
    model, told = job(network, name, seed, data, earlier)
    result = evaluate(model, held_out, batch_size=500)
    structure = trace(model, data.train.inputs[:2])
    return {
        "row": name,
        "seed": seed,
        "held_out_error": result.error,
        "held_out_loss": result.loss,
        "macs": pn.measure.macs(model, data.train.inputs[:1]),
        "widths": {group.name: group.size for group in structure.groups if group.removable},
        **told,
    }


def table(title: str, rows: list[dict[str, Any]]) -> str:
    """Means over seeds; smallest and largest error in brackets."""
    lines = [f"| {title} | seeds | held-out error % | held-out loss | MACs | training MACs | CPU s |", "|---|---|---|---|---|---|---|"]
    for name in ROWS:
        own = [row for row in rows if row["row"] == name]
        if own:
            errors = [100 * row["held_out_error"] for row in own]
            mean = {key: statistics.mean(row[key] for row in own) for key in ("held_out_loss", "macs", "train_macs", "cpu_seconds")}
            lines.append(
                f"| {name} | {len(own)} | {statistics.mean(errors):.2f} ({min(errors):.2f}–{max(errors):.2f}) "
                f"| {mean['held_out_loss']:.3f} | {mean['macs']:,.0f} | {mean['train_macs']:.2e} | {mean['cpu_seconds']:.0f} |"
            )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="folder with cifar10-jpeg/ inside")
    parser.add_argument("--network", choices=CASES, default="resnet-20")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--only", nargs="+", choices=ROWS, help="rows to run; by default all of the network")
    parser.add_argument("--table", action="store_true", help="only print the table, and put it in README.md and claims.yaml")
    options = parser.parse_args()
    case = CASES[options.network]
    path = RESULTS / f"{case.results}.json"
    rows = stored(path)
    if not options.table:
        if options.data is None:
            sys.exit("--data DIR is needed to train.")
        data, held_out = load(options.network, options.data)
        for seed in options.seeds:
            for name in options.only or case.rows:
                if any((row["row"], row["seed"]) == (name, seed) for row in rows):
                    continue
                rows.append(run(options.network, name, seed, data, held_out, rows))
                print(json.dumps(rows[-1]), flush=True)
                write(path, rows, "evenness.py")
    print(table(case.title, rows))
    if options.table:
        put_tables(README.parent.parent / "claims.yaml", README, {case.title: table(case.title, rows)})


if __name__ == "__main__":
    run_script(main)
