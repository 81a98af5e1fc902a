"""How gates come to 0 or 1: ways to decide and estimators, LeNet-300-100 on MNIST; and the estimators beside exact flips.

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
import math
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import torch
from protocol import stored
from torch import Tensor, nn
from torch.nn import functional as F

import parsinet as pn
from parsinet.data import Batches, Split
from parsinet.gates import PAIR_ESTIMATORS, antithetic, curvature_corrected, exact_flip, open_units, straight_through
from parsinet.methods import Gates
from parsinet.methods.comparing import EDGE
from parsinet.training.evaluate import evaluate
from parsinet.training.loop import fit
from parsinet.training.state import Callback, LoopState

RESULTS = Path(__file__).parent / "results"
EPOCHS, BATCH, RATE, HOLD, DECAY, PRICE = 20, 128, 2e-3, 0.36, 5e-4, 1e-3
ROWS: dict[str, dict[str, Any]] = {
    "flips": {},
    "absorb": {"decide": "absorb"},
    "round": {"decide": "round"},
    "flips, straight-through": {"estimator": "straight-through"},
    "absorb, straight-through": {"estimator": "straight-through", "decide": "absorb"},
    "round, straight-through": {"estimator": "straight-through", "decide": "round"},
    "flips, a draw per example": {"draws": "example"},
    "round, a draw per example": {"draws": "example", "decide": "round"},
    "flips, disarm": {"estimator": "disarm"},
    "round, disarm": {"estimator": "disarm", "decide": "round"},
    "flips, arm": {"estimator": "arm"},
    "round, arm": {"estimator": "arm", "decide": "round"},
    "flips, disarm, no clamp": {"estimator": "disarm", "clamp": None},
}
SHORT = 4
PAIRS = (1, 30, 300)
"""Pairs of masks over which the estimates of two losses are averaged."""


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
    model, method = pn.models.build("lenet-300-100", (1, 28, 28), 10), Gates(price=PRICE, seed=seed, **options)
    optimizer = torch.optim.Adam(method.param_groups(model), lr=RATE, weight_decay=DECAY)
    batches = Batches(data, BATCH, seed=seed)
    steps = epochs * len(batches)
    pruner = pn.Pruner(model, optimizer, method, data.inputs[:2], steps=steps, examples=len(data))
    watch = Watch(method, round(method.pacing.gated * steps), held)
    begin = time.process_time()
    fit(model, optimizer, batches, epochs=epochs, pruner=pruner, learning_rate=cosine(steps), callbacks=[watch])
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


def cosine(steps: int) -> Callable[[int], float]:
    """The rate held, then one cosine to 0."""
    begin = round(HOLD * steps)
    return lambda step: RATE if step < begin else RATE * 0.5 * (1 + math.cos(math.pi * (step - begin) / (steps - begin)))


def estimators(data: Split) -> list[dict[str, Any]]:
    """Spearman and Pearson with exact flips, 2,000 training images, of a dense network and of one under gates.

    Exact are flips at the same one draw ("this draw"), or at a draw per image: the derivative of the expected loss ("all draws").
    """
    x, y, rows = data.inputs[:2000].flatten(1), data.targets[:2000], []
    for network, draw, model, theta, xi in drawn(data):
        layers = zip(compared(model, x, y, xi), expected(model, x, y, theta, xi), strict=True)
        for layer, kinds in enumerate(layers, 1):
            for against, (exact, found) in zip(("this draw", "all draws"), kinds, strict=True):
                place = {"network": network, "draw": draw, "layer": layer, "units": len(exact), "against": against}
                rows += [{**place, "estimator": name, **agreement(estimate, exact)} for name, estimate in found.items()]
    return rows


def agreement(estimate: Tensor, exact: Tensor) -> dict[str, float]:
    """Correlations and means."""
    pearson = float(torch.corrcoef(torch.stack([estimate, exact]))[0, 1])
    return {"spearman": spearman(estimate, exact), "pearson": pearson, "mean": float(estimate.mean()), "exact_mean": float(exact.mean())}


def drawn(data: Split) -> Iterator[tuple[str, str, nn.Module, list[Tensor], list[Tensor]]]:
    """Networks with θ and one draw ξ ~ Bern(θ).

    LeNet-300-100 after 10 epochs of SGD 0.02 with momentum 0.9; and under gates, after 2 and 5 of 20 epochs of the recipe.
    """
    random = torch.Generator().manual_seed(1)
    torch.manual_seed(0)
    model = pn.models.build("lenet-300-100", (1, 28, 28), 10)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.02, momentum=0.9, weight_decay=1e-3)
    fit(model, optimizer, Batches(data, BATCH, seed=0), epochs=10)
    for draw, keep in (("all open", 1.0), ("half open", 0.5)):
        theta = [torch.full((units,), keep) for units in (300, 100)]
        yield "dense", draw, model, theta, [(torch.rand(len(row), generator=random) < keep).float() for row in theta]
    torch.manual_seed(0)
    model, method = pn.models.build("lenet-300-100", (1, 28, 28), 10), Gates(price=PRICE)
    optimizer = torch.optim.Adam(method.param_groups(model), lr=RATE, weight_decay=DECAY)
    batches = Batches(data, BATCH, seed=0)
    pruner = pn.Pruner(model, optimizer, method, data.inputs[:2], steps=EPOCHS * len(batches))
    for epochs in (2, 5):
        fit(model, optimizer, batches, epochs=epochs, pruner=pruner)
        theta = [row.clone() for _, row, _ in method._bank.rows()]
        yield "gated", f"after {epochs} epochs", model, theta, [torch.bernoulli(row, generator=random) for row in theta]


def compared(model: nn.Module, x: Tensor, y: Tensor, xi: list[Tensor]) -> list[tuple[Tensor, dict[str, Tensor]]]:
    """Per layer the exact differences C(ξ_i = 1) − C(ξ_i = 0) and what each estimator makes of derivatives."""
    linear = [module for module in model.modules() if isinstance(module, nn.Linear)]
    first, second, last = (partial(F.linear, weight=each.weight.detach(), bias=each.bias.detach()) for each in linear)
    h = torch.relu(first(x))

    def forward(rows: list[Tensor]) -> Tensor:
        return last(torch.relu(second(h * rows[0])) * rows[1])

    def derivatives(rows: list[Tensor], targets: Tensor) -> tuple[Tensor, ...]:
        leaves = [row.expand(len(x), -1).clone().requires_grad_() for row in rows]
        return torch.autograd.grad(F.cross_entropy(forward(leaves), targets, reduction="sum"), leaves)

    with torch.no_grad():
        sampled = torch.multinomial(forward(xi).softmax(1), 1, generator=torch.Generator().manual_seed(2)).flatten()
    own, model_own = derivatives(xi, y), derivatives(xi, sampled)
    result = []
    for layer, row in enumerate(xi):
        exact, both = torch.zeros(len(row)), torch.zeros(len(row))
        for unit in range(len(row)):
            ends = []
            for value in (1.0, 0.0):
                flipped = [r.clone() for r in xi]
                flipped[layer][unit] = value
                with torch.no_grad():
                    ends.append(F.cross_entropy(forward(flipped), y))
                both[unit] += 0.5 * derivatives(flipped, y)[layer][:, unit].mean()
            exact[unit] = ends[0] - ends[1]
        q = own[layer]
        found = {
            "straight-through": straight_through(q, row),
            "curvature": curvature_corrected(q, row),
            "1.5 times the curvature": q.mean(0) + 1.5 * (0.5 - row) * q.square().mean(0),
            "curvature, labels drawn from the model": q.mean(0) + (0.5 - row) * model_own[layer].square().mean(0),
            "mean of the derivatives at both ends": both,
        }
        result.append((exact, found))
    return result


def expected(model: nn.Module, x: Tensor, y: Tensor, theta: list[Tensor], xi: list[Tensor]) -> list[tuple[Tensor, dict[str, Tensor]]]:
    """Per layer the exact differences with a draw per image, and estimates of one draw for all, of one each, and of pairs of losses."""
    linear = [module for module in model.modules() if isinstance(module, nn.Linear)]
    first, second, last = (partial(F.linear, weight=each.weight.detach(), bias=each.bias.detach()) for each in linear)
    h, random, sizes = torch.relu(first(x)), torch.Generator().manual_seed(3), [len(row) for row in theta]

    def loss(row: Tensor) -> Tensor:
        one, two = row.split(sizes, -1)
        return F.cross_entropy(last(torch.relu(second(h * one)) * two), y)

    def heard(row: Tensor) -> dict[str, Tensor]:
        leaf = row.expand(len(x), -1).clone().requires_grad_()
        (q,) = torch.autograd.grad(loss(leaf) * len(x), leaf)
        return {"straight-through": straight_through(q, row), "curvature": curvature_corrected(q, row)}

    whole = torch.cat(theta)
    each = torch.bernoulli(whole.expand(len(x), -1), generator=random)
    exact = torch.stack([exact_flip(loss, each, unit) for unit in range(len(whole))])
    found = {**{f"{name}, one draw": g for name, g in heard(torch.cat(xi)).items()}, **heard(each), **pairs(loss, whole, random)}
    split = {name: estimate.split(sizes) for name, estimate in found.items()}
    return [(part, {name: rows[k] for name, rows in split.items()}) for k, part in enumerate(exact.split(sizes))]


@torch.no_grad()
def pairs(loss: Callable[[Tensor], Tensor], theta: Tensor, random: torch.Generator) -> dict[str, Tensor]:
    """Estimates from pairs of losses, θ held off its ends as in training: means over the first 1, 30 and 300 pairs."""
    held, total, found = theta.clamp(EDGE, 1 - EDGE), {name: torch.zeros_like(theta) for name in PAIR_ESTIMATORS}, {}
    for count in range(1, max(PAIRS) + 1):
        uniform = torch.rand(len(held), generator=random)
        one, two = (loss(xi) for xi in antithetic(uniform, held))
        for name, estimator in PAIR_ESTIMATORS.items():
            total[name] += estimator(one - two, uniform, held)
            if count in PAIRS:
                found[f"{name}, {count:,} {'pair' if count == 1 else 'pairs'}"] = total[name] / count
    return found


def spearman(a: Tensor, b: Tensor) -> float:
    """Rank correlation."""
    ranks = torch.stack([a.argsort().argsort().double(), b.argsort().argsort().double()])
    return float(torch.corrcoef(ranks)[0, 1])


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


def table() -> str:
    """Means over seeds, ranges in brackets; errors in per cent."""
    lines = [
        "| decide, estimator | error on | error % | parameters | widths | interior | rounding, points | survivors > ρ | CPU s |",
        "|---" * 9 + "|",
    ]
    rows = stored(RESULTS / "convergence.json")
    for split, name in dict.fromkeys((row["split"], row["row"]) for row in rows):
        own = [row for row in rows if (row["row"], row["split"]) == (name, split)]
        jumps = [100 * (row["rounded_error"] - row["mean_gates_error"]) for row in own]
        cells = [
            name,
            split,
            _span([100 * row["error"] for row in own], "{:.2f}"),
            _span([row["parameters"] for row in own], "{:,.0f}"),
            " ; ".join("-".join(map(str, row["widths"])) for row in own),
            " ; ".join("/".join(f"{share:.2f}" for share in row["interior"]) for row in own),
            " ; ".join(f"{jump:+.2f}" for jump in jumps),
            _span([row["survivors_worth_their_price"] for row in own], "{:.2f}"),
            _span([row["cpu_seconds"] for row in own], "{:.1f}"),
        ]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _span(values: list[float], form: str) -> str:
    return f"{form.format(statistics.mean(values))} ({form.format(min(values))}–{form.format(max(values))})"


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
    parser.add_argument("--table", action="store_true", help="only print the table")
    options = parser.parse_args()
    torch.set_num_threads(1)
    if not options.table:
        data = pn.data.load("mnist", folder=None if options.data is None else Path(options.data) / "mnist")
        if options.estimators:
            rows = estimators(data.train)
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
    print(table())


if __name__ == "__main__":
    main()
