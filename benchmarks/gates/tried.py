"""Ways for Gates to act where another method had lower errors; errors on 10,000 held-out images of MNIST.

    python benchmarks/gates/tried.py --data DIR [--study pixels] [--seeds 0 1 2] [--targets 10000] [--only VARIANT …]
    python benchmarks/gates/tried.py --data DIR --test …    # on all 60,000 images; errors on the test split
    python benchmarks/gates/tried.py --table

Study pixels: LeNet-300-100 of which pixels may leave; lenet-5: LeNet-5-Caffe. The recipes are those of lenet.py; every method is told the
number of parameters. Without --test no test image is looked at. Rows in the results are not run again.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import torch
from lenet_rows import EARLY, SETTINGS
from protocol import sizes, stored, train, write

import parsinet as pn
from parsinet import baselines
from parsinet.bench import put_tables, run_script
from parsinet.data import Split
from parsinet.methods import Gates, Method
from parsinet.training.evaluate import evaluate

RESULTS = Path(__file__).parent / "results"
README = Path(__file__).parent / "README.md"
HELD_OUT = 10_000
Build = Callable[..., Method]


def priced(build: Build, strength: str, values: Mapping[int, float], **options: Any) -> Build:
    """A method with a price of its own beside the target; values: by the target, between those of the trials of lenet.py."""

    def build_at(*, parameters: int, **common: Any) -> Method:
        return build(**common, **options, **{strength: values[parameters]})

    return build_at


def gates(**options: Any) -> Build:
    """Gates under these options."""

    def build(*, parameters: int, **common: Any) -> Method:
        return Gates(**common, **options)

    return build


vib = partial(priced, baselines.VIB, "kl", {10_000: 4.3e-4, 5_000: 8e-4}, rate=5e-3)
sbp = partial(priced, baselines.SBP, "kl", {10_000: 14.0, 5_000: 32.0}, rate=1e-2, draws="batch")
group_lasso = partial(priced, baselines.GroupLasso, "lam", {100_000: 0.036, 80_000: 0.041, 40_000: 0.066, 20_000: 0.1})


@dataclass(frozen=True)
class Study:
    """setting: of lenet.py; inputs: whether pixels may leave; sizes: numbers of parameters; variants: by their names."""

    setting: str
    inputs: bool
    sizes: tuple[int, ...]
    variants: Mapping[str, Build]

    def method(self, variant: str, parameters: int, seed: int) -> Method:
        """The method of a row."""
        seeded = {} if variant == "group lasso" else {"seed": seed}
        return self.variants[variant](parameters=parameters, target=f"params={parameters}", inputs=self.inputs, **seeded)


STUDIES = {
    "pixels": Study(
        "lenet-300-100",
        True,
        (10_000, 5_000),
        {
            "Gates, early": gates(**EARLY),
            "Gates, `gated=0.6`": gates(gated=0.6),
            "Gates, `gated=0.75`": gates(gated=0.75),
            "Gates, `gated=0.6, fall_steps=390`": gates(gated=0.6, fall_steps=390),
            "Gates, `gated=0.75, fall_steps=1560`": gates(gated=0.75, fall_steps=1560),
            "Gates, `gated=0.6, clamp=1`": gates(gated=0.6, clamp=1.0),
            "Gates, `gated=0.6, theta=0.5`": gates(gated=0.6, theta=0.5),
            "Gates, `gated=0.6, warmup=0.3`": gates(gated=0.6, warmup=0.3),
            "Gates, `gated=0.6, warmup=0.55`": gates(gated=0.6, warmup=0.55),
            "Gates, `gated=0.6, evenness=1`": gates(gated=0.6, evenness=1.0),
            "Gates, `gated=0.6, evenness=2`": gates(gated=0.6, evenness=2.0),
            "Gates, `gated=0.7, doubt=2`": gates(gated=0.7, doubt=2.0),
            "Gates, `gated=0.6, draws=example`": gates(gated=0.6, draws="example"),
            "Gates, `gated=0.6, estimator=drawn-labels`": gates(gated=0.6, estimator="drawn-labels"),
            "VIB": vib(),
            "VIB, `gated=0.4`": vib(gated=0.4),
            "VIB, `gated=0.9`": vib(gated=0.9),
            "VIB, `draws=batch`": vib(draws="batch"),
            "VIB, `early=False`": vib(early=False),
            "SBP": sbp(),
        },
    ),
    "lenet-5": Study(
        "lenet-5-caffe",
        False,
        (100_000, 80_000, 40_000, 20_000),
        {
            "Gates, early": gates(**EARLY),
            "Gates, early, `computation=0.5`": gates(**EARLY, computation=0.5),
            "Gates, defaults": gates(),
            "Gates, `computation=0.5`": gates(computation=0.5),
            "Gates, `computation=0.5, gated=0.6`": gates(computation=0.5, gated=0.6),
            "Gates, `computation=0.25, gated=0.6`": gates(computation=0.25, gated=0.6),
            "Gates, `computation=0.5, gated=0.6, evenness=1`": gates(computation=0.5, gated=0.6, evenness=1.0),
            "Gates, `computation=0.5, gated=0.7, doubt=2`": gates(computation=0.5, gated=0.7, doubt=2.0),
            "group lasso": group_lasso(),
        },
    ),
}


def run(study: Study, variant: str, parameters: int, seed: int, parts: tuple[Split, Split]) -> dict[str, Any]:
    """One training on the first part; the last epoch's errors there and on the other, where the loss is told too."""
    setting = SETTINGS[study.setting]
    method = study.method(variant, parameters, seed)
    fold = "constant" if variant == "group lasso" else None
    model, told = train(method, setting.network(seed), seed, parts[0], epochs=setting.epochs, recipe=setting.recipe, fold=fold)
    judged, fitted = (evaluate(model, part) for part in (parts[1], parts[0]))
    measured = sizes(model, parts[0].inputs[:1])
    return {
        "error": round(judged.error, 4),
        "loss": round(judged.loss, 5),
        "train_error": round(fitted.error, 4),
        **{key: measured[key] for key in ("parameters", "macs", "widths")},
        "train_macs": told["train_macs"],
    }


def split(data: Split) -> tuple[Split, Split]:
    """Images to train on, and those held out, as the trials of lenet.py have them."""
    order = torch.randperm(len(data), generator=torch.Generator().manual_seed(0))
    rest, held = (Split(data.inputs[part], data.targets[part]) for part in (order[HELD_OUT:], order[:HELD_OUT]))
    return rest, held


def table(study: Study, rows: list[dict[str, Any]], judged: str) -> str:
    """Means over seeds, smallest and largest in brackets. judged: on which images, "held-out" or "test"."""
    rows = [row for row in rows if row["judged"] == judged]
    lines = [f"| variant | told | seeds | {judged} error % | training error % | widths | training MACs |", "|---" * 7 + "|"]
    for size, variant in product(study.sizes, study.variants):
        own = sorted((row for row in rows if (row["target"], row["variant"]) == (size, variant)), key=lambda row: row["seed"])
        if own:
            errors = [100 * row["error"] for row in own]
            fitted, work = (statistics.mean(row[key] for row in own) for key in ("train_error", "train_macs"))
            spread = f"{statistics.mean(errors):.2f} ({min(errors):.2f}–{max(errors):.2f})"
            widths = "-".join(str(round(statistics.mean(values))) for values in zip(*(row["widths"] for row in own), strict=True))
            lines.append(f"| {variant} | {size} | {len(own)} | {spread} | {100 * fitted:.2f} | {widths} | {work:.2e} |")
    return "\n".join(lines)


def train_all(name: str, options: argparse.Namespace) -> None:
    """Every row of a study that is asked for and not in the results."""
    study, path = STUDIES[name], RESULTS / f"tried-{name}.json"
    data, judged = pn.data.load("mnist", folder=options.data / "mnist"), "test" if options.test else "held-out"
    parts = (data.train, data.test) if options.test else split(data.train)
    rows = stored(path)
    for seed, size, variant in product(options.seeds, options.targets or study.sizes[:1], options.only or study.variants):
        key = {"judged": judged, "variant": variant, "target": size, "seed": seed}
        if not any(key.items() <= row.items() for row in rows):
            rows.append({**key, **run(study, variant, size, seed, parts)})
            print(json.dumps(rows[-1], ensure_ascii=False), flush=True)
            write(path, rows, f"tried.py --study {name}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="folder with mnist/ inside")
    parser.add_argument("--study", choices=STUDIES, default="pixels")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--only", nargs="+", help="names of variants")
    parser.add_argument("--targets", type=int, nargs="+", help="numbers of parameters")
    parser.add_argument("--test", action="store_true", help="train on all images, and judge by the test split")
    parser.add_argument("--table", action="store_true", help="only rewrite the tables of README.md and their claims")
    options = parser.parse_args()
    study = STUDIES[options.study]
    for given, known in ((options.only, study.variants), (options.targets, study.sizes)):
        if unknown := set(given or ()) - set(known):
            parser.error(f"{options.study} has no {', '.join(map(str, unknown))}; there are {', '.join(map(str, known))}")
    if not options.table:
        if options.data is None:
            sys.exit("--data DIR is needed to train.")
        train_all(options.study, options)
    tables = {}
    for name, each in STUDIES.items():
        rows = stored(RESULTS / f"tried-{name}.json")
        for judged in sorted({row["judged"] for row in rows}):
            tables[f"{name}, {judged}"] = table(each, rows, judged)
    print("\n\n".join(tables.values()))
    if options.table:
        put_tables(README.parent.parent / "claims.yaml", README, tables)


if __name__ == "__main__":
    run_script(main)
