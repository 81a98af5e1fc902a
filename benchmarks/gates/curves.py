"""Accuracy over multiply-adds on networks that are harder to cut: ResNet-20, ResNet-56, VGG-Small on CIFAR-10, a small language model.

    python benchmarks/gates/curves.py --data DIR [--network resnet-20|resnet-56|vgg-small|char-gpt] [--seeds 0 1] [--only ROW …]
    python benchmarks/gates/curves.py [--network …] --table | --plot

Short runs: lengths, optimizers and rows stand in settings.py. The rows of a network share epochs, schedule and, for a seed, the batches;
what is reported is the test split at the last epoch, read once per run. "narrow": dense networks of a smaller width. "widths of
Gates …": a dense network with the widths that those gates left at that seed. "Gates without doubt" have doubt=0, which is the default on
char-gpt, where "doubting Gates" have doubt=2; "brief" ones act for .4 of the run, "even" ones have evenness=4 too (evenness.py tries these
on held-out images). Rows already in results/curves-NETWORK.json are not run again. --table puts the network's table in README.md and its
claims in ../claims.yaml in line with the results.
"""

from __future__ import annotations

import argparse
import itertools
import statistics
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from peers import has_torch_pruning, share_for, share_of_copies, torch_pruning
from protocol import stored, train, write
from settings import SETTINGS, Row, build, load, of_widths
from torch import nn

import parsinet as pn
from parsinet.baselines import MagnitudeUnits
from parsinet.bench import put_tables, run_script
from parsinet.data import Dataset
from parsinet.methods import Dense, Gates, Method
from parsinet.methods.choice import WIDTHS
from parsinet.structure import trace
from parsinet.training.evaluate import evaluate

RESULTS = Path(__file__).parent / "results"
README = Path(__file__).parent / "README.md"


def magnitude(network: str, share: float, model: nn.Module, data: Dataset) -> Method:
    """Lets go of a share of the units of every layer where the rate begins to fall; of heads as a whole, as the other rows do."""
    groups = [group for group in trace(model, data.train.inputs[:2]).groups if group.removable and group.exact]
    whole = [group.name for group in groups if group.role not in WIDTHS]
    hold = SETTINGS[network].recipe.hold
    return MagnitudeUnits(share=share, begin=hold, end=hold, groups=whole)


def at_share(network: str, macs: float, data: Dataset) -> float:
    """The share of units of every layer that leaves a number of multiply-adds, found on networks that have not been trained."""

    def smaller(share: float) -> nn.Module:
        model = build(network, 0, data)
        method = magnitude(network, share, model, data)
        optimizer = torch.optim.SGD(method.param_groups(model), lr=0.1)
        return pn.Pruner(model, optimizer, method, data.train.inputs[:2], steps=1).finish()

    return share_for(macs, smaller, data.train.inputs[:1])


def job(network: str, row: Row, seed: int, data: Dataset, earlier: list[dict[str, Any]]) -> tuple[nn.Module, dict[str, Any]]:
    """One run; the last epoch's network and what it cost."""
    setting, options = SETTINGS[network], row.options
    example, common = data.train.inputs[:1], {"epochs": setting.epochs, "recipe": setting.recipe}
    if row.kind == "dense":
        return train(Dense(), build(network, seed, data, **options), seed, data.train, **common)
    if row.kind == "other":  # another network in its place
        return train(Dense(), build(options["network"], seed, data), seed, data.train, **common)
    if row.kind == "again":
        return train(Dense(), of_widths(network, seed, data, earlier[0]["widths"]), seed, data.train, **common)
    model = build(network, seed, data)
    if row.kind == "gates":
        return train(Gates(seed=seed, **options), model, seed, data.train, **common)
    wanted = options["macs"] * pn.measure.macs(model, example)
    if row.kind == "peer":
        share = share_of_copies(wanted, setting.fixed, example)
        return torch_pruning(share, model, seed, data.train, fixed=setting.fixed, **common)
    part = at_share(network, wanted, data)
    lean, told = train(magnitude(network, part, model, data), model, seed, data.train, **common)
    return lean, {"share": part, **told}


def run(network: str, names: list[str], seeds: list[int], data: Dataset) -> None:
    """All rows that are not in the results yet."""
    path, rows = RESULTS / f"curves-{network}.json", stored(RESULTS / f"curves-{network}.json")
    for seed in seeds:
        for name in names:
            key = {"row": name, "seed": seed}
            if any(key.items() <= row.items() for row in rows):
                continue
            row = SETTINGS[network].rows[name]
            wanted = {"row": name.removeprefix("widths of "), "seed": seed}
            earlier = [done for done in rows if wanted.items() <= done.items()]
            if reason := _missing(row, earlier):
                print(f"{name}, seed {seed}: left out; {reason}", flush=True)
                continue
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always")
                model, told = job(network, row, seed, data, earlier)
            said = [str(entry.message) for entry in caught if issubclass(entry.category, pn.errors.ParsinetWarning)]
            rows.append({**key, **judged(network, model, seed, data), **told, "warnings": said})
            print(rows[-1], flush=True)
            write(path, rows, f"curves.py --network {network}")


def _missing(row: Row, earlier: list[dict[str, Any]]) -> str:
    """Why a row cannot be run; "" if it can."""
    if row.kind == "peer" and not has_torch_pruning():
        return 'Torch-Pruning is not installed (pip install "parsinet[peers]")'
    return "it needs the row of Gates of this seed" if row.kind == "again" and not earlier else ""


def judged(network: str, model: nn.Module, seed: int, data: Dataset) -> dict[str, Any]:
    """Test error and loss, sizes, and the time of a batch of 64 beside the dense network's, measured in turns."""
    result, profile = evaluate(model, data.test, batch_size=500), pn.measure.profile(model, data.test.inputs[:1], latency=False)
    times = pn.measure.compare_latency({"dense": build(network, seed, data), "small": model}, data.test.inputs[:64], repeats=20, warmup=3)
    structure = trace(model, data.train.inputs[:2], blocks=network == "resnet-56")
    return {
        "test_error": result.error,
        "test_loss": result.loss,
        "parameters": profile.parameters,
        "macs": profile.macs,
        "latency": times["small"].median / times["dense"].median,
        "widths": {group.name: group.size for group in structure.groups if group.removable},
        "branches": len(structure.blocks),
    }


def by_row(network: str, rows: list[dict[str, Any]]) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """The rows of every name, over seeds, in the order in which the settings have them."""
    for name in SETTINGS[network].rows:
        if same := [row for row in rows if row["row"] == name]:
            yield name, same


def table(network: str) -> str:
    """Means over seeds; smallest and largest error in brackets; costs as shares of the dense row of the same seed."""
    rows = stored(RESULTS / f"curves-{network}.json")
    dense = {row["seed"]: row for row in rows if row["row"] == "dense"}
    shares = [f"{what} %" for what in ("MACs", "parameters", "latency", "CPU", "training MACs")]
    heads = [SETTINGS[network].title, "seeds", "test error %", "test loss", *shares]
    heads += ["branches"] if network == "resnet-56" else []
    lines = [f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
    for name, same in by_row(network, rows):
        errors = [100 * row["test_error"] for row in same]
        spread = f" ({min(errors):.2f}–{max(errors):.2f})" if len(errors) > 1 else ""
        cells = [f"{statistics.mean(errors):.2f}{spread}", f"{statistics.mean(row['test_loss'] for row in same):.3f}"]
        for key in ("macs", "parameters"):
            cells.append(f"{100 * statistics.mean(row[key] / dense[row['seed']][key] for row in same):.1f}")
        cells.append(f"{100 * statistics.mean(row['latency'] for row in same):.0f}")
        for key in ("cpu_seconds", "train_macs"):
            cells.append(f"{100 * statistics.mean(row[key] / dense[row['seed']][key] for row in same):.0f}")
        cells += [" ; ".join(str(row["branches"]) for row in same)] if network == "resnet-56" else []
        lines.append(f"| {name} | {len(same)} | {' | '.join(cells)} |")
    return "\n".join(lines)


def plot(network: str) -> Path:
    """Error, or loss of the language model, over multiply-adds and over the training's multiply-adds: one line per method."""
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot as plt

    rows = stored(RESULTS / f"curves-{network}.json")
    key, label, factor = ("test_loss", "test loss, nats", 1) if network == "char-gpt" else ("test_error", "test error %", 100)
    figure, panels = plt.subplots(1, 2, figsize=(10, 4.2), sharey=True, layout="constrained")
    axes = (("macs", "multiply-adds per example, dense = 1"), ("train_macs", "multiply-adds of the training (forward), dense = 1"))
    whole = {row["seed"]: row for row in rows if row["row"] == "dense"}
    for panel, (over, words) in zip(panels, axes, strict=True):
        lines: dict[str, list[tuple[float, float]]] = {}
        for name, same in by_row(network, rows):
            place = statistics.mean(row[over] / whole[row["seed"]][over] for row in same)
            lines.setdefault(name.partition(",")[0], []).append((place, factor * statistics.mean(row[key] for row in same)))
        colors = dict(zip((name for name in lines if name != "dense"), itertools.cycle(f"C{k}" for k in range(10)), strict=False))
        for name, points in lines.items():
            style = {"color": "black", "marker": "s"} if name == "dense" else {"color": colors[name], "marker": "o"}
            panel.plot(*zip(*sorted(points), strict=True), label=name, **style)
        panel.set(xlabel=words, xlim=(0, None))
        panel.grid(alpha=0.3)
    panels[0].set(ylabel=label, title=network)
    panels[0].legend(fontsize=8)
    path = RESULTS / f"curves-{network}.png"
    figure.savefig(path, dpi=110)
    return path


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="folder with cifar10-jpeg/ and tinyshakespeare/ inside")
    parser.add_argument("--network", choices=SETTINGS, default="resnet-20")
    parser.add_argument("--only", nargs="+", metavar="ROW")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--table", action="store_true", help="only rewrite the table of README.md and its claims")
    parser.add_argument("--plot", action="store_true", help="only draw the curves")
    options = parser.parse_args()
    torch.set_num_threads(1)
    known = SETTINGS[options.network].rows
    if unknown := set(options.only or ()) - set(known):
        sys.exit(f"{options.network} has no row {', '.join(sorted(unknown))}; it has {'; '.join(known)}.")
    if not (options.table or options.plot):
        run(options.network, options.only or list(known), options.seeds, load(options.network, options.data))
    print(table(options.network))
    if options.table:
        put_tables(README.parent.parent / "claims.yaml", README, {SETTINGS[options.network].title: table(options.network)})
    else:
        print(plot(options.network))


if __name__ == "__main__":
    run_script(main)
