"""Train every recipe of a benchmark folder with every seed and write the records and the table that its README.md shows.

    python benchmarks/run.py benchmarks/first_light --data DIR [--seeds 0 1 2] [--jobs 2] [--only lenet-300-100]

Each run is a process of its own with one thread; runs of one seed start together, so that what they are compared with met the same load.
A recipe `NETWORK-VARIANT.yaml` is compared with `NETWORK-dense.yaml`. `--table` rebuilds the table from the records.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from parsinet.bench import run_script

Record = dict[str, Any]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="holds the recipes; results/ and table.md are written there")
    parser.add_argument("--data", help="folder with mnist/ inside")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--only", default="", help="recipes whose name begins so")
    parser.add_argument("--table", action="store_true", help="only rebuild the table")
    options = parser.parse_args()
    if not options.table:
        recipes = sorted(options.folder.glob(f"{options.only}*.yaml"))
        if not recipes:
            sys.exit(f"{options.folder} holds no recipe {options.only}*.yaml.")
        jobs = [(recipe, seed) for seed in options.seeds for recipe in recipes]
        (options.folder / "results").mkdir(exist_ok=True)
        with ThreadPoolExecutor(options.jobs) as pool:
            failures = [message for message in pool.map(lambda job: train(*job, options.data), jobs) if message]
        if failures:
            sys.exit("\n".join(failures))
    text = table(read_records(options.folder))
    (options.folder / "table.md").write_text(text, encoding="utf-8")
    print(text)


def train(recipe: Path, seed: int, data: str | None) -> str:
    """One run in a process of its own; its record goes to results/. Returns what went wrong, "" if nothing did."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "run"
        command = [sys.executable, "-m", "parsinet", "train", "--recipe", str(recipe), "--seed", str(seed), "--out", str(out)]
        environment = {**os.environ, "OMP_NUM_THREADS": "1", **({"PARSINET_DATA": data} if data else {})}
        done = subprocess.run(command, env=environment, capture_output=True, text=True)
        if done.returncode:
            return f"{recipe.stem}, seed {seed}: {done.stderr.strip()}"
        shutil.copy(out / "record.jsonl", recipe.parent / "results" / f"{recipe.stem}-seed{seed}.jsonl")
        print(f"{recipe.stem}, seed {seed}: done", flush=True)
    return ""


def read_records(folder: Path) -> dict[str, dict[int, Record]]:
    """Recipe → seed → the record's `end` event, with the last known share of undecided gates per group beside it."""
    found: dict[str, dict[int, Record]] = {}
    for path in sorted((folder / "results").glob("*-seed*.jsonl")):
        events = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        told = [event["method"]["groups"] for event in events if event["event"] == "epoch" and event["method"].get("groups")]
        undecided = [group["interior"] for group in told[-1].values()] if told else []
        name, _, seed = path.stem.rpartition("-seed")
        found.setdefault(name, {})[int(seed)] = {**events[-1], "undecided": undecided}
    return found


def table(records: dict[str, dict[int, Record]]) -> str:
    """One Markdown table per network: every recipe beside the dense one."""
    networks = sorted(name.removesuffix("-dense") for name in records if name.endswith("-dense"))
    return "\n".join(_network_table(network, {n: r for n, r in records.items() if n.startswith(f"{network}-")}) for network in networks)


def _network_table(network: str, records: dict[str, dict[int, Record]]) -> str:
    dense = records[f"{network}-dense"]
    validated = any(run["validation_error"] is not None for by_seed in records.values() for run in by_seed.values())
    error = "validation_error" if validated else "test_error"
    lines = [
        f"**{network}**",
        "",
        f"| recipe | seeds | {error.replace('_', ' ')} % | widths | parameters | MACs | CPU s | wall s "
        "| CPU ÷ dense | latency ÷ dense, b1 | b64 | undecided |",
        "|---|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for name, by_seed in sorted(records.items(), key=lambda item: (not item[0].endswith("-dense"), item[0])):
        runs = [by_seed[seed] for seed in sorted(by_seed)]
        ratio = [by_seed[seed]["train_cpu_seconds"] / dense[seed]["train_cpu_seconds"] for seed in by_seed if seed in dense]
        cells = [
            name.removeprefix(f"{network}-"),
            ", ".join(str(seed) for seed in sorted(by_seed)),
            spread([100 * run[error] for run in runs], "{:.2f}"),
            " ; ".join("-".join(str(width) for width in run["widths"].values()) for run in runs),
            spread([run["after"]["parameters"] for run in runs], "{:,.0f}"),
            spread([run["after"]["macs"] for run in runs], "{:,.0f}"),
            spread([run["train_cpu_seconds"] for run in runs], "{:.1f}"),
            spread([run["train_seconds"] for run in runs], "{:.1f}"),
            spread(ratio, "{:.2f}"),
            *(spread([_latency_ratio(run, batch) for run in runs], "{:.2f}") for batch in (1, 64)),
            " ; ".join("/".join(f"{share:.2f}" for share in run["undecided"]) for run in runs if run["undecided"]) or "–",
        ]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join([*lines, ""])


def _latency_ratio(run: Record, batch: int) -> float:
    entry = next(entry for entry in run["latency"] if entry["batch"] == batch)
    return float(entry["after"]["median"] / entry["before"]["median"])


def spread(values: list[float], form: str) -> str:
    """mean (min–max)"""
    if not values:
        return "–"
    mean, low, high = (form.format(value) for value in (statistics.mean(values), min(values), max(values)))
    return mean if low == high else f"{mean} ({low}–{high})"


if __name__ == "__main__":
    run_script(main)
