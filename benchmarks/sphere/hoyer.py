"""How sparse trained units are: Hoyer sparsity per layer after training at each p, beside the expectation of the gamma hypothesis.

PARSINET_DATA=… python benchmarks/sphere/hoyer.py [--epochs 4] [--seeds 2]
python benchmarks/sphere/hoyer.py --table

MNIST, two small networks with BatchNorm behind every constrained layer, all layers but the last (and a convolution on one channel) on
spheres; one thread; one cosine of the step size. Writes results/hoyer.json and results/hoyer.png; --table puts the table of README.md and
its claims in line with them.
"""

import argparse
import json
import os
import statistics
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

import matplotlib as mpl
import torch
from torch import nn

import parsinet as pn
from parsinet.bench import put_tables, run_script

mpl.use("Agg")
import matplotlib.pyplot as plt

PS = (1.05, 1.07, 1.1, 1.2, 1.3, 1.5, 2.0, 3.0)
FOLDER = Path(__file__).parent / "results"
README = Path(__file__).parent / "README.md"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--table", action="store_true", help="only rewrite the table of README.md and its claims")
    options = parser.parse_args()
    if options.table:
        told = markdown(summary(json.loads((FOLDER / "hoyer.json").read_text(encoding="utf-8"))["runs"]))
        put_tables(README.parent.parent / "claims.yaml", README, {"hoyer": told})
        print(told)
        return
    torch.set_num_threads(1)
    data = pn.data.load("mnist", folder=Path(os.environ["PARSINET_DATA"]))
    start = time.perf_counter()
    runs = [
        {"network": network, "p": p, "seed": seed, **trained(network, p, seed, options.epochs, data)}
        for network in NETWORKS
        for p in PS
        for seed in range(options.seeds)
    ]
    result = {
        "command": f"python benchmarks/sphere/hoyer.py --epochs {options.epochs} --seeds {options.seeds}",
        "torch": torch.__version__,
        "seconds": round(time.perf_counter() - start),
        "runs": runs,
    }
    (FOLDER / "hoyer.json").write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    table = summary(runs)
    draw(table, FOLDER / "hoyer.png")
    print(markdown(table))


def fully_connected() -> nn.Module:
    """LeNet-300-100 with BatchNorm."""
    return nn.Sequential(
        nn.Flatten(),
        nn.Linear(784, 300, bias=False),
        nn.BatchNorm1d(300),
        nn.ReLU(),
        nn.Linear(300, 100, bias=False),
        nn.BatchNorm1d(100),
        nn.ReLU(),
        nn.Linear(100, 10),
    )


def convolutional() -> nn.Module:
    """A free stem, then three convolutions on spheres, each followed by BatchNorm."""
    widths, layers = (8, 16, 32, 32), [nn.Conv2d(1, 8, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(8), nn.ReLU()]
    for before, after, stride in zip(widths, widths[1:], (1, 2, 2), strict=False):
        layers += [nn.Conv2d(before, after, 3, stride=stride, padding=1, bias=False), nn.BatchNorm2d(after), nn.ReLU()]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, 10))


NETWORKS = {"lenet-300-100-bn": (fully_connected, 60000), "conv-8-16-32-32": (convolutional, 20000)}
"""How to build each, and on how many training images it learns."""


def trained(network: str, p: float, seed: int, epochs: int, data: Any) -> dict[str, Any]:
    """Train once; test error and, per constrained layer, fan-in, mean H over units, and its expectation."""
    build, examples = NETWORKS[network]
    torch.manual_seed(seed)
    model = build()
    optimizer = pn.sphere.LpSGD(pn.sphere.param_groups(model, p, free={"lr": 0.05}), lr=0.02, nesterov=True)
    peaks = [group["lr"] for group in optimizer.param_groups]
    split = pn.data.Split(data.train.inputs[:examples], data.train.targets[:examples])
    batches = pn.data.Batches(split, 128, seed=seed, drop_last=True)
    for epoch in range(epochs):
        for step, (x, y) in enumerate(batches):
            for group, peak in zip(optimizer.param_groups, peaks, strict=True):
                group["lr"] = pn.sphere.schedule.cosine((epoch + step / len(batches)) / epochs, peak)
            loss = nn.functional.cross_entropy(model(x), y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    model.eval()
    with torch.no_grad():
        wrong = (model(data.test.inputs).argmax(1) != data.test.targets).double().mean().item()
    constrained = {id(w) for group in optimizer.param_groups if group["constrained"] for w in group["params"]}
    layers = {
        name: {
            "fan_in": w[0].numel(),
            "hoyer": round(pn.sphere.hoyer(w.detach()).mean().item(), 4),
            "expected": round(pn.sphere.expected_hoyer(w[0].numel(), p), 4),
        }
        for name, w in model.named_parameters()
        if id(w) in constrained
    }
    print(network, p, seed, round(wrong, 4), {name: layer["hoyer"] for name, layer in layers.items()}, flush=True)
    return {"test_error": round(wrong, 4), "layers": layers}


def summary(runs: list[dict[str, Any]]) -> dict[tuple[str, str, int], dict[float, tuple[float, float, float]]]:
    """(network, layer, fan-in) → p → (mean measured H over seeds, expected H, mean test error)."""
    found: dict[tuple[str, str, int], dict[float, list[tuple[float, float, float]]]] = defaultdict(lambda: defaultdict(list))
    for run in runs:
        for name, layer in run["layers"].items():
            found[run["network"], name, layer["fan_in"]][run["p"]].append((layer["hoyer"], layer["expected"], run["test_error"]))
    return {key: {p: _means(values) for p, values in by_p.items()} for key, by_p in found.items()}


def _means(values: list[tuple[float, float, float]]) -> tuple[float, float, float]:
    first, second, third = (statistics.mean(column) for column in zip(*values, strict=True))
    return first, second, third


def draw(table: dict[tuple[str, str, int], dict[float, tuple[float, float, float]]], path: Path) -> None:
    """One panel per network: measured H as points, expected as lines, over p − 1 on a logarithmic axis."""
    networks = list(dict.fromkeys(network for network, _, _ in table))
    figure, axes = plt.subplots(1, len(networks), figsize=(5 * len(networks), 3.8), sharey=True, layout="constrained")
    for axis, network in zip(axes, networks, strict=True):
        for number, ((_, _, fan_in), by_p) in enumerate((key, value) for key, value in table.items() if key[0] == network):
            x = [p - 1 for p in by_p]
            axis.plot(x, [expected for _, expected, _ in by_p.values()], color=f"C{number}", linewidth=1)
            axis.plot(x, [measured for measured, _, _ in by_p.values()], "o", color=f"C{number}", label=f"layer {number + 1}, n = {fan_in}")
        axis.set_xscale("log")
        axis.set_xticks([p - 1 for p in PS], [f"{p:g}" for p in PS], rotation=45)
        axis.minorticks_off()
        axis.set_xlabel("p")
        axis.set_title(f"{network}: points trained, lines expected", fontsize=10)
        axis.set_ylim(0, 1)
        axis.legend(frameon=False, fontsize=9)
    axes[0].set_ylabel("Hoyer sparsity, mean over units")
    figure.savefig(path, dpi=110)


def markdown(table: dict[tuple[str, str, int], dict[float, tuple[float, float, float]]]) -> str:
    lines = ["| layer | " + " | ".join(f"{p:g}" for p in PS) + " |", "|---" * (len(PS) + 1) + "|"]
    for (network, _, fan_in), by_p in table.items():
        cells = [f"{by_p[p][0]:.2f} ({by_p[p][1]:.2f})" for p in PS]
        lines.append(f"| {network}, n = {fan_in} | " + " | ".join(cells) + " |")
    for network in dict.fromkeys(key[0] for key in table):
        errors = next(by_p for key, by_p in table.items() if key[0] == network)
        lines.append(f"| test error %, {network} | " + " | ".join(f"{100 * errors[p][2]:.2f}" for p in PS) + " |")
    return "\n".join(lines)


if __name__ == "__main__":
    run_script(main)
