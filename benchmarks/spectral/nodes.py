"""Node pruning on MNIST: by eigenvalue after and before training, while training, and what a user would do instead; equal total epochs.

    python benchmarks/spectral/nodes.py --data DIR [--hidden 500] [--hidden 500 500 500] [--seeds 0 1 2] [--activations relu tanh elu]

Writes results/nodes-<widths>-<activation>-seed<seed>.json; `--table` prints the tables of the README from them.
"""

from __future__ import annotations

import argparse
import copy
import itertools
import json
import math
import os
import statistics
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

import parsinet as pn
from parsinet.bench import run_script
from parsinet.data import Batches, Dataset, Split
from parsinet.methods.nodes import node_scores
from parsinet.methods.ranking import keep_best
from parsinet.training.evaluate import evaluate
from parsinet.training.loop import fit

RESULTS = Path(__file__).parent / "results"
ACTIVATIONS = {"relu": nn.ReLU, "tanh": nn.Tanh, "elu": nn.ELU}
BATCH, RATE = 200, 1e-3
Row = dict[str, Any]


class Trial:
    """One activation, one seed: everything that is compared starts here."""

    def __init__(self, data: Dataset, hidden: tuple[int, ...], activation: str, seed: int, epochs: int, retrain: int) -> None:
        self.data, self.hidden, self.activation, self.seed = data, hidden, activation, seed
        self.epochs, self.retrain = epochs, retrain
        self.rows: list[Row] = []
        self.x = data.train.inputs[:2]

    def network(self, hidden: Iterable[int] | None = None) -> nn.Sequential:
        """Fully connected, no biases, Glorot uniform, as in the published experiment."""
        torch.manual_seed(self.seed)
        widths = [784, *(self.hidden if hidden is None else hidden), 10]
        layers: list[nn.Module] = [nn.Flatten()]
        for i, (before, after) in enumerate(itertools.pairwise(widths)):
            layer = nn.Linear(before, after, bias=False)
            nn.init.xavier_uniform_(layer.weight)
            layers += [layer] if i == len(widths) - 2 else [layer, ACTIVATIONS[self.activation]()]
        return nn.Sequential(*layers)

    def spectral(self) -> nn.Sequential:
        """φ ~ U(−0.2, 0.2), λ_in held at 0, λ_out ~ U(−0.5, 0.5), all trained."""
        generator = torch.Generator().manual_seed(self.seed)
        return pn.spectral.spectralize(self.network(), "full-one-set", initialiser="p3", generator=generator)

    def train(self, model: nn.Module, optimizer: torch.optim.Optimizer, epochs: int, begin: int = 0, **options: Any) -> None:
        batches = Batches(self.data.train, BATCH, seed=self.seed + 1000 * begin)
        fit(model, optimizer, batches, epochs=epochs, **options)

    def note(self, method: str, share: float, model: nn.Module, epochs: int, seconds: float) -> None:
        lean = pn.spectral.fold(copy.deepcopy(model))
        widths = [layer.out_features for layer in lean.modules() if isinstance(layer, nn.Linear)][:-1]
        accuracy = 1 - evaluate(lean, self.data.test).error
        parameters = sum(p.numel() for p in lean.parameters())
        row = {"method": method, "share": share, "accuracy": accuracy, "epochs": epochs, "widths": widths, "parameters": parameters}
        self.rows.append({**row, "cpu_seconds": round(seconds, 2)})
        print(self.activation, self.seed, method, share, f"{accuracy:.4f}", widths, f"{seconds:.0f} s", flush=True)


def adam(model: nn.Module) -> torch.optim.Adam:
    return torch.optim.Adam(model.parameters(), lr=RATE, fused=True)


def weight_scores(order: Callable[[Tensor], Tensor]) -> Callable[[nn.Module, Any], dict[str, Tensor]]:
    def scores(model: nn.Module, structure: Any) -> dict[str, Tensor]:
        return {group.name: order(model.get_submodule(group.name).weight.detach()) for group in structure.removable()}

    return scores


def eigenvalues(model: nn.Module, structure: Any) -> dict[str, Tensor]:
    return node_scores(model, structure, "eigenvalue")


def at_random(seed: int) -> Callable[[nn.Module, Any], dict[str, Tensor]]:
    generator = torch.Generator().manual_seed(seed)
    return lambda model, structure: {g.name: torch.rand(g.size, generator=generator) for g in structure.removable()}


def prune(trial: Trial, model: nn.Module, optimizer: torch.optim.Optimizer, scores: Any, share: float) -> None:
    """Remove the lowest `share` of all hidden nodes, one threshold for all layers, from model and optimizer."""
    structure = pn.trace(model, trial.x)
    found = scores(model, structure)
    masks = keep_best(found, {name: len(row) for name, row in found.items()}, share, scope="global")
    pn.shrink(model, structure.plan(masks), optimizers=[optimizer])


def fork(model: nn.Module, optimizer: torch.optim.Optimizer) -> tuple[nn.Module, torch.optim.Optimizer]:
    """Copies that train on independently of the originals."""
    twin = copy.deepcopy(model)
    other = torch.optim.Adam(twin.parameters(), lr=RATE, fused=True)
    other.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    return twin, other


STAGES = {"direct": False, "spectral": False, "eigenvalues": True}
"""What trains before the cut, and whether the eigenvectors stand still."""

RANKINGS: dict[str, tuple[str, Callable[[int], Any], bool]] = {
    "Σ|w|": ("direct", lambda seed: weight_scores(lambda w: w.abs().sum(1)), False),
    "Σ|w| + retrain": ("direct", lambda seed: weight_scores(lambda w: w.abs().sum(1)), True),
    "‖w‖₂ + retrain": ("direct", lambda seed: weight_scores(lambda w: w.norm(dim=1)), True),
    "random + retrain": ("direct", at_random, True),
    "post": ("spectral", lambda seed: eigenvalues, False),
    "post + retrain": ("spectral", lambda seed: eigenvalues, True),
    "pre": ("eigenvalues", lambda seed: eigenvalues, True),
    "random instead of pre": ("eigenvalues", at_random, True),
}
"""Method → what trained before the cut, how nodes are ranked, whether training goes on."""

METHODS = (*RANKINGS, "small from scratch", "continuous")


def compare(trial: Trial, shares: Iterable[float], methods: Iterable[str]) -> list[Row]:
    """All rows of one trial."""
    methods = list(methods)
    trained = {}
    for stage in dict.fromkeys(RANKINGS[method][0] for method in methods if method in RANKINGS):
        model = trial.network() if stage == "direct" else trial.spectral()
        start = time.process_time()
        freeze(model, STAGES[stage])
        optimizer = adam(model)
        trial.train(model, optimizer, trial.epochs)
        freeze(model, False)
        trained[stage] = (model, optimizer, time.process_time() - start)
        trial.note(stage, 0.0, model, trial.epochs, trained[stage][2])
    for share in shares:
        for method in methods:
            if method in RANKINGS:
                one_shot(trial, trained, method, share)
        if "small from scratch" in methods:
            from_scratch(trial, share)
        if "continuous" in methods:
            continuous(trial, share)
    return trial.rows


def one_shot(trial: Trial, trained: dict[str, Any], method: str, share: float) -> None:
    """Cut once; train on if the method does."""
    stage, ranking, retrains = RANKINGS[method]
    model, optimizer = fork(*trained[stage][:2])
    start = time.process_time()
    prune(trial, model, optimizer, ranking(trial.seed), share)
    if retrains:
        trial.train(model, optimizer, trial.retrain, begin=1)
    epochs = trial.epochs + trial.retrain * retrains
    trial.note(method, share, model, epochs, trained[stage][2] + time.process_time() - start)


def from_scratch(trial: Trial, share: float) -> None:
    """The small network with as many nodes per layer as an even cut leaves, for all epochs."""
    model, epochs = trial.network([max(1, width - math.ceil((width - 1) * share)) for width in trial.hidden]), trial.epochs + trial.retrain
    start = time.process_time()
    trial.train(model, adam(model), epochs)
    trial.note("small from scratch", share, model, epochs, time.process_time() - start)


def continuous(trial: Trial, share: float) -> None:
    """parsinet's own: nodes leave while everything trains, in the same number of epochs, on a falling learning rate."""
    model, epochs = trial.network(), trial.epochs + trial.retrain
    method = pn.methods.Spectral(share, schedule="continuous")
    method.prepare(model)
    optimizer = torch.optim.Adam(method.param_groups(model), lr=RATE, fused=True)
    steps = epochs * len(Batches(trial.data.train, BATCH))
    pruner = pn.Pruner(model, optimizer, method, trial.x, steps=steps)
    start = time.process_time()
    trial.train(model, optimizer, epochs, pruner=pruner, learning_rate=lambda step: RATE * 0.5 * (1 + math.cos(math.pi * step / steps)))
    trial.note("continuous", share, pruner.finish(), epochs, time.process_time() - start)


def freeze(model: nn.Module, frozen: bool) -> None:
    """Whether the eigenvectors stand still."""
    for layer in pn.spectral.spectral_layers(model).values():
        for parameter in layer.spectrum.basis.parameters():
            parameter.requires_grad_(not frozen)


def pixels(folder: str | None) -> Dataset:
    """MNIST with pixels in [0, 1], as published."""
    data = pn.data.load("mnist", folder=None if folder is None else Path(folder) / "mnist")
    mean, std = data.mean[0], data.std[0]
    rescaled = {name: Split(split.inputs * std + mean, split.targets) for name, split in (("train", data.train), ("test", data.test))}
    return Dataset(**{**{field: getattr(data, field) for field in data.__dataclass_fields__}, **rescaled})


def table(records: list[dict[str, Any]]) -> str:
    """Mean ± spread over seeds: one row per method, one column per share and activation."""
    lines = []
    for widths in sorted({record["name"] for record in records}, key=len):
        found: dict[tuple[str, str, float], list[float]] = {}
        for record in (record for record in records if record["name"] == widths):
            for row in record["rows"]:
                found.setdefault((row["method"], record["activation"], row["share"]), []).append(row["accuracy"])
        columns = sorted(
            {(activation, share) for _, activation, share in found if share}, key=lambda c: (list(ACTIVATIONS).index(c[0]), c[1])
        )
        methods = list(dict.fromkeys(method for method, _, share in found if share))
        lines += [f"**784-{widths}-10**", "", "| method | " + " | ".join(f"{a} {share:.0%}" for a, share in columns) + " |"]
        lines += ["|---" * (len(columns) + 1) + "|"]
        for method in methods:
            cells = [_cell(found.get((method, *column))) for column in columns]
            lines.append(f"| {method.replace('|', chr(92) + '|')} | " + " | ".join(cells) + " |")
        whole = {key[:2]: values for key, values in found.items() if key[2] == 0}
        told = [f"{method}, {activation}: {_cell(values)}" for (method, activation), values in whole.items()]
        lines += ["", *(["Nothing removed: " + "; ".join(told) + ".", ""] if told else [])]
    return "\n".join(lines)


def _cell(values: list[float] | None) -> str:
    if not values:
        return "–"
    mean = f"{statistics.mean(values):.4f}"
    return f"{mean} ± {statistics.pstdev(values):.4f}" if len(values) > 1 else f"{mean} (one seed)"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", help="folder with mnist/ inside")
    parser.add_argument("--hidden", type=int, nargs="+", action="append")
    parser.add_argument("--activations", nargs="+", default=list(ACTIVATIONS), choices=list(ACTIVATIONS))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--shares", type=float, nargs="+", default=[0.5, 0.9, 0.95])
    parser.add_argument("--methods", nargs="+", default=list(METHODS), choices=METHODS)
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--retrain", type=int, default=10)
    parser.add_argument("--name", default="nodes", help="how the result files begin")
    parser.add_argument("--table", action="store_true", help="only print the tables")
    options = parser.parse_args()
    if options.table:
        print(table([json.loads(path.read_text(encoding="utf-8")) for path in sorted(RESULTS.glob(f"{options.name}-*-seed*.json"))]))
        return
    torch.set_num_threads(1)
    data = pixels(options.data)
    for seed in options.seeds:
        for hidden in options.hidden or [[500]]:
            for activation in options.activations:
                name = "-".join(map(str, hidden))
                trial = Trial(data, tuple(hidden), activation, seed, options.epochs, options.retrain)
                record = {"name": name, "activation": activation, "seed": seed, "epochs": options.epochs, "retrain": options.retrain}
                record |= {
                    "command": " ".join(["python", "benchmarks/spectral/nodes.py", *_shown(sys.argv[1:])]),
                    "torch": torch.__version__,
                }
                text = json.dumps({**record, "rows": compare(trial, options.shares, options.methods)}, indent=1, ensure_ascii=False)
                (RESULTS / f"{options.name}-{name}-{activation}-seed{seed}.json").write_text(text + "\n", encoding="utf-8")


def _shown(arguments: list[str]) -> list[str]:
    """The command line with the data folder left open."""
    return ["DIR" if i and arguments[i - 1] == "--data" else word for i, word in enumerate(arguments)]


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    run_script(main)
