"""Gates with a target: with and without pursuit, acting for a longer or shorter part of the run; errors on 10,000 held-out images of MNIST.

    python benchmarks/gates/pursuit.py --data DIR [--seeds 0 1 2]    # rows that stand in the results are not run again
    python benchmarks/gates/pursuit.py --table

LeNet-300-100, the recipe of lenet.py, through `parsinet train`; no test image is looked at.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from itertools import product
from pathlib import Path
from typing import Any

from protocol import BATCH, DECAY, HOLD, RATE, stored, write

from parsinet.bench import put_tables, run_script

RESULTS = Path(__file__).parent / "results" / "pursuit.json"
README = Path(__file__).parent / "README.md"
SIZES = (5_000, 10_000, 25_000, 50_000)
VARIANTS = (
    (0.0, 0.6, 10, 0.0, 0.9),
    (1.0, 0.6, 10, 0.0, 0.9),
    (1.0, 0.4, 10, 0.0, 0.9),
    (1.0, 0.3, 10, 0.0, 0.9),
    (1.0, 0.4, 15, 0.0, 0.9),
    (1.0, 0.4, 24, 0.0, 0.9),
    (1.0, 0.4, 20, 2.0, 1.0),
    (1.0, 0.4, 20, 2.0, 0.9),
)
"""`pursuit`, `gated`, into how many parts `fall_steps` divides the run, `doubt`, `theta`; the third are the defaults."""
KEYS = ("pursuit", "gated", "fall", "doubt", "theta")
Variant = tuple[float, float, int, float, float]
HELD_OUT, EPOCHS = 1 / 6, 20
STEPS = EPOCHS * -(-50_000 // BATCH)


def recipe(parameters: int, variant: Variant, seed: int) -> dict[str, Any]:
    """The recipe of one run."""
    pursuit, gated, part, doubt, theta = variant
    acting = {"pursuit": pursuit, "gated": gated, "fall_steps": STEPS // part, "doubt": doubt, "theta": theta}
    return {
        "data": {"source": "mnist", "batch_size": BATCH, "validation": HELD_OUT},
        "model": {"name": "lenet-300-100"},
        "method": {"name": "gates", "target": f"params={parameters}", **acting},
        "optimizer": {"name": "adam", "lr": RATE, "weight_decay": DECAY},
        "schedule": {"kind": "cosine", "hold": HOLD},
        "epochs": EPOCHS,
        "round_to": 1,
        "threads": 1,
        "seed": seed,
    }


def run(parameters: int, variant: Variant, seed: int, data: Path) -> dict[str, Any]:
    """One training; the last epoch's error on the held-out images and the multiply-adds spent."""
    with tempfile.TemporaryDirectory() as folder:
        written, out = Path(folder) / "recipe.yaml", Path(folder) / "run"
        written.write_text(json.dumps(recipe(parameters, variant, seed)), encoding="utf-8")
        command = [sys.executable, "-m", "parsinet", "train", "--recipe", str(written), "--out", str(out)]
        subprocess.run(
            command, check=True, env={**os.environ, "OMP_NUM_THREADS": "1", "PARSINET_DATA": str(data)}, stdout=subprocess.DEVNULL
        )
        events = [json.loads(line) for line in (out / "record.jsonl").read_text(encoding="utf-8").splitlines()]
    epoch, end = ([event for event in events if event["event"] == kind][-1] for kind in ("epoch", "end"))
    return {
        "parameters": parameters,
        **dict(zip(KEYS, variant, strict=True)),
        "seed": seed,
        "validation_error": epoch["validation_error"],
        "train_macs": float(f"{end['train_macs']:.3g}"),
    }


def of_variant(row: dict[str, Any]) -> Variant:
    """What a row was run with; older ones do not tell of `doubt` and `theta`."""
    return row["pursuit"], row["gated"], row["fall"], row.get("doubt", 0.0), row.get("theta", 0.9)


def table(rows: list[dict[str, Any]]) -> str:
    """Means over seeds, every seed in brackets."""
    lines = ["| held-out error % at parameters | " + " | ".join(f"{size:,}" for size in SIZES) + " |", "|---" * (len(SIZES) + 1) + "|"]
    for variant in VARIANTS:
        cells = []
        for size in SIZES:
            own = [row for row in rows if row["parameters"] == size and of_variant(row) == variant]
            if not own:
                cells.append("–")
                continue
            errors = [100 * row["validation_error"] for row in own]
            work = statistics.mean(row["train_macs"] for row in own)
            cells.append(f"{statistics.mean(errors):.2f} ({', '.join(f'{error:.2f}' for error in errors)}), {work:.2g} MACs")
        pursuit, gated, part, doubt, theta = variant
        further = f", doubt={doubt:g}, theta={theta:g}" if doubt else ""
        lines.append(f"| `pursuit={pursuit:g}, gated={gated:g}{further}`, θ falls in 1/{part} of the run | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="folder with mnist/ inside")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--table", action="store_true", help="only rewrite the table of README.md and its claims")
    options = parser.parse_args()
    rows = stored(RESULTS)
    for seed, size, variant in product(options.seeds, SIZES, VARIANTS) if not options.table else ():
        if any((row["parameters"], row["seed"]) == (size, seed) and of_variant(row) == variant for row in rows):
            continue
        if options.data is None:
            sys.exit("--data DIR is needed to train.")
        rows.append(run(size, variant, seed, options.data))
        print(json.dumps(rows[-1]), flush=True)
        write(RESULTS, rows, "pursuit.py")
    print(table(rows))
    if options.table:
        put_tables(README.parent.parent / "claims.yaml", README, {"pursuit": table(rows)})


if __name__ == "__main__":
    run_script(main)
