"""A trained network made smaller in a third of its training: LeNet-5-Caffe on MNIST, by gates, by cuts, or anew from scratch.

    python benchmarks/gates/trained.py --data DIR [--seeds 0 1 2 3 4] [--only ROW …]
    python benchmarks/gates/trained.py --table

A dense network trains for 10 epochs as in lenet.py. Every row begins with a copy of it (of its seed) and has 3 epochs: batch 128, Adam
1e-3 held for 36 % of them and then one cosine to 0, weight decay 5e-4 in the gradient, test error of the last epoch. "dense": it trains on
as it is. "Gates" are told the multiply-adds, on their defaults; "magnitude" too, in one cut at the first step, "gradual" bit by bit over
the first half; Torch-Pruning cuts before the first step (group magnitude, uniform). "scratch" has the widths that Gates left and trains
for 13 epochs, all that the others had. Rows that stand in results/trained.json are not run again; a seed's dense network trains anew
where one of its rows is missing. --table puts the table in README.md and its claims in ../claims.yaml in line with the results.
"""

from __future__ import annotations

import argparse
import copy
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from lenet_rows import SETTINGS
from peers import cut, has_torch_pruning, share_for
from protocol import Costs, Recipe, sizes, stored, train, write
from torch import nn

import parsinet as pn
from parsinet.baselines import MagnitudeUnits
from parsinet.bench import put_tables, run_script
from parsinet.data import Dataset, Split
from parsinet.methods import Dense, Gates, Method
from parsinet.training.evaluate import evaluate
from parsinet.training.loop import fit

RESULTS = Path(__file__).parent / "results" / "trained.json"
README = Path(__file__).parent / "README.md"
SETTING, EPOCHS = SETTINGS["lenet-5-caffe"], 3
RECIPE = replace(Recipe(), rate=1e-3)
SIZES = (600_000, 250_000)
METHODS: dict[str, Callable[[int, int], Method]] = {
    "Gates": lambda macs, seed: Gates(target=f"macs={macs}", seed=seed),
    "magnitude": lambda macs, seed: MagnitudeUnits(target=f"macs={macs}", begin=0.0, end=0.0),
    "magnitude, gradual": lambda macs, seed: MagnitudeUnits(target=f"macs={macs}", begin=0.0, end=0.5),
}
ROWS = (*METHODS, "Torch-Pruning", "scratch")


def job(name: str, macs: int, seed: int, dense: nn.Sequential, data: Split, widths: list[int]) -> tuple[nn.Module, dict[str, Any]]:
    """One row. widths: those that Gates left, for the one from scratch."""
    if name == "scratch":
        return train(Dense(), SETTING.network(seed, widths), seed, data, epochs=SETTING.epochs + EPOCHS)
    if name == "Torch-Pruning":
        return torch_pruning(macs, dense, seed, data)
    return train(METHODS[name](macs, seed), copy.deepcopy(dense), seed, data, epochs=EPOCHS, recipe=RECIPE)


def torch_pruning(macs: int, dense: nn.Sequential, seed: int, data: Split) -> tuple[nn.Module, dict[str, Any]]:
    """Cut, then train."""
    example, last = data.inputs[:1], [str(len(dense) - 1)]
    smaller = lambda share: cut(copy.deepcopy(dense), example, share, last)  # noqa: E731
    model, batches, costs = smaller(share_for(macs, smaller, example)), RECIPE.batches(data, seed), Costs(example)
    start, optimizer = time.process_time(), RECIPE.optimizer(Dense().param_groups(model), RECIPE.rate)
    rate = partial(RECIPE.scheduled, steps=EPOCHS * len(batches))
    fit(model, optimizer, batches, epochs=EPOCHS, learning_rate=rate, callbacks=[costs])
    return model, {"cpu_seconds": round(time.process_time() - start, 1), "train_macs": costs.spent}


def run(names: list[str], seeds: list[int], data: Dataset) -> None:
    """All rows that are not in the results yet, and for every seed the dense network before and after further training."""
    rows = stored(RESULTS)

    def add(name: str, macs: int, seed: int, model: nn.Module, told: dict[str, Any]) -> None:
        error = evaluate(model, data.test).error
        rows.append({"row": name, "macs_wanted": macs, "seed": seed, "test_error": error, **sizes(model, data.test.inputs[:1]), **told})
        print(rows[-1], flush=True)
        write(RESULTS, rows, "trained.py")

    for seed in seeds:
        there = {(row["row"], row["macs_wanted"]): row for row in rows if row["seed"] == seed}
        wanted = [(name, macs) for macs in SIZES for name in names if (name, macs) not in there]
        if not wanted:
            continue
        dense, told = train(Dense(), SETTING.network(seed), seed, data.train, epochs=SETTING.epochs)
        assert isinstance(dense, nn.Sequential)
        if ("dense, before", 0) not in there:
            add("dense, before", 0, seed, dense, told)
            add("dense", 0, seed, *train(Dense(), copy.deepcopy(dense), seed, data.train, epochs=EPOCHS, recipe=RECIPE))
        for name, macs in wanted:
            gates = next((row for row in rows if (row["row"], row["macs_wanted"], row["seed"]) == ("Gates", macs, seed)), None)
            if (name == "scratch" and gates is None) or (name == "Torch-Pruning" and not has_torch_pruning()):
                needs = "the row of Gates" if name == "scratch" else 'Torch-Pruning (pip install "parsinet[peers]")'
                print(f"{name}: left out; it needs {needs}", flush=True)
                continue
            add(name, macs, seed, *job(name, macs, seed, dense, data.train, gates["widths"] if gates else []))


def table(rows: list[dict[str, Any]]) -> str:
    """Means over seeds, smallest and largest error in brackets."""
    lines = ["| multiply-adds wanted | row | seeds | test error % | MACs | parameters | CPU s | training MACs |", "|---" * 8 + "|"]
    for macs in (0, *SIZES):
        for name in ("dense, before", "dense", *ROWS):
            same = [row for row in rows if (row["row"], row["macs_wanted"]) == (name, macs)]
            if not same:
                continue
            errors = [100 * row["test_error"] for row in same]
            mean = {key: statistics.mean(row[key] for row in same) for key in ("macs", "parameters", "cpu_seconds", "train_macs")}
            error = f"{statistics.mean(errors):.2f} ({min(errors):.2f}–{max(errors):.2f})"
            lines.append(
                f"| {f'{macs:,}' if macs else '–'} | {name} | {len(same)} | {error}"
                f" | {mean['macs']:,.0f} | {mean['parameters']:,.0f} | {mean['cpu_seconds']:.0f} | {mean['train_macs']:.2e} |"
            )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", help="folder with mnist/ inside")
    parser.add_argument("--only", nargs="+", default=list(ROWS), choices=ROWS)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    parser.add_argument("--table", action="store_true", help="only rewrite the table of README.md and its claims")
    options = parser.parse_args()
    torch.set_num_threads(1)
    if not options.table:
        if options.data is None:
            sys.exit("Name the folder that holds mnist/ with --data.")
        run(options.only, options.seeds, pn.data.load("mnist", folder=Path(options.data) / "mnist"))
    print(table(stored(RESULTS)))
    if options.table:
        put_tables(README.parent.parent / "claims.yaml", README, {"trained": table(stored(RESULTS))})


if __name__ == "__main__":
    run_script(main)
