"""Layer gates in plain networks that were given skips: a deep MLP on MNIST, a small VGG on part of CIFAR-10.

    python benchmarks/gates/skips.py --data DIR --study              # starts and prices, on held-out training images
    python benchmarks/gates/skips.py --data DIR [--seeds 0 1] [--only NETWORK …]
    python benchmarks/gates/skips.py --table

Deep MLP: 784, ten hidden layers of 100 with ReLU, 10 classes; MNIST, 4 epochs, batch 128. VGG: vgg-small with 8, 16, 32 filters and batch
norm; the first 5,000 training and 2,000 test images of CIFAR-10 as JPEG copies, 4 epochs, batch 32. Adam 1e-3 held for 36 % of
the run and then one cosine to 0, weight decay 5e-4, one thread; error of the last step. After training `pn.merge_linear`.
Rows already in the results are not run again.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from protocol import stored, write
from torch import nn

import parsinet as pn
from parsinet.bench import put_tables, run_script
from parsinet.data import Batches, Dataset, Split
from parsinet.methods import Dense, Gates
from parsinet.structure import Skipped
from parsinet.structure.blocks_absent import Absent
from parsinet.training.evaluate import evaluate
from parsinet.training.loop import fit
from parsinet.training.recipe import Cosine
from parsinet.training.schedule import learning_rate

RESULTS = Path(__file__).parent / "results" / "skips.json"
README = Path(__file__).parent / "README.md"
HIDDEN = 10
EQUAL = [f"fc{k}" for k in range(2, HIDDEN + 1)]
"""The hidden layers that keep their shape: a skip around them is the identity and has no parameters."""


@dataclass(frozen=True)
class Case:
    """Which layers get skips, how the maps beside them start, and what a layer pays (None: no gates). he: weights drawn anew with the
    deviation √(2/inputs), which keeps the size of signals behind a ReLU; hidden: layers of the MLP."""

    layers: tuple[str, ...] | bool = False
    start: Literal["identity", "same"] = "identity"
    price: float | None = None
    he: bool = False
    hidden: int = HIDDEN


def cases(layers: tuple[str, ...] | bool, prices: tuple[float, ...]) -> dict[str, Case]:
    """Skips around these layers, open for good and gated."""
    words = "all" if layers is True else "equal widths"
    return {
        f"skips, {words}": Case(layers),
        **{f"skips, {words}, layer gates {price:g}": Case(layers, price=price) for price in prices},
    }


@dataclass(frozen=True)
class Network:
    """What is trained, on what, for how long, and in which cases; study: those that are compared on held-out images."""

    build: Callable[[Dataset, Case], nn.Module]
    data: Callable[[Path, float], Dataset]
    batch: int
    epochs: int
    cases: dict[str, Case]
    study: dict[str, Case]


def mlp(data: Dataset, case: Case) -> nn.Module:
    model = pn.models.build("mlp", data.input_shape, data.num_classes, widths=[100] * case.hidden)
    for module in model.modules() if case.he else ():
        if isinstance(module, nn.Linear):
            nn.init.kaiming_normal_(module.weight)
            nn.init.zeros_(module.bias)
    return model


def vgg(data: Dataset, _: Case) -> nn.Module:
    return pn.models.build("vgg-small", data.input_shape, data.num_classes, width=8)


def mnist(folder: Path, validation: float) -> Dataset:
    return pn.data.load("mnist", folder=folder / "mnist", validation=validation)


def cifar(folder: Path, validation: float) -> Dataset:
    """The first images of each split."""
    whole = pn.data.load("cifar10", folder=folder / "cifar10-jpeg", validation=validation)
    few = {"train": _first(whole.train, 5_000), "test": _first(whole.test, 2_000)}
    held_out = None if whole.validation is None else _first(whole.validation, 2_000)
    return Dataset(**{**whole.__dict__, **few, "validation": held_out})


def _first(split: Split, count: int) -> Split:
    return Split(split.inputs[:count], split.targets[:count])


def starts(layers: tuple[str, ...] | bool) -> dict[str, Case]:
    return {"plain": Case(), "identity": Case(layers), "same": Case(layers, "same")}


NETWORKS = {
    "deep-mlp": Network(
        mlp,
        mnist,
        128,
        4,
        {
            "plain": Case(),
            "plain, He": Case(he=True),
            "plain, 1 hidden layer": Case(hidden=1),
            "plain, 3 hidden layers": Case(hidden=3),
            **cases(tuple(EQUAL), (1e-2, 2e-2, 5e-2)),
            **cases(True, (2e-2,)),
        },
        {
            **starts(True),
            "plain, He": Case(he=True),
            **{f"gates {price:g}": Case(tuple(EQUAL), price=price) for price in (1e-2, 5e-2, 2e-1)},
        },
    ),
    "vgg-small": Network(
        vgg,
        cifar,
        32,
        4,
        {"plain": Case(), **cases(True, (1e-2, 5e-2))},
        {**starts(True), "gates 1e-2": Case(True, price=1e-2)},
    ),
}


def train(network: Network, case: Case, seed: int, data: Dataset) -> dict[str, Any]:
    """One run: what is left of the layers, size before and after merging, error on the validation split or, without one, the test split."""
    torch.manual_seed(seed)
    model = network.build(data, case)
    x = data.test.inputs[:1]
    plain = pn.measure.profile(model, x, latency=False)
    if case.layers:
        pn.add_skips(model, x, case.layers, start=case.start)
    start = pn.measure.profile(model, x, latency=False)
    gates = {"groups": [], "blocks": True, "block_price": case.price, "rise": 1.0}
    method = Dense() if case.price is None else Gates(seed=seed, **gates)
    optimizer = torch.optim.Adam(method.param_groups(model), lr=1e-3, weight_decay=5e-4)
    batches = Batches(data.train, network.batch, seed=seed)
    steps = network.epochs * len(batches)
    pruner = pn.Pruner(model, optimizer, method, data.train.inputs[:2], steps=steps, examples=len(data.train))
    began = time.process_time()
    fit(
        model,
        optimizer,
        batches,
        epochs=network.epochs,
        pruner=pruner,
        learning_rate=lambda step: learning_rate(Cosine(hold=0.36), 1e-3, step, steps, 1),
    )
    seconds = time.process_time() - began
    small = pruner.finish()
    after = pn.measure.profile(small, x, latency=False)
    result = evaluate(small, data.validation or data.test, batch_size=200)
    merges = pn.merge_linear(small, x)
    merged, again = pn.measure.profile(small, x, latency=False), evaluate(small, data.validation or data.test, batch_size=200)
    return {
        "error": result.error,
        "loss": result.loss,
        "left": bends(small),
        "plain": [plain.parameters, plain.macs],
        "start": [start.parameters, start.macs],
        "after": [after.parameters, after.macs],
        "merged": [merged.parameters, merged.macs],
        "merges": [[merge.first, *merge.readers] for merge in merges],
        "merged_error": again.error,
        "cpu_seconds": round(seconds, 1),
    }


def bends(model: nn.Module) -> list[str]:
    """The layers whose non-linearity is left."""
    skipped = {path: module for path, module in model.named_modules() if isinstance(module, Skipped)}
    plain = [path for path, module in model.named_modules() if isinstance(module, nn.ReLU) and "section" not in path]
    return [*(path for path, module in skipped.items() if not isinstance(module.section, Absent)), *plain]


def run(networks: list[str], seeds: list[int], folder: Path, *, study: bool) -> None:
    """All rows that are not there yet."""
    rows = stored(RESULTS)
    for name in networks:
        network, split = NETWORKS[name], "validation" if study else "test"
        data = network.data(folder, 1 / 6 if study else 0.0)
        for seed in seeds:
            for label, case in (network.study if study else network.cases).items():
                key = {"network": name, "split": split, "case": label, "seed": seed}
                if not any(key.items() <= row.items() for row in rows):
                    rows.append({**key, **train(network, case, seed, data)})
                    print(json.dumps(rows[-1]), flush=True)
                    write(RESULTS, rows, "skips.py")


def table() -> str:
    """Means over seeds; sizes against the plain network, with the maps beside the layers and after merging."""
    heads = [
        "network",
        "images",
        "case",
        "seeds",
        "error %",
        "loss",
        "layers that bend",
        "parameters %",
        "parameters merged %",
        "MACs %",
        "MACs merged %",
        "CPU s",
    ]
    lines = [f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
    rows = stored(RESULTS)
    for key in dict.fromkeys((row["network"], row["split"], row["case"]) for row in rows):
        same = [row for row in rows if (row["network"], row["split"], row["case"]) == key]
        whole = next(row for row in rows if (row["network"], row["case"]) == (key[0], "plain"))["plain"]
        stages = [(stage, kind) for kind in (0, 1) for stage in ("after", "merged")]
        sizes = [f"{100 * statistics.mean(row[stage][kind] for row in same) / whole[kind]:.1f}" for stage, kind in stages]
        errors = [100 * row["error"] for row in same]
        span = f"{statistics.mean(errors):.2f}" + (f" ({min(errors):.2f}–{max(errors):.2f})" if len(same) > 1 else "")
        left = " / ".join(str(len(row["left"])) for row in same)
        cells = [span, f"{statistics.mean(row['loss'] for row in same):.3f}", left, *sizes]
        cells.append(f"{statistics.mean(row['cpu_seconds'] for row in same):.0f}")
        lines.append(f"| {' | '.join(key)} | {len(same)} | {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("data"), help="folder with mnist/ and cifar10-jpeg/ inside")
    parser.add_argument("--only", nargs="+", default=list(NETWORKS), choices=list(NETWORKS))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--study", action="store_true", help="compare starts and prices on held-out training images")
    parser.add_argument("--table", action="store_true", help="only rewrite the table of README.md and its claims")
    options = parser.parse_args()
    torch.set_num_threads(1)
    if not options.table:
        run(options.only, options.seeds, options.data, study=options.study)
    print(table())
    if options.table:
        put_tables(README.parent.parent / "claims.yaml", README, {"skips": table()})


if __name__ == "__main__":
    run_script(main)
