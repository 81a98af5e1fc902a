"""Gates where pixels may leave: what was tried to come level with VIB; errors on 10,000 held-out images of MNIST.

    python benchmarks/gates/pixels.py --data DIR [--seeds 0 1 2] [--only VARIANT …]    # rows in the results are not run again
    python benchmarks/gates/pixels.py --data DIR --test …    # on all 60,000 images; errors on the test split
    python benchmarks/gates/pixels.py --table

LeNet-300-100, the recipe of lenet.py; every method is told the number of parameters. Without --test no test image is looked at.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from collections.abc import Mapping
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

RESULTS = Path(__file__).parent / "results" / "pixels.json"
README = Path(__file__).parent / "README.md"
SIZES = (10_000, 5_000)
HELD_OUT = 10_000
LONGER: Mapping[str, Any] = {"gated": 0.6}
GATES: Mapping[str, Mapping[str, Any]] = {
    "Gates, early": EARLY,
    "Gates, `gated=0.6`": LONGER,
    "Gates, `gated=0.75`": {"gated": 0.75},
    "Gates, `gated=0.6, fall_steps=390`": {**LONGER, "fall_steps": 390},
    "Gates, `gated=0.75, fall_steps=1560`": {"gated": 0.75, "fall_steps": 1560},
    "Gates, `gated=0.6, clamp=1`": {**LONGER, "clamp": 1.0},
    "Gates, `gated=0.6, theta=0.5`": {**LONGER, "theta": 0.5},
    "Gates, `gated=0.6, warmup=0.3`": {**LONGER, "warmup": 0.3},
    "Gates, `gated=0.6, warmup=0.55`": {**LONGER, "warmup": 0.55},
    "Gates, `gated=0.6, evenness=1`": {**LONGER, "evenness": 1.0},
    "Gates, `gated=0.6, evenness=2`": {**LONGER, "evenness": 2.0},
    "Gates, `gated=0.7, doubt=2`": {"gated": 0.7, "doubt": 2.0},
    "Gates, `gated=0.6, draws=example`": {**LONGER, "draws": "example"},
    "Gates, `gated=0.6, estimator=drawn-labels`": {**LONGER, "estimator": "drawn-labels"},
}
VIB: Mapping[str, Mapping[str, Any]] = {
    "VIB": {},
    "VIB, `gated=0.4`": {"gated": 0.4},
    "VIB, `gated=0.9`": {"gated": 0.9},
    "VIB, `draws=batch`": {"draws": "batch"},
    "VIB, `early=False`": {"early": False},
}
VARIANTS = (*GATES, *VIB, "SBP")
STRENGTHS = {"VIB": {10_000: 4.3e-4, 5_000: 8e-4}, "SBP": {10_000: 14.0, 5_000: 32.0}}
"""Of the trials of lenet.py, between its sizes."""


def method(variant: str, parameters: int, seed: int) -> Method:
    """The method of a row."""
    common: dict[str, Any] = {"target": f"params={parameters}", "inputs": True, "seed": seed}
    if variant in GATES:
        return Gates(**common, **GATES[variant])
    if variant in VIB:
        return baselines.VIB(kl=STRENGTHS["VIB"][parameters], rate=5e-3, **common, **VIB[variant])
    return baselines.SBP(kl=STRENGTHS["SBP"][parameters], rate=1e-2, draws="batch", **common)


def run(variant: str, parameters: int, seed: int, parts: tuple[Split, Split]) -> dict[str, Any]:
    """One training on the first part; the last epoch's errors there and on the other."""
    setting = SETTINGS["lenet-300-100"]
    model, told = train(method(variant, parameters, seed), setting.network(seed), seed, parts[0], epochs=setting.epochs)
    found = {"error": evaluate(model, parts[1]).error, "train_error": evaluate(model, parts[0]).error}
    measured = sizes(model, parts[0].inputs[:1])
    return {
        **{name: round(error, 4) for name, error in found.items()},
        "parameters": measured["parameters"],
        "widths": measured["widths"],
        "train_macs": told["train_macs"],
    }


def split(data: Split) -> tuple[Split, Split]:
    """Images to train on, and those held out, as the trials of lenet.py have them."""
    order = torch.randperm(len(data), generator=torch.Generator().manual_seed(0))
    rest, held = (Split(data.inputs[part], data.targets[part]) for part in (order[HELD_OUT:], order[:HELD_OUT]))
    return rest, held


def table(rows: list[dict[str, Any]], judged: str) -> str:
    """Means over seeds, smallest and largest in brackets. judged: on which images, "held-out" or "test"."""
    rows = [row for row in rows if row["judged"] == judged]
    lines = [f"| variant | told | seeds | {judged} error % | training error % | widths | training MACs |", "|---" * 7 + "|"]
    for size, variant in product(SIZES, VARIANTS):
        own = sorted((row for row in rows if (row["target"], row["variant"]) == (size, variant)), key=lambda row: row["seed"])
        if own:
            errors = [100 * row["error"] for row in own]
            fitted, work = (statistics.mean(row[key] for row in own) for key in ("train_error", "train_macs"))
            spread = f"{statistics.mean(errors):.2f} ({min(errors):.2f}–{max(errors):.2f})"
            widths = "-".join(str(round(statistics.mean(values))) for values in zip(*(row["widths"] for row in own), strict=True))
            lines.append(f"| {variant} | {size} | {len(own)} | {spread} | {100 * fitted:.2f} | {widths} | {work:.2e} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="folder with mnist/ inside")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--only", nargs="+", choices=VARIANTS, default=VARIANTS)
    parser.add_argument("--targets", type=int, nargs="+", choices=SIZES, default=[SIZES[0]])
    parser.add_argument("--test", action="store_true", help="train on all images, and judge by the test split")
    parser.add_argument("--table", action="store_true", help="only rewrite the table of README.md and its claims")
    options = parser.parse_args()
    rows = stored(RESULTS)
    if not options.table:
        if options.data is None:
            sys.exit("--data DIR is needed to train.")
        data, judged = pn.data.load("mnist", folder=options.data / "mnist"), "test" if options.test else "held-out"
        parts = (data.train, data.test) if options.test else split(data.train)
        for seed, size, variant in product(options.seeds, options.targets, options.only):
            key = {"judged": judged, "variant": variant, "target": size, "seed": seed}
            if not any(key.items() <= row.items() for row in rows):
                rows.append({**key, **run(variant, size, seed, parts)})
                print(json.dumps(rows[-1], ensure_ascii=False), flush=True)
                write(RESULTS, rows, "pixels.py")
    tables = {"pixels": table(rows, "held-out"), "pixels, test": table(rows, "test")}
    print("\n\n".join(tables.values()))
    if options.table:
        put_tables(README.parent.parent / "claims.yaml", README, tables)


if __name__ == "__main__":
    run_script(main)
