"""Gates against other structured pruning: LeNet-300-100 on MNIST, error over parameters and over multiply-adds.

    python benchmarks/gates/lenet.py --data DIR [--inputs] --tune
    python benchmarks/gates/lenet.py --data DIR [--inputs] [--seeds 0 1 2] [--only METHOD …]
    python benchmarks/gates/lenet.py --table | --plot

One recipe for all: 20 epochs, batch 128, Adam 2e-3 held for 36 % of the run and then one cosine to 0, weight decay 5e-4 in the gradient,
test error of the last epoch. --tune: strengths. Each method gets five trials, seed 0, 10,000 training images held out: a
first guess, then one trial per wanted size at the strength that the trials so far predict for it; the strengths that all of them
predict go to results/lenet-tuning.json, which the other runs read. Methods that are told a size need no trial. --inputs: pixels may
leave as well; rows that cannot let them go are left out. Rows already in the results are not run again.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

import parsinet as pn
from parsinet import baselines
from parsinet.data import Batches, Dataset, Split
from parsinet.methods import Dense, Gates, Method, Removal
from parsinet.training.evaluate import evaluate
from parsinet.training.loop import fit
from parsinet.training.recipe import Cosine
from parsinet.training.schedule import learning_rate
from parsinet.training.state import Callback, LoopState

RESULTS = Path(__file__).parent / "results"
EPOCHS, BATCH, RATE, DECAY, HOLD = 20, 128, 2e-3, 5e-4, 0.36
TARGETS = {False: (85_000, 45_000, 25_000, 10_000), True: (45_000, 25_000, 10_000, 5_000)}
Build = Callable[[float, int, bool], Method]


@dataclass(frozen=True)
class Row:
    """A method under one strength. first: the strength of the first trial; None where the strength is the share of units that leave."""

    build: Build
    first: float | None
    fold: Literal["constant", "mean"] | None = None


ROWS = {
    "Gates": Row(lambda s, seed, inputs: Gates(price=s, inputs=inputs, seed=seed), 1e-3),
    "VIB": Row(lambda s, seed, inputs: baselines.VIB(kl=s, rate=5e-3, inputs=inputs, seed=seed), 5e-4),
    "SBP": Row(lambda s, seed, inputs: baselines.SBP(kl=s, rate=1e-2, draws="batch", inputs=inputs, seed=seed), 20.0),
    "L0": Row(lambda s, seed, inputs: baselines.L0(lam=s, drop=0.2, rate=3e-2, inputs=inputs, seed=seed), 1.0),
    "group lasso": Row(lambda s, seed, inputs: baselines.GroupLasso(lam=s, inputs=inputs), 0.05, fold="constant"),
    "magnitude": Row(lambda s, seed, inputs: baselines.MagnitudeUnits(share=s, begin=HOLD, end=HOLD, inputs=inputs), None, fold="mean"),
    "random": Row(lambda s, seed, inputs: baselines.RandomUnits(share=s, begin=HOLD, end=HOLD, inputs=inputs, seed=seed), None),
}
ALONE = ("dense", "Torch-Pruning", "scratch")
"""Rows with a training of their own: the whole network, the peer's library, a small network with the widths that Gates left."""


def network(seed: int, widths: Sequence[int] = (784, 300, 100, 10)) -> nn.Sequential:
    """A multilayer perceptron on the pixels, LeNet-300-100 by default."""
    torch.manual_seed(seed)
    layers: list[nn.Module] = [nn.Flatten()]
    for before, after in pairwise(widths):
        layers += [nn.Linear(before, after), nn.ReLU()]
    return nn.Sequential(*layers[:-1])


class Costs(Callback):
    """Sums the forward multiply-adds of a training up, removal by removal."""

    def __init__(self, example: Tensor) -> None:
        self.example, self.macs, self.spent, self.counted = example, 0, 0, 0

    def on_start(self, state: LoopState) -> None:
        self.macs = pn.measure.macs(state.model, self.example)

    def on_removal(self, state: LoopState, removal: Removal) -> None:
        self.on_end(state)
        self.macs = pn.measure.macs(state.model, self.example)

    def on_end(self, state: LoopState) -> None:
        self.spent += (state.examples - self.counted) * self.macs
        self.counted = state.examples


def train(method: Method, model: nn.Module, seed: int, split: Split, *, fold: str | None = None) -> tuple[nn.Module, dict[str, Any]]:
    """One run; the last epoch's network and what it cost."""
    optimizer = torch.optim.Adam(method.param_groups(model), lr=RATE, weight_decay=DECAY, fused=True)
    batches = Batches(split, BATCH, seed=seed)
    steps = EPOCHS * len(batches)
    folding: dict[str, Any] = {"fold": fold, "fold_inputs": [split.inputs[::60]] if fold == "mean" else None}
    pruner = pn.Pruner(model, optimizer, method, split.inputs[:2], steps=steps, examples=len(split), **folding)
    costs = Costs(split.inputs[:1])
    start = time.process_time()
    fit(model, optimizer, batches, epochs=EPOCHS, pruner=pruner, learning_rate=lambda step: scheduled(step, steps), callbacks=[costs])
    seconds = time.process_time() - start
    return pruner.finish(), {"cpu_seconds": round(seconds, 1), "train_macs": costs.spent}


def scheduled(step: int, steps: int) -> float:
    """The learning rate of a step."""
    return learning_rate(Cosine(hold=HOLD), RATE, step, steps, 1)


def torch_pruning(ratio: float, seed: int, split: Split) -> tuple[nn.Module, dict[str, Any]]:
    """Train to the end of the held rate, cut by Torch-Pruning's group norms, fine-tune along the cosine with a fresh Adam."""
    import torch_pruning as tp

    model, batches, costs = network(seed), Batches(split, BATCH, seed=seed), Costs(split.inputs[:1])
    steps, cut = EPOCHS * len(batches), round(HOLD * EPOCHS)
    start = time.process_time()
    fit(model, _adam(model), batches, epochs=cut, learning_rate=lambda step: scheduled(step, steps), callbacks=[costs])
    importance = tp.importance.GroupMagnitudeImportance(p=2)
    pruner = tp.pruner.MetaPruner(model, split.inputs[:1], importance, pruning_ratio=ratio, ignored_layers=[model[-1]])
    pruner.step()
    done, later = cut * len(batches), Costs(split.inputs[:1])
    fit(model, _adam(model), batches, epochs=EPOCHS, learning_rate=lambda step: scheduled(step + done, steps), callbacks=[later])
    seconds = time.process_time() - start
    return model, {"cpu_seconds": round(seconds, 1), "train_macs": costs.spent + later.spent}


def _adam(model: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.Adam(Dense().param_groups(model), lr=RATE, weight_decay=DECAY, fused=True)


def job(name: str, strength: float, seed: int, inputs: bool, split: Split, widths: Sequence[int]) -> tuple[nn.Module, dict[str, Any]]:
    """One row of the table."""
    if name == "Torch-Pruning":
        return torch_pruning(strength, seed, split)
    if name in ALONE:
        return train(Dense(), network(seed, widths) if name == "scratch" else network(seed), seed, split)
    row = ROWS[name]
    fold = "mean" if inputs and row.fold else row.fold  # pixels are no constants
    return train(row.build(strength, seed, inputs), network(seed), seed, split, fold=fold)


def sizes(model: nn.Module, example: Tensor) -> dict[str, Any]:
    """Parameters, multiply-adds, and the widths of what is left."""
    layers = [module for module in model.modules() if isinstance(module, nn.Linear)]
    profile = pn.measure.profile(model, example, latency=False)
    widths = [layers[0].weight.shape[1], *(layer.weight.shape[0] for layer in layers)]
    return {"parameters": profile.parameters, "macs": profile.macs, "widths": widths}


def tune(names: list[str], inputs: bool, data: Dataset) -> None:
    """Five trials per method, then the strengths for the wanted sizes."""
    order = torch.randperm(len(data.train), generator=torch.Generator().manual_seed(0))
    parts = [Split(data.train.inputs[part], data.train.targets[part]) for part in (order[10_000:], order[:10_000])]
    path, rows = RESULTS / "lenet-tuning.json", _stored(RESULTS / "lenet-tuning.json")
    for name in names:
        first = ROWS[name].first if name in ROWS else None
        if first is None:
            continue
        for target in (None, *TARGETS[inputs]):
            mine = [row for row in rows if row["method"] == name and row["inputs"] == inputs and "parameters" in row]
            if any(row["target"] == target for row in mine):
                continue
            strength = first if target is None else predicted(mine, target)
            model, told = job(name, strength, 0, inputs, parts[0], ())
            error = evaluate(model, parts[1]).error
            rows.append({"method": name, "inputs": inputs, "target": target, "strength": strength, "validation_error": error})
            rows[-1] |= {**sizes(model, data.test.inputs[:1]), **told}
            print(rows[-1], flush=True)
            _write(path, rows)


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


def strengths(name: str, inputs: bool) -> list[float]:
    """One per wanted size, from the trials or from the size itself."""
    if name in ALONE and inputs:
        return []
    if name == "dense":
        return [0.0]
    if name == "scratch":
        return [float(target) for target in TARGETS[inputs]]
    if name == "Torch-Pruning" or ROWS[name].first is None:
        return [share_for(target, inputs) for target in TARGETS[inputs]]
    trials = [row for row in _stored(RESULTS / "lenet-tuning.json") if row["method"] == name and row["inputs"] == inputs]
    if not trials:
        sys.exit(f"There are no strengths for {name} yet: run with --tune first.")
    return [predicted(trials, target) for target in TARGETS[inputs]]


def share_for(target: int, inputs: bool) -> float:
    """The share of units of every layer that has to leave for a size."""

    def parameters(share: float) -> float:
        pixels, first, second = (width * (1 - share) for width in (784, 300, 100))
        return (pixels if inputs else 784) * first + first + first * second + second + second * 10 + 10

    low, high = 0.0, 1.0
    for _ in range(40):
        middle = (low + high) / 2
        low, high = (middle, high) if parameters(middle) > target else (low, middle)
    return round(high, 3)


def run(names: list[str], seeds: list[int], inputs: bool, data: Dataset) -> None:
    """All rows that are not in the results yet."""
    path = RESULTS / "lenet.json"
    rows = _stored(path)
    for seed in seeds:
        for name in names:
            for number, strength in enumerate(strengths(name, inputs)):
                key = {"method": name, "inputs": inputs, "strength": strength, "seed": seed}
                if any(key.items() <= row.items() for row in rows):
                    continue
                widths = _widths(rows, seed, number) if name == "scratch" else None
                if name == "scratch" and widths is None:
                    print("scratch needs the rows of Gates of the same seed: left out", flush=True)
                    continue
                if name == "Torch-Pruning" and not _has_peer():
                    print('Torch-Pruning is not installed (pip install "parsinet[peers]"): left out', flush=True)
                    continue
                model, told = job(name, strength, seed, inputs, data.train, widths or ())
                error = evaluate(model, data.test).error
                rows.append({**key, "test_error": error, **sizes(model, data.test.inputs[:1]), **told})
                print(rows[-1], flush=True)
                _write(path, rows)


def _widths(rows: list[dict[str, Any]], seed: int, number: int) -> list[int] | None:
    """What Gates left, largest first, at the number-th of its sizes."""
    mine = [row for row in rows if row["method"] == "Gates" and not row["inputs"] and row["seed"] == seed]
    mine.sort(key=lambda row: -int(row["parameters"]))
    return list(mine[number]["widths"]) if number < len(mine) else None


def _has_peer() -> bool:
    try:
        import torch_pruning  # noqa: F401
    except ImportError:
        return False
    return True


def curves(rows: list[dict[str, Any]]) -> Iterator[tuple[str, bool, float, list[dict[str, Any]]]]:
    """Method, whether pixels may leave, strength, its rows over seeds."""
    for name, inputs, strength in dict.fromkeys((row["method"], row["inputs"], row["strength"]) for row in rows):
        yield name, inputs, strength, [row for row in rows if (row["method"], row["inputs"], row["strength"]) == (name, inputs, strength)]


def table() -> str:
    """Means over seeds, smallest and largest error in brackets."""
    lines = [
        "| method | pixels | strength | seeds | test error % | parameters | MACs | widths | CPU s | training MACs |",
        "|---" * 10 + "|",
    ]
    for name, inputs, strength, rows in curves(_stored(RESULTS / "lenet.json")):
        errors = [100 * row["test_error"] for row in rows]
        mean = {key: statistics.mean(row[key] for row in rows) for key in ("parameters", "macs", "cpu_seconds", "train_macs")}
        widths = "-".join(str(round(statistics.mean(values))) for values in zip(*(row["widths"] for row in rows), strict=True))
        lines.append(
            f"| {name} | {'leave' if inputs else 'stay'} | {strength:g} | {len(rows)} | {statistics.mean(errors):.2f} "
            f"({min(errors):.2f}–{max(errors):.2f}) | {mean['parameters']:.0f} | {mean['macs']:.0f} | {widths} "
            f"| {mean['cpu_seconds']:.0f} | {mean['train_macs']:.2e} |"
        )
    return "\n".join(lines)


def plot(inputs: bool) -> Path:
    """Error over parameters and over multiply-adds, one line per method, the dense network as a level."""
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot as plt

    rows = _stored(RESULTS / "lenet.json")
    figure, panels = plt.subplots(1, 2, figsize=(11, 4.6), sharey=True, layout="constrained")
    for panel, key, label in zip(panels, ("parameters", "macs"), ("parameters", "multiply-adds per image"), strict=True):
        for color, name in enumerate(dict.fromkeys(row["method"] for row in rows)):
            lines = [same for method, pixels, _, same in curves(rows) if method == name and (pixels == inputs or name == "dense")]
            points = sorted((statistics.mean(r[key] for r in same), 100 * statistics.mean(r["test_error"] for r in same)) for same in lines)
            if name == "dense":
                panel.axhline(points[0][1], color="gray", linestyle=":", label="dense")
            elif points:
                panel.plot(*zip(*points, strict=True), "o-", markersize=4, color=f"C{color - 1}", label=name)
        panel.set(xscale="log", xlabel=label, ylim=(1.2, 6.5))
        panel.grid(alpha=0.3, which="both")
    panels[0].set_ylabel("test error %")
    panels[1].legend(fontsize=8)
    path = RESULTS / f"lenet{'-inputs' if inputs else ''}.png"
    figure.savefig(path, dpi=110)
    return path


def _stored(path: Path) -> list[dict[str, Any]]:
    return list(json.loads(path.read_text(encoding="utf-8"))["rows"]) if path.exists() else []


def _write(path: Path, rows: list[dict[str, Any]]) -> None:
    record = {"command": "python benchmarks/gates/lenet.py --data DIR", "torch": torch.__version__, "rows": rows}
    path.write_text(json.dumps(record, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def main() -> None:
    names = ["dense", *ROWS, "Torch-Pruning", "scratch"]
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", help="folder with mnist/ inside")
    parser.add_argument("--only", nargs="+", default=names, choices=names)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--inputs", action="store_true", help="pixels may leave too")
    parser.add_argument("--tune", action="store_true")
    parser.add_argument("--table", action="store_true", help="only print the table")
    parser.add_argument("--plot", action="store_true", help="only draw the curves")
    options = parser.parse_args()
    if not (options.table or options.plot):
        data = pn.data.load("mnist", folder=None if options.data is None else Path(options.data) / "mnist")
        (tune if options.tune else lambda names, inputs, data: run(names, options.seeds, inputs, data))(options.only, options.inputs, data)
        if options.tune:
            return
    print(table())
    if not options.table:
        print(plot(options.inputs))


if __name__ == "__main__":
    main()
