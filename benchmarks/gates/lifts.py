"""Do a teacher and the mean of the last weights lower the error at a given size? LeNet-300-100, MNIST, 10,000 held-out training images.

    python benchmarks/gates/lifts.py --data DIR [--seeds 0 1 2] [--teachers nobody "earlier self" dense]
    python benchmarks/gates/lifts.py --table

The recipe is that of protocol.py: 20 epochs, error of the last on images that are held out of the training split; the test split is never
looked at. Gates are told the size, magnitude cuts at the end of the held rate. Teachers: nobody; the network's own earlier self, averaged
up to 30 % of the run with gates and up to the cut with magnitude; a dense network of the same seed, trained by the same recipe. Averages
do not touch the training, so that every run is judged with its last weights and with each of them. Rows that stand in the results are not
run again.
"""

from __future__ import annotations

import argparse
import copy
import statistics
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from lenet_rows import SETTINGS
from protocol import BATCH, DECAY, HOLD, RATE, Costs, scheduled, sizes, stored, write
from torch import nn

import parsinet as pn
from parsinet import baselines
from parsinet.bench import put_tables, run_script
from parsinet.data import Batches, Dataset, Split
from parsinet.methods import Dense, Gates, Method
from parsinet.training import Average, Callback, LoopState, Teacher, evaluate, fit

RESULTS = Path(__file__).parent / "results" / "lifts.json"
README = Path(__file__).parent / "README.md"
SETTING = SETTINGS["lenet-300-100"]
STEPS = SETTING.epochs * -(-50_000 // BATCH)
OLDER: dict[str, Any] = {"pursuit": 0.0, "gated": 0.6, "fall_steps": STEPS // 10}
"""The defaults at the time of the rows."""
METHODS: dict[str, Callable[[int], Method]] = {
    "Gates, params=45k": lambda seed: Gates(target="params=45k", seed=seed, **OLDER),
    "Gates, params=25k": lambda seed: Gates(target="params=25k", seed=seed, **OLDER),
    "magnitude, share .896": lambda seed: baselines.MagnitudeUnits(share=0.896, begin=HOLD, end=HOLD),
}
TEACHERS = ("nobody", "earlier self", "dense")
AVERAGES: dict[str, dict[str, Any]] = {
    "mean of the last 10 %": {"begin": round(0.9 * STEPS)},
    "mean of the last 25 %": {"begin": round(0.75 * STEPS)},
}


class Averages(Callback):
    """Several averages of one training."""

    def __init__(self) -> None:
        self.averages = {name: Average(**options) for name, options in AVERAGES.items()}

    def on_step(self, state: LoopState) -> None:
        for average in self.averages.values():
            average.step(state.model, state.settled)


def train(
    method: Method, model: nn.Module, teacher: Teacher | None, seed: int, parts: tuple[Split, Split]
) -> tuple[nn.Module, dict[str, Any]]:
    """One run; the network with its last weights, and what every choice of weights is worth."""
    split, held_out = parts
    optimizer = torch.optim.Adam(method.param_groups(model), lr=RATE, weight_decay=DECAY, fused=True)
    folding: dict[str, Any] = {} if method.silences or method.settled else {"fold": "mean", "fold_inputs": [split.inputs[::60]]}
    pruner = pn.Pruner(model, optimizer, method, split.inputs[:2], steps=STEPS, examples=len(split), **folding)
    costs, averages = Costs(split.inputs[:1]), Averages()
    fit(
        model,
        optimizer,
        Batches(split, BATCH, seed=seed),
        epochs=SETTING.epochs,
        pruner=pruner,
        teacher=teacher,
        learning_rate=lambda step: scheduled(step, STEPS),
        callbacks=[costs, averages],
    )
    lean = pruner.finish()
    told = {"error": evaluate(lean, held_out).error, "loss": evaluate(lean, held_out).loss, "averages": {}}
    for name, average in averages.averages.items():
        averaged = copy.deepcopy(lean)
        average.finish(averaged)
        told["averages"][name] = evaluate(averaged, held_out).error
    told |= {**sizes(lean, split.inputs[:1]), "train_macs": costs.spent}
    if teacher is not None and teacher.network is not None:
        told["teacher_network"] = {**sizes(teacher.network, split.inputs[:1]), "error": evaluate(teacher.network, held_out).error}
        told["train_macs"] += teacher.examples * told["teacher_network"]["macs"]
    return lean, told


def run(seeds: list[int], teachers: list[str], data: Dataset) -> None:
    """All rows that are not in the results yet."""
    order = torch.randperm(len(data.train), generator=torch.Generator().manual_seed(0))
    training, held_out = (Split(data.train.inputs[part], data.train.targets[part]) for part in (order[10_000:], order[:10_000]))
    rows = stored(RESULTS)
    for seed in seeds:
        missing = [key for key in _keys(seed, teachers) if not any(key.items() <= row.items() for row in rows)]
        trained = None
        if any("dense" in key.values() for key in missing):
            trained, told = train(Dense(), SETTING.network(seed), None, seed, (training, held_out))
            missing = [{**key, **told} if key["method"] == "dense" else key for key in missing]
        for key in missing:
            if key["method"] != "dense":
                method, model = METHODS[key["method"]](seed), SETTING.network(seed)
                key |= train(method, model, _teacher(key["teacher"], method, model, trained), seed, (training, held_out))[1]
            rows.append(key)
            print(rows[-1], flush=True)
            write(RESULTS, rows, "lifts.py")


def _keys(seed: int, teachers: list[str]) -> Iterator[dict[str, Any]]:
    if "dense" in teachers:
        yield {"method": "dense", "teacher": "nobody", "seed": seed}
    for method in METHODS:
        for teacher in teachers:
            yield {"method": method, "teacher": teacher, "seed": seed}


def _teacher(name: str, method: Method, model: nn.Module, trained: nn.Module | None) -> Teacher | None:
    if name == "nobody":
        return None
    if name == "dense" and trained is not None:
        return Teacher(trained)
    return Teacher.earlier_self(model, begin=round(0.3 * STEPS) if isinstance(method, Gates) else None)


def table() -> str:
    """Means over seeds, smallest and largest error in brackets."""
    rows = stored(RESULTS)
    heads = (
        "method",
        "teacher",
        "its error %",
        "seeds",
        "error %, last weights",
        *AVERAGES,
        "loss",
        "parameters",
        "training MACs",
    )
    lines = ["| " + " | ".join(heads) + " |", "|---" * len(heads) + "|"]
    for method, teacher in dict.fromkeys((row["method"], row["teacher"]) for row in rows):
        same = [row for row in rows if (row["method"], row["teacher"]) == (method, teacher)]
        mean = {key: statistics.mean(row[key] for row in same) for key in ("loss", "parameters", "train_macs")}
        taught = [row["teacher_network"]["error"] for row in same if "teacher_network" in row]
        cells = [
            method,
            teacher,
            f"{100 * statistics.mean(taught):.2f}" if taught else "–",
            str(len(same)),
            _spread([r["error"] for r in same]),
        ]
        cells += [_spread([row["averages"][name] for row in same]) for name in AVERAGES]
        cells += [f"{mean['loss']:.4f}", f"{mean['parameters']:.0f}", f"{mean['train_macs']:.2e}"]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _spread(errors: list[float]) -> str:
    low, mean, high = (100 * value for value in (min(errors), statistics.mean(errors), max(errors)))
    return f"{mean:.2f} ({low:.2f}–{high:.2f})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", help="folder with mnist/ inside")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--teachers", nargs="+", choices=TEACHERS, default=list(TEACHERS))
    parser.add_argument("--table", action="store_true", help="only rewrite the table of README.md and its claims")
    options = parser.parse_args()
    if not options.table:
        run(options.seeds, options.teachers, pn.data.load("mnist", folder=None if options.data is None else Path(options.data) / "mnist"))
    print(table())
    if options.table:
        put_tables(README.parent.parent / "claims.yaml", README, {"lifts": table()})


if __name__ == "__main__":
    run_script(main)
