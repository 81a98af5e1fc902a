"""How long it takes to find a network's units and to remove 30 % of them: torch.export alone, parsinet, Torch-Pruning.

    python benchmarks/structure/speed.py [--rounds 5] [--only encoder]

Every round measures every part of every network once, on a fresh copy; medians over rounds, in seconds of processor time, go to
results/speed.json. Torch-Pruning takes part where it is installed (`pip install parsinet[peers]`).
"""

from __future__ import annotations

import argparse
import copy
import gc
import json
import os
import platform
import statistics
import time
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

import parsinet as pn
from networks import NETWORKS

try:
    import torch_pruning
except ImportError:
    torch_pruning = None

SHARE = 0.3
"""Of every removable group, how many units leave."""
RESULT = Path(__file__).parent / "results" / "speed.json"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", default="", help="networks whose name contains this; nothing is written then")
    options = parser.parse_args()
    torch.manual_seed(0)
    before = os.getloadavg()[0]
    cases = {name: make() for name, make in NETWORKS.items() if options.only in name}
    times: dict[str, dict[str, list[float]]] = {name: {} for name in cases}
    for number in range(options.rounds + 1):
        for name, (model, x) in cases.items():
            for part, seconds in {**parsinet(model.eval(), x), **peer(model.eval(), x)}.items():
                times[name].setdefault(part, [])
                if number:
                    times[name][part].append(seconds)
    result = {
        "command": f"python benchmarks/structure/speed.py --rounds {options.rounds}",
        "machine": {"processor": platform.processor() or platform.machine(), "cores": os.cpu_count(), "threads": torch.get_num_threads()},
        "versions": {"torch": torch.__version__, "torch-pruning": version("torch-pruning")},
        "seconds": {name: {part: round(statistics.median(values), 3) for part, values in parts.items()} for name, parts in times.items()},
        "milliseconds per layer": {name: per_layer(name, times[name]) for name in times if name.endswith(" layers")},
        "trace / export": {name: ratio(parts["trace"], parts["export"]) for name, parts in times.items()},
        "trace with blocks / export": {name: ratio(parts["trace with blocks"], parts["export"]) for name, parts in times.items()},
        "load": [round(before, 1), round(os.getloadavg()[0], 1)],
    }
    text = json.dumps(result, indent=1, ensure_ascii=False)
    if not options.only:
        RESULT.write_text(text + "\n", encoding="utf-8")
    print(text)


def version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "not installed: its columns are missing"


def ratio(one: list[float], other: list[float]) -> float:
    """Median of the ratios round by round."""
    return round(statistics.median(a / b for a, b in zip(one, other, strict=True)), 2)


def per_layer(name: str, parts: dict[str, list[float]]) -> dict[str, float]:
    """Of "encoder, N layers" the least time of each part in thousandths of a second, divided by N; constant if all is linear in depth."""
    layers = int(name.split()[1])
    return {part: round(1000 * min(values) / layers, 2) for part, values in parts.items()}


def timed(work: Callable[[], Any]) -> tuple[Any, float]:
    """The result, and seconds of processor time: what else runs on the machine does not count."""
    gc.collect()
    start = time.process_time()
    result = work()
    return result, time.process_time() - start


def parsinet(model: nn.Module, x: Tensor) -> dict[str, float]:
    """Seconds of torch.export alone, of traces that include it, and of a plan for all removable groups and its removal."""
    smaller = copy.deepcopy(model)
    _, export = timed(lambda: torch.export.export(model, (x,), strict=False))
    structure, trace = timed(lambda: pn.trace(model, x))
    _, with_blocks = timed(lambda: pn.trace(model, x, blocks=True))
    alive = {}
    for group in structure.removable():
        alive[group.name] = torch.arange(group.size) >= int(SHARE * group.size)
    plan, planning = timed(lambda: structure.plan(alive))
    _, shrinking = timed(lambda: pn.shrink(smaller, plan))
    _, after = timed(lambda: structure.after(plan))
    return {
        "export": export,
        "trace": trace,
        "trace with blocks": with_blocks,
        "plan": planning,
        "shrink": shrinking,
        "structure after": after,
    }


def peer(model: nn.Module, x: Tensor) -> dict[str, float]:
    """Seconds of Torch-Pruning's dependency graph with its groups, and of its removal of the same share."""
    if torch_pruning is None:
        return {}
    model = copy.deepcopy(model)
    last = [module for module in model.modules() if isinstance(module, nn.Linear)][-1]
    heads = {part: layer.heads for layer in model.modules() if hasattr(layer, "heads") for part in (layer.query, layer.key, layer.value)}
    importance = torch_pruning.importance.RandomImportance()
    pruner, build = timed(
        lambda: torch_pruning.pruner.MetaPruner(model, x, importance, pruning_ratio=SHARE, ignored_layers=[last], num_heads=heads)
    )
    before = sum(parameter.numel() for parameter in model.parameters())
    _, prune = timed(pruner.step)
    assert sum(parameter.numel() for parameter in model.parameters()) < 0.9 * before, "Torch-Pruning removed nothing"
    return {"torch-pruning build": build, "torch-pruning prune": prune}


if __name__ == "__main__":
    main()
