"""How gates come to 0 or 1: ways to decide and estimators, LeNet-300-100 on MNIST; and (estimators.py) estimates beside exact flips.

    python benchmarks/gates/convergence.py --data DIR [--seeds 0 1 2] [--only ROW …]
    python benchmarks/gates/convergence.py --data DIR --test           the default, 60,000 images to train, test error
    python benchmarks/gates/convergence.py --data DIR --estimators     correlation with exact flips
    python benchmarks/gates/convergence.py --data DIR --time           what deciding by flips costs: pairs of runs in alternation
    python benchmarks/gates/convergence.py --table

20 epochs, batch 128, Adam 2e-3 held for 36 % of the steps, then one cosine to 0; weight decay 5e-4; one thread. Rows are compared on 10,000
training images that are held out; the test set is read by --test alone. Undecided shares and the jump are taken one step before the gated
phase ends, the worth of the survivors in the final network. They write results/convergence.json, row by row, results/estimators.json and
results/convergence-time.json.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from functools import partial
from pathlib import Path
from typing import Any

import torch
from convergence_table import table
from estimators import estimators
from protocol import BATCH, DECAY, RATE, scheduled, stored
from torch import Tensor, nn
from torch.nn import functional as F

import parsinet as pn
from parsinet.bench import put_tables, run_script
from parsinet.data import Batches, Split
from parsinet.gates import open_units
from parsinet.methods import Gates
from parsinet.training.evaluate import evaluate
from parsinet.training.loop import fit
from parsinet.training.state import Callback, LoopState

RESULTS = Path(__file__).parent / "results"
README = Path(__file__).parent / "README.md"
EPOCHS, PRICE = 20, 1e-3
ROWS: dict[str, dict[str, Any]] = {
    "flips": {},
    "absorb": {"decide": "absorb"},
    "round": {"decide": "round"},
    "flips, straight-through": {"estimator": "straight-through"},
    "absorb, straight-through": {"estimator": "straight-through", "decide": "absorb"},
    "round, straight-through": {"estimator": "straight-through", "decide": "round"},
    "flips, a draw per example": {"draws": "example"},
    "round, a draw per example": {"draws": "example", "decide": "round"},
    "flips, drawn labels": {"estimator": "drawn-labels"},
    "round, drawn labels": {"estimator": "drawn-labels", "decide": "round"},
    "flips, disarm": {"estimator": "disarm"},
    "round, disarm": {"estimator": "disarm", "decide": "round"},
    "flips, arm": {"estimator": "arm"},
    "round, arm": {"estimator": "arm", "decide": "round"},
    "flips, disarm, no clamp": {"estimator": "disarm", "clamp": None},
}
SHORT = 4


class Watch(Callback):
    """Looks at the gates one step before the gated phase ends."""

    def __init__(self, method: Gates, last: int, held: Split) -> None:
        self.method, self.last, self.held = method, last, held
        self.told: dict[str, Any] = {}
        self.seconds = 0.0

    def on_step(self, state: LoopState) -> None:
        if state.step != self.last - 1:
            return
        begin = time.process_time()
        bank, model = self.method._bank, state.model
        theta = bank.theta.clone()
        rounded = torch.cat([open_units(t, use).to(theta) for _, t, use in bank.rows()])
        self.told["interior"] = [round(float(((t > 0.02) & (t < 0.98)).float().mean()), 4) for _, t, _ in bank.rows()]
        model.eval()
        for name, row in (("mean_gates_error", theta), ("rounded_error", rounded)):
            with bank.holding(row):
                self.told[name] = evaluate(model, self.held).error
        model.train()
        self.seconds = time.process_time() - begin


def train(options: dict[str, Any], seed: int, data: Split, held: Split, epochs: int = EPOCHS) -> dict[str, Any]:
    """One run and what it came to."""
    torch.manual_seed(seed)
    model, method = pn.models.build("lenet-300-100", (1, 28, 28), 10), Gates(price=PRICE, rise=1.0, seed=seed, **options)
    optimizer = torch.optim.Adam(method.param_groups(model), lr=RATE, weight_decay=DECAY)
    batches = Batches(data, BATCH, seed=seed)
    steps = epochs * len(batches)
    pruner = pn.Pruner(model, optimizer, method, data.inputs[:2], steps=steps, examples=len(data))
    watch = Watch(method, round(method.pacing.gated * steps), held)
    begin = time.process_time()
    fit(model, optimizer, batches, epochs=epochs, pruner=pruner, learning_rate=partial(scheduled, steps=steps), callbacks=[watch])
    seconds = time.process_time() - begin - watch.seconds
    lean = pruner.finish()
    told = evaluate(lean, held)
    return {
        "widths": list(pruner.widths().values()),
        "parameters": sum(parameter.numel() for parameter in lean.parameters()),
        "error": told.error,
        "loss": told.loss,
        **watch.told,
        "survivors_worth_their_price": round(float((worth(lean, data) > PRICE).float().mean()), 4),
        "cpu_seconds": round(seconds, 1),
    }


@torch.no_grad()
def worth(model: nn.Module, data: Split) -> Tensor:
    """What closing each hidden unit adds to the loss on 20,000 training images, nats per example."""
    layers = [module for module in model.modules() if isinstance(module, nn.Linear)]
    h, y = data.inputs[:20_000].flatten(1), data.targets[:20_000]
    found: list[Tensor] = []
    for depth, layer in enumerate(layers[:-1], 1):
        h = torch.relu(layer(h))
        whole = loss_above(layers[depth:], h, y)
        found += [loss_above(layers[depth:], h.index_fill(1, torch.tensor([unit]), 0), y) - whole for unit in range(h.shape[1])]
    return torch.stack(found)


def loss_above(layers: list[nn.Linear], h: Tensor, y: Tensor) -> Tensor:
    """Mean cross-entropy from the activations h that the first of the layers reads."""
    for layer in layers[:-1]:
        h = torch.relu(layer(h))
    return F.cross_entropy(layers[-1](h), y)


def run(names: list[str], seeds: list[int], data: Split, held: Split, split: str) -> None:
    path = RESULTS / "convergence.json"
    done = stored(path)
    for seed in seeds:
        for name in names:
            if not any((row["row"], row["seed"], row["split"]) == (name, seed, split) for row in done):
                done.append({"row": name, "seed": seed, "split": split, **train(ROWS[name], seed, data, held)})
                print(done[-1], flush=True)
                _write(path, done)


def alternate(times: int, data: Split, held: Split) -> list[dict[str, Any]]:
    """What flips cost: a run with them and without, in turn, so that both meet the machine as it is; `SHORT` epochs, phases as ever."""
    rows: list[dict[str, Any]] = []
    for pair in range(times):
        for name in ("round", "flips") if pair % 2 else ("flips", "round"):
            rows.append({"pair": pair, "row": name, "cpu_seconds": train(ROWS[name], 0, data, held, SHORT)["cpu_seconds"]})
            print(rows[-1], flush=True)
    return rows


def _write(path: Path, rows: list[dict[str, Any]]) -> None:
    path.parent.mkdir(exist_ok=True)
    words = ["DIR" if i and sys.argv[i] == "--data" else word for i, word in enumerate(sys.argv[1:])]
    record = {"command": " ".join(["python", "benchmarks/gates/convergence.py", *words]), "torch": torch.__version__, "rows": rows}
    path.write_text(json.dumps(record, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def _part(split: Split, first: int, last: int) -> Split:
    return Split(split.inputs[first:last], split.targets[first:last])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", help="folder with mnist/ inside")
    parser.add_argument("--only", nargs="+", default=list(ROWS), choices=list(ROWS))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--test", action="store_true")
    parser.add_argument("--estimators", action="store_true")
    parser.add_argument("--time", type=int, nargs="?", const=3, help="pairs of runs")
    parser.add_argument("--table", action="store_true", help="only rewrite the table of README.md and its claims")
    options = parser.parse_args()
    torch.set_num_threads(1)
    if not options.table:
        data = pn.data.load("mnist", folder=None if options.data is None else Path(options.data) / "mnist")
        if options.estimators:
            rows = estimators(data.train, epochs=EPOCHS, price=PRICE)
            _write(RESULTS / "estimators.json", rows)
            print("\n".join(map(str, rows)))
            return
        parts = _part(data.train, 0, 50_000), _part(data.train, 50_000, 60_000)
        if options.time:
            _write(RESULTS / "convergence-time.json", alternate(options.time, *parts))
            return
        if options.test:
            run(["flips"], options.seeds, data.train, data.test, "test")
        else:
            run(options.only, options.seeds, *parts, "validation")
    told = table(stored(RESULTS / "convergence.json"), list(ROWS))
    print(told)
    if options.table:
        put_tables(README.parent.parent / "claims.yaml", README, {"convergence": told})


if __name__ == "__main__":
    run_script(main)
