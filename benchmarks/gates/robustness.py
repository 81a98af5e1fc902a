"""Does what remains depend on the starting width, on the initialisation, on the seed? Gates with one price, three-layer perceptrons, MNIST.

    python benchmarks/gates/robustness.py --data DIR [--seeds 0 1 2 3 4]      # rows that stand in the results are not run again
    python benchmarks/gates/robustness.py --table

The price is the default of `Gates`, 1e-3 nats per example and unit. "rising": the defaults, the price begins at a tenth of that; "alike":
it is there from the first step on; "spread": so too, and θ begins between 0 and 1. The recipe is that of protocol.py: 20 epochs, test
error of the last.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Callable
from itertools import product
from pathlib import Path
from typing import Any

import torch
from protocol import sizes, stored, train, write
from torch import nn

import parsinet as pn
from parsinet.bench import put_tables, run_script
from parsinet.data import Dataset
from parsinet.methods import Gates
from parsinet.training.evaluate import evaluate

RESULTS = Path(__file__).parent / "results" / "robustness.json"
README = Path(__file__).parent / "README.md"
STARTS = ((150, 60), (300, 100), (600, 300), (1200, 600))


def kaiming_normal(weight: torch.Tensor) -> None:
    """He's, for ReLU."""
    nn.init.kaiming_normal_(weight, nonlinearity="relu")


GATES: dict[str, dict[str, Any]] = {"rising": {}, "spread": {"theta": (0.0, 1.0), "rise": 1.0}, "alike": {"rise": 1.0}}
INITIALISERS: dict[str, Callable[[torch.Tensor], object]] = {
    "He, normal": kaiming_normal,
    "Glorot, uniform": nn.init.xavier_uniform_,
    "orthogonal": nn.init.orthogonal_,
}


def network(widths: tuple[int, int], initialiser: str, seed: int) -> nn.Module:
    """784 pixels, two hidden layers, 10 classes; biases at 0."""
    torch.manual_seed(seed)
    model = pn.models.build("mlp", (1, 28, 28), 10, widths=widths)
    for module in model.modules():
        if isinstance(module, nn.Linear):
            INITIALISERS[initialiser](module.weight)
            nn.init.zeros_(module.bias)
    return model


def run(seeds: list[int], data: Dataset) -> None:
    """All rows that are not in the results yet."""
    rows = stored(RESULTS)
    for seed, name in product(seeds, GATES):
        for start in STARTS:
            for initialiser in INITIALISERS:
                key = {"gates": name, "start": list(start), "initialiser": initialiser, "seed": seed}
                if any(key.items() <= row.items() for row in rows):
                    continue
                model, told = train(Gates(seed=seed, **GATES[name]), network(start, initialiser, seed), seed, data.train)
                rows.append({**key, "test_error": evaluate(model, data.test).error, **sizes(model, data.test.inputs[:1]), **told})
                print(rows[-1], flush=True)
                write(RESULTS, rows, "robustness.py")


def table() -> str:
    """Rows per start and per initialiser, and all together."""
    lines = ["| gates | rows | runs | parameters | variation % | widths | test error % | training MACs |", "|---" * 8 + "|"]
    for name in GATES:
        rows = [row for row in stored(RESULTS) if row["gates"] == name]
        for start in STARTS:
            lines.append(_line(f"{name} | from {start[0]}-{start[1]}", [row for row in rows if row["start"] == list(start)]))
        for initialiser in INITIALISERS:
            lines.append(_line(f"{name} | {initialiser}", [row for row in rows if row["initialiser"] == initialiser]))
        lines.append(_line(f"{name} | all", rows))
    return "\n".join(lines)


def _line(name: str, rows: list[dict[str, Any]]) -> str:
    """Means; of sizes also the coefficient of variation, of widths the range, of errors the standard deviation."""
    sized = [row["parameters"] for row in rows]
    errors = [100 * row["test_error"] for row in rows]
    widths = " and ".join(f"{min(row['widths'][k] for row in rows)}–{max(row['widths'][k] for row in rows)}" for k in (1, 2))
    varied = 100 * statistics.stdev(sized) / statistics.mean(sized)
    spent = statistics.mean(row["train_macs"] for row in rows)
    return (
        f"| {name} | {len(rows)} | {statistics.mean(sized):.0f} | {varied:.1f} | {widths} "
        f"| {statistics.mean(errors):.2f} ± {statistics.stdev(errors):.2f} | {spent:.1e} |"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", help="folder with mnist/ inside")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    parser.add_argument("--table", action="store_true", help="only rewrite the table of README.md and its claims")
    options = parser.parse_args()
    if not options.table:
        run(options.seeds, pn.data.load("mnist", folder=None if options.data is None else Path(options.data) / "mnist"))
    print(table())
    if options.table:
        put_tables(README.parent.parent / "claims.yaml", README, {"robustness": table()})


if __name__ == "__main__":
    run_script(main)
