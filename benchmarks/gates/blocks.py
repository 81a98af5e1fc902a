"""Whole residual branches that leave: a residual MLP on MNIST and a small language model, with gates on blocks, on units, on both.

    python benchmarks/gates/blocks.py --data DIR [--seeds 0] [--only NETWORK …]
    python benchmarks/gates/blocks.py --table

Residual MLP: 784-96, eight blocks x + fc2(relu(fc1(x))) with 128 hidden units, 10 classes; 6 epochs, batch 128, Adam 2e-3 held for 36 % of
the run and then one cosine to 0, weight decay 5e-4. char-gpt: width 64, depth 6, contexts of 64 characters; 400 steps, batch 16,
AdamW 3e-3, weight decay 1e-2, the same schedule. One thread; test error of the last step. Prices were chosen once, from the sizes they
leave in runs of seed 0, not by the error. Rows already in the results are not run again.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from pathlib import Path
from typing import Any

import torch
from protocol import stored, write
from torch import Tensor, nn

import parsinet as pn
from parsinet.bench import put_tables, run_script
from parsinet.data import Batches, Dataset, Split
from parsinet.methods import Dense, Gates
from parsinet.methods.pruner import Removal
from parsinet.training.evaluate import evaluate
from parsinet.training.loop import fit
from parsinet.training.recipe import Cosine
from parsinet.training.schedule import learning_rate
from parsinet.training.state import Callback, LoopState

RESULTS = Path(__file__).parent / "results" / "blocks.json"
README = Path(__file__).parent / "README.md"
CASES: dict[str, dict[str, dict[str, Any] | None]] = {
    "residual-mlp": {
        "dense": None,
        "units": {"price": 1e-3},
        "blocks": {"groups": [], "blocks": True, "block_price": 1e-2},
        "blocks and units": {"price": 1e-3, "blocks": True},
        "blocks and units, by cost": {"cost_price": 0.3, "blocks": True},
    },
    "char-gpt": {
        "dense": None,
        "blocks": {"groups": [], "blocks": True, "block_price": 1e-3},
        "blocks, ten times the price": {"groups": [], "blocks": True, "block_price": 1e-2},
        "blocks and units, by cost": {"cost_price": 0.3, "blocks": True},
    },
}


class Block(nn.Module):
    """x + fc2(relu(fc1(x)))."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(width, hidden), nn.Linear(hidden, width)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.fc2(torch.relu(self.fc1(x)))


class ResidualMLP(nn.Module):
    """lift, eight blocks, head."""

    def __init__(self, inputs: int, classes: int, width: int = 96, hidden: int = 128, depth: int = 8) -> None:
        super().__init__()
        self.lift, self.head = nn.Linear(inputs, width), nn.Linear(width, classes)
        self.blocks = nn.Sequential(*(Block(width, hidden) for _ in range(depth)))

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.head(torch.relu(self.blocks(torch.relu(self.lift(x.flatten(1))))))
        return logits


def build(network: str, data: Dataset) -> tuple[nn.Module, int, int, float, float]:
    """The network, its batch size, epochs, learning rate and weight decay."""
    if network == "residual-mlp":
        return ResidualMLP(data.train.inputs[0].numel(), data.num_classes), 128, 6, 2e-3, 5e-4
    return pn.models.build("char-gpt", data.input_shape, data.num_classes, depth=6), 16, 1, 3e-3, 1e-2


def load(network: str, folder: Path) -> Dataset:
    """MNIST, or 6,400 contexts of Shakespeare with 400 to test on."""
    if network == "residual-mlp":
        return pn.data.load("mnist", folder=folder / "mnist")
    whole = pn.data.load(str(folder / "tinyshakespeare" / "input.txt"), block=64)
    few = {"train": _first(whole.train, 6400), "test": _first(whole.test, 400)}
    return Dataset(**{**whole.__dict__, **few})


def _first(split: Split, count: int) -> Split:
    return Split(split.inputs[:count], split.targets[:count])


def train(network: str, options: dict[str, Any] | None, seed: int, data: Dataset) -> dict[str, Any]:
    """One run: sizes, error, which blocks left and when."""
    torch.manual_seed(seed)
    model, batch, epochs, rate, decay = build(network, data)
    before = pn.measure.profile(model, data.test.inputs[:1], latency=False)
    method = Dense() if options is None else Gates(seed=seed, rise=1.0, **options)
    kind = torch.optim.Adam if network == "residual-mlp" else torch.optim.AdamW
    optimizer = kind(method.param_groups(model), lr=rate, weight_decay=decay)
    batches = Batches(data.train, batch, seed=seed)
    steps = epochs * len(batches)
    pruner = pn.Pruner(model, optimizer, method, data.train.inputs[:2], steps=steps, examples=len(data.train))
    watch = Leaving(steps)
    start = time.process_time()
    fit(
        model,
        optimizer,
        batches,
        epochs=epochs,
        pruner=pruner,
        learning_rate=lambda step: learning_rate(Cosine(hold=0.36), rate, step, steps, 1),
        callbacks=[watch],
    )
    seconds = time.process_time() - start
    small = pruner.finish()
    after = pn.measure.profile(small, data.test.inputs[:1], latency=False)
    result = evaluate(small, data.test, batch_size=200)
    times = pn.measure.compare_latency({"dense": build(network, data)[0], "small": small}, data.test.inputs[:64])
    return {
        "test_error": result.error,
        "test_loss": result.loss,
        "parameters": after.parameters / before.parameters,
        "macs": after.macs / before.macs,
        "latency": times["small"].median / times["dense"].median,
        "blocks": len(pruner.structure.blocks),
        "left": watch.left,
        "cpu_seconds": round(seconds, 1),
    }


class Leaving(Callback):
    """Notes which blocks leave, and after which part of the run."""

    def __init__(self, steps: int) -> None:
        self._steps = steps
        self.left: dict[str, float] = {}

    def on_removal(self, state: LoopState, removal: Removal) -> None:
        """Units have left the model."""
        gone = [name for name, (_, after) in removal.groups.items() if after == 0 and name.endswith(".block")]
        self.left.update(dict.fromkeys(gone, round(removal.step / self._steps, 3)))


def run(networks: list[str], seeds: list[int], folder: Path) -> None:
    """All rows that are not there yet."""
    rows = stored(RESULTS)
    for network in networks:
        data = load(network, folder)
        for seed in seeds:
            for case, options in CASES[network].items():
                key = {"network": network, "case": case, "seed": seed, "options": options}
                if not any(key.items() <= row.items() for row in rows):
                    rows.append({**key, **train(network, options, seed, data)})
                    print(json.dumps(rows[-1]), flush=True)
                    write(RESULTS, rows, "blocks.py")


def table() -> str:
    """Means over seeds; when blocks left, of seed 0."""
    heads = ["network", "gates", "test error %", "test loss", "blocks left over", "parameters %", "MACs %", "latency %", "CPU s"]
    heads += ["first … last block gone after", "seeds"]
    lines = [f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
    rows = stored(RESULTS)
    for network, cases in CASES.items():
        for case, options in cases.items():
            if same := [row for row in rows if (row["network"], row["case"]) == (network, case)]:
                lines.append(f"| {network.replace('-mlp', ' MLP')} | {gates(options)} | {' | '.join(cells(same))} |")
    return "\n".join(lines)


def cells(rows: list[dict[str, Any]]) -> list[str]:
    """What the rows of one case came to."""

    def mean(key: str, factor: float = 1.0, form: str = ".1f") -> str:
        return f"{factor * statistics.mean(row[key] for row in rows):{form}}"

    moments = sorted(rows[0]["left"].values())
    return [
        mean("test_error", 100, ".2f"),
        mean("test_loss", form=".3f"),
        mean("blocks", form="g"),
        mean("parameters", 100),
        mean("macs", 100),
        mean("latency", 100, ".0f"),
        mean("cpu_seconds", form=".0f"),
        f"{100 * moments[0]:.0f} … {100 * moments[-1]:.0f} %" if moments else "–",
        str(len(rows)),
    ]


def gates(options: dict[str, Any] | None) -> str:
    """What has gates, and at which price."""
    if options is None:
        return "dense"
    gated = "blocks" if options.get("groups") == [] else "blocks and units" if "blocks" in options else "units"
    if "cost_price" in options:
        return f"{gated}, `cost_price` {options['cost_price']:g}"
    return f"{gated}, {options.get('block_price', options.get('price')):.0e}".replace("e-0", "e-")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("data"), help="folder with mnist/ and tinyshakespeare/ inside")
    parser.add_argument("--only", nargs="+", default=list(CASES), choices=list(CASES))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--table", action="store_true", help="only rewrite the table of README.md and its claims")
    options = parser.parse_args()
    torch.set_num_threads(1)
    if not options.table:
        run(options.only, options.seeds, options.data)
    print(table())
    if options.table:
        put_tables(README.parent.parent / "claims.yaml", README, {"blocks": table()})


if __name__ == "__main__":
    run_script(main)
