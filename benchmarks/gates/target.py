"""Gates with a target: what is reached, and the error beside that of a uniform price tuned by hand to the same size.

    python benchmarks/gates/target.py --data DIR [--seeds 0 1 2] [--only NETWORK …]
    python benchmarks/gates/target.py --table

LeNet-300-100: 20 epochs; LeNet-5-Caffe: 4. MNIST, batch 128, Adam 2e-3 held for 36 % of the run and then one cosine to 0, weight decay
5e-4, one thread, test error of the last epoch. The uniform price is tuned by what it leaves, never by the error: at most three runs of
seed 0 per size, each at the price that the earlier ones predict, until one is within 3 %. Rows already in the results are not run again.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import time
import warnings
from pathlib import Path
from typing import Any

import torch
from protocol import stored, write
from torch import nn

import parsinet as pn
from parsinet.bench import run_script
from parsinet.data import Batches, Dataset
from parsinet.methods import Gates
from parsinet.training.evaluate import evaluate
from parsinet.training.loop import fit
from parsinet.training.recipe import Cosine
from parsinet.training.schedule import learning_rate

RESULTS = Path(__file__).parent / "results" / "target.json"
BATCH, RATE, DECAY, HOLD = 128, 2e-3, 5e-4, 0.36
EPOCHS = {"lenet-300-100": 20, "lenet-5-caffe": 4}
TARGETS = ("macs=20%", "params=10%")
FIRST = {("lenet-300-100", "macs=20%"): 5.2e-4, ("lenet-300-100", "params=10%"): 1.7e-3, ("lenet-5-caffe", "macs=20%"): 3e-3}
TRIALS = 3


def train(name: str, seed: int, data: Dataset, **options: Any) -> dict[str, Any]:
    """One run: sizes, error, widths, what the method says of itself."""
    torch.manual_seed(seed)
    model = pn.models.build(name, data.input_shape, data.num_classes)
    before = pn.measure.profile(model, data.test.inputs[:1], latency=False)
    older = {"pursuit": 0.0, "gated": 0.6, "doubt": 0.0} if "target" in options else {"rise": 1.0}  # once the defaults
    method = Gates(seed=seed, **older, **options)
    optimizer = torch.optim.Adam(method.param_groups(model), lr=RATE, weight_decay=DECAY, fused=True)
    batches = Batches(data.train, BATCH, seed=seed)
    epochs = EPOCHS[name]
    steps = epochs * len(batches)
    pruner = pn.Pruner(model, optimizer, method, data.train.inputs[:BATCH], steps=steps, examples=len(data.train))
    start = time.process_time()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        fit(model, optimizer, batches, epochs=epochs, pruner=pruner, learning_rate=lambda step: scheduled(step, steps))
    seconds = time.process_time() - start
    told = pruner.describe()
    small = pruner.finish()
    after = pn.measure.profile(small, data.test.inputs[:1], latency=False)
    return {
        "test_error": evaluate(small, data.test).error,
        "macs": after.macs / before.macs,
        "parameters": after.parameters / before.parameters,
        "widths": [m.weight.shape[0] for m in small.modules() if isinstance(m, nn.Linear | nn.Conv2d)],
        "cpu_seconds": round(seconds, 1),
        "told": {key: value for key, value in told.items() if key != "groups"},
        "warnings": [str(entry.message) for entry in caught],
    }


def scheduled(step: int, steps: int) -> float:
    """The learning rate of a step."""
    return learning_rate(Cosine(hold=HOLD), RATE, step, steps, 1)


def size(row: dict[str, Any], target: str) -> float:
    """What a run left, as a share, in the target's unit."""
    return float(row["macs" if target.startswith("macs") else "parameters"])


def near(row: dict[str, Any], target: str, wanted: float) -> bool:
    """Whether the run counts as having the size."""
    return abs(size(row, target) / wanted - 1) <= 0.03


def next_price(rows: list[dict[str, Any]], first: float, target: str, wanted: float) -> float:
    """The uniform price that the runs so far predict for a size: a straight line in logarithms through the two nearest."""
    points = sorted(
        ((math.log(size(row, target)), math.log(row["price"])) for row in rows), key=lambda point: abs(point[0] - math.log(wanted))
    )
    if not points:
        return first
    slope = -1.4 if len(points) == 1 else (points[1][1] - points[0][1]) / (points[1][0] - points[0][0] or 1e-9)
    slope = min(-0.3, max(-4.0, slope))
    return float(f"{math.exp(points[0][1] + slope * (math.log(wanted) - points[0][0])):.3g}")


def run(names: list[str], seeds: list[int], data: Dataset) -> None:
    """All rows that are not there yet."""
    rows = stored(RESULTS)
    for name in names:
        for target in TARGETS:
            for seed in seeds:
                keep(rows, name, target, "target", seed, {"target": target}, data)
            wanted = float(target.partition("=")[2].rstrip("%")) / 100
            tuned = [row for row in rows if row["network"] == name and row["target"] == target and row["kind"] == "tuning"]
            while len(tuned) < TRIALS and not any(near(row, target, wanted) for row in tuned):
                price = next_price(tuned, FIRST.get((name, target), 1e-3), target, wanted)
                tuned.append(keep(rows, name, target, "tuning", 0, {"price": price}, data))
            met = [row["price"] for row in tuned if near(row, target, wanted)]
            price = met[0] if met else next_price(tuned, 0.0, target, wanted)
            for seed in seeds:
                keep(rows, name, target, "uniform", seed, {"price": price}, data)


def keep(
    rows: list[dict[str, Any]], name: str, target: str, kind: str, seed: int, options: dict[str, Any], data: Dataset
) -> dict[str, Any]:
    """A row, from the results or from a run that is added to them."""
    key = {"network": name, "target": target, "kind": kind, "seed": seed, **options}
    found = next((row for row in rows if key.items() <= row.items()), None)
    if found is None:
        same = {**key, "kind": "tuning"}
        done = next((row for row in rows if kind == "uniform" and same.items() <= row.items()), None)
        found = {**key, **train(name, seed, data, **options)} if done is None else {**done, **key}
        rows.append(found)
        print(json.dumps(found), flush=True)
        write(RESULTS, rows, "target.py")
    return found


def table() -> str:
    """Means over seeds, smallest and largest in brackets."""
    lines = ["| network | wanted | gates | seeds | MACs % | parameters % | test error % | widths (seed 0) |", "|---" * 8 + "|"]
    rows = [row for row in stored(RESULTS) if row["kind"] != "tuning"]
    for name, target, kind in dict.fromkeys((row["network"], row["target"], row["kind"]) for row in rows):
        same = [row for row in rows if (row["network"], row["target"], row["kind"]) == (name, target, kind)]
        how = "target" if kind == "target" else f"price {same[0]['price']:g}"
        cells = [spread([100 * row[key] for row in same]) for key in ("macs", "parameters", "test_error")]
        first = next(row for row in same if row["seed"] == 0)
        lines.append(f"| {name} | {target} | {how} | {len(same)} | {' | '.join(cells)} | {'-'.join(map(str, first['widths']))} |")
    return "\n".join(lines)


def spread(values: list[float]) -> str:
    return f"{statistics.mean(values):.2f} ({min(values):.2f}–{max(values):.2f})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", help="folder with mnist/ inside")
    parser.add_argument("--only", nargs="+", default=list(EPOCHS), choices=list(EPOCHS))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--table", action="store_true", help="only print the table")
    options = parser.parse_args()
    torch.set_num_threads(1)
    if not options.table:
        run(options.only, options.seeds, pn.data.load("mnist", folder=None if options.data is None else Path(options.data) / "mnist"))
    print(table())


if __name__ == "__main__":
    run_script(main)
