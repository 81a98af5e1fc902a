"""Gates against other structured pruning: the two LeNets on MNIST, error over parameters and over multiply-adds.

    python benchmarks/gates/lenet.py --data DIR [--network lenet-5-caffe] [--inputs] --tune
    python benchmarks/gates/lenet.py --data DIR [--network lenet-5-caffe] [--inputs] [--seeds 0 1 2] [--only METHOD …]
    python benchmarks/gates/lenet.py [--network lenet-5-caffe] --table | --plot [--inputs]

One recipe for all: 20 epochs (LeNet-5-Caffe 10; lenet-5-caffe-20-epochs is the same network at 20, for three sizes), batch 128, Adam
2e-3 held for 36 % of the run and then one cosine to 0, weight decay 5e-4 in the gradient, test error of the last epoch. "-shifted":
images are moved by up to one pixel each way, new at every step; LeNet-300-100 has 40 epochs there, LeNet-5-Caffe 15, and methods with a
price have the strengths of the trials without shifts and are told the size; lenet-300-100-shifted-100-epochs is the same at 100, for the
size of one published network. --tune: strengths.
Each method with one gets trials, seed 0, 10,000 training images held out: a first guess, then one trial per wanted size at the strength
that the trials so far predict for it; the strengths that all of them predict are those of the other runs. Methods that are told a share
or a size need no trial. --inputs: pixels may leave as well; rows that cannot let them go are left out. Rows already in the results are
not run again. --table puts the tables of README.md and their claims in ../claims.yaml in line with the results.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Iterable
from itertools import pairwise, repeat
from pathlib import Path
from typing import Any

import torch
from lenet_results import equal, plot, table
from lenet_rows import ALONE, NAMES, ROWS, SETTINGS, Setting
from peers import has_torch_pruning, torch_pruning
from protocol import sizes, stored, train, write
from torch import nn

import parsinet as pn
from parsinet.bench import put_tables, run_script
from parsinet.data import Dataset, Split
from parsinet.methods import Dense
from parsinet.structure.record import from_ranges
from parsinet.training.evaluate import evaluate

RESULTS = Path(__file__).parent / "results"
README = Path(__file__).parent / "README.md"


def job(
    name: str, strength: float, seed: int, inputs: bool, split: Split, model: nn.Sequential, setting: Setting, target: int | None = None
) -> tuple[nn.Module, dict[str, Any]]:
    """One row of the table, from a new network. target: parameters that a method with a price is told to end with."""
    epochs, recipe = setting.epochs, setting.recipe
    if name == "Torch-Pruning":
        begin = round(recipe.hold * epochs) * len(recipe.batches(split, seed))  # the end of an epoch
        fixed = [str(len(model) - 1)]
        lean, told = torch_pruning(lambda _: strength, model, seed, split, epochs=epochs, recipe=recipe, fixed=fixed, begin=begin)
        return lean, {key: told[key] for key in told if key != "share"}
    if name in ALONE:
        return train(Dense(), model, seed, split, epochs=epochs, recipe=recipe)
    row = ROWS[name]
    fold = "mean" if inputs and row.fold else row.fold  # pixels are no constants
    told = {} if target is None else {"target": f"params={target}"}
    return train(row.build(strength, seed, inputs, **told), model, seed, split, epochs=epochs, fold=fold, recipe=recipe)


def tune(network: str, names: list[str], inputs: bool, data: Dataset) -> None:
    """One trial at the first guess and one per wanted size."""
    setting, order = SETTINGS[network], torch.randperm(len(data.train), generator=torch.Generator().manual_seed(0))
    parts = [Split(data.train.inputs[part], data.train.targets[part]) for part in (order[10_000:], order[:10_000])]
    path = RESULTS / f"{network}-tuning.json"
    rows = stored(path)
    for name in names:
        if name in ALONE or ROWS[name].strength != "price":
            continue
        for target in (None, *setting.wanted(inputs)):
            mine = [row for row in rows if row["method"] == name and row["inputs"] == inputs]
            if any(row["target"] == target for row in mine):
                continue
            strength = ROWS[name].first if target is None else predicted(mine, target)
            model, told = job(name, strength, 0, inputs, parts[0], setting.network(0), setting)
            error = evaluate(model, parts[1]).error
            rows.append({"method": name, "inputs": inputs, "target": target, "strength": strength, "validation_error": error})
            rows[-1] |= {**sizes(model, data.test.inputs[:1]), **told}
            print(rows[-1], flush=True)
            write(path, rows, "lenet.py")


def predicted(trials: list[dict[str, Any]], target: int) -> float:
    """The strength for a size by the trials: straight lines of log size over log strength, the outer ones lengthened."""
    points = sorted({math.log(row["strength"]): math.log(row["parameters"]) for row in trials}.items())
    if len(points) == 1:
        return _rounded(math.exp(points[0][0] + (points[0][1] - math.log(target))))
    inside = [pair for pair in pairwise(points) if pair[0][1] >= math.log(target) >= pair[1][1]]
    (x0, y0), (x1, y1) = inside[0] if inside else (points[:2] if math.log(target) > points[0][1] else points[-2:])
    slope = min(-0.2, max(-3.0, (y1 - y0) / (x1 - x0)))
    near = (x0, y0) if abs(y0 - math.log(target)) < abs(y1 - math.log(target)) else (x1, y1)
    return _rounded(math.exp(near[0] + (math.log(target) - near[1]) / slope))


def _rounded(value: float) -> float:
    return float(f"{value:.2g}")


def strengths(network: str, name: str, inputs: bool) -> list[float]:
    """One per wanted size, from the trials or from the size itself."""
    targets = SETTINGS[network].wanted(inputs)
    if name in ("dense", "Torch-Pruning") and inputs:
        return []
    if name == "dense":
        return [0.0]
    if name in ROWS and ROWS[name].strength == "macs":
        return [float(count) for count in SETTINGS[network].macs]
    kind = {"scratch": "size", "Torch-Pruning": "share"}.get(name) or ROWS[name].strength
    if kind != "price":
        return [share_for(SETTINGS[network], target, inputs) if kind == "share" else float(target) for target in targets]
    tuned = SETTINGS[network].tuned or network
    trials = [row for row in stored(RESULTS / f"{tuned}-tuning.json") if row["method"] == name and row["inputs"] == inputs]
    if not trials:
        sys.exit(f"There are no strengths for {name} yet: run with --tune first.")
    return [predicted(trials, target) for target in targets]


def told_sizes(setting: Setting, name: str, inputs: bool) -> Iterable[int | None]:
    """For every strength the number of parameters that the method is told beside it, if any."""
    price = setting.tuned and name in ROWS and ROWS[name].strength == "price"
    return setting.wanted(inputs) if price else repeat(None)


def share_for(setting: Setting, target: int, inputs: bool) -> float:
    """The share of units of every layer that has to leave for a size."""
    low, high = 0.0, 1.0
    for _ in range(20):
        middle = (low + high) / 2
        low, high = (middle, high) if setting.parameters(middle, inputs) > target else (low, middle)
    return round(high, 3)


def run(network: str, names: list[str], seeds: list[int], inputs: bool, data: Dataset) -> None:
    """All rows that are not in the results yet."""
    path, setting = RESULTS / f"{network}.json", SETTINGS[network]
    rows = stored(path)
    for seed in seeds:
        for name in names:
            if name == "Torch-Pruning" and not has_torch_pruning():
                print('Torch-Pruning is not installed (pip install "parsinet[peers]"): left out', flush=True)
                continue
            for strength, target in zip(strengths(network, name, inputs), told_sizes(setting, name, inputs), strict=False):
                key = {"method": name, "inputs": inputs, "strength": strength, "seed": seed}
                if any(key.items() <= row.items() for row in rows):
                    continue
                start = _small(setting, rows, key) if name == "scratch" else setting.network(seed)
                if start is None:
                    print("scratch needs the rows of Gates of the same seed: left out", flush=True)
                    continue
                model, told = job(name, strength, seed, inputs, data.train, start, setting, target)
                error = evaluate(model, data.test).error
                rows.append({**key, "test_error": error, **sizes(model, data.test.inputs[:1]), **told})
                print(rows[-1], flush=True)
                write(path, rows, "lenet.py")


def _small(setting: Setting, rows: list[dict[str, Any]], key: dict[str, Any]) -> nn.Sequential | None:
    """A new network with the widths and pixels that Gates left at that size and seed."""
    wanted = {**key, "method": setting.leader}
    mine = [row for row in rows if wanted.items() <= row.items()]
    return setting.network(key["seed"], mine[0]["widths"], from_ranges(mine[0].get("pixels", []))) if mine else None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", help="folder with mnist/ inside")
    parser.add_argument("--network", choices=SETTINGS, default="lenet-300-100")
    parser.add_argument("--only", nargs="+", choices=NAMES)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--inputs", action="store_true", help="pixels may leave too")
    parser.add_argument("--tune", action="store_true")
    parser.add_argument("--table", action="store_true", help="only rewrite the tables of README.md and their claims")
    parser.add_argument("--plot", action="store_true", help="only draw the curves")
    options = parser.parse_args()
    if options.inputs and not options.network.startswith("lenet-300-100"):
        sys.exit("Pixels can leave LeNet-300-100 only: a convolution reads them all.")
    names = options.only or SETTINGS[options.network].rows
    if not (options.table or options.plot):
        data = pn.data.load("mnist", folder=None if options.data is None else Path(options.data) / "mnist")
        if options.tune:
            return tune(options.network, names, options.inputs, data)
        run(options.network, names, options.seeds, options.inputs, data)
    rows = stored(RESULTS / f"{options.network}.json")
    tables = {options.network: table(rows)}
    setting = SETTINGS[options.network]
    for inputs in sorted({row["inputs"] for row in rows}) if setting.curves else ():
        name = f"{options.network} at equal size, pixels {'leave' if inputs else 'stay'}"
        tables[name] = equal(rows, inputs, setting.wanted(inputs))
    if setting.macs and setting.curves:
        tables[f"{options.network} at equal multiply-adds"] = equal(rows, False, setting.macs, "macs")
    print("\n\n".join(tables.values()))
    if options.table:
        put_tables(README.parent.parent / "claims.yaml", README, tables)
    elif setting.curves:
        path = RESULTS / f"{options.network}{'-inputs' if options.inputs else ''}.png"
        print(plot(rows, options.inputs, NAMES, path))
    return None


if __name__ == "__main__":
    run_script(main)
