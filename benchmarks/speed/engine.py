"""How long it takes to find a network's units and to remove 30 % of them: torch.export alone, parsinet, Torch-Pruning.

    python benchmarks/speed/engine.py [--rounds 2] [--only encoder] [--again]
    python benchmarks/speed/engine.py --table

Each network (networks.py) is a process of its own with one thread; every round measures every part once, on a fresh copy, after a garbage
collection; the first round is not counted. Seconds of processor time. Torch-Pruning takes part where it is installed
(`pip install "parsinet[peers]"`).
"""

from __future__ import annotations

import copy
import gc
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from protocol import Benchmark, Row, main, markdown, ratios, shown, spread
from torch import Tensor, nn

import parsinet as pn
from networks import NETWORKS

try:
    import torch_pruning
except ImportError:
    torch_pruning = None

SHARE = 0.3
"""Of every removable group, how many units leave."""


def measure(case: Row, rounds: int) -> list[Row]:
    """Every part of one network."""
    model, x = NETWORKS[case["network"]]()
    times: dict[str, list[float]] = {}
    for number in range(rounds + 1):
        for part, seconds in {**parsinet(model.eval(), x), **peer(model.eval(), x)}.items():
            times.setdefault(part, [])
            if number:
                times[part].append(seconds)
    times["plan + shrink"] = [a + b for a, b in zip(times["plan"], times["shrink"], strict=True)]
    row: Row = {
        "seconds": {part: spread(values, 4) for part, values in times.items()},
        "over export": {part: ratios(times[part], times["export"]) for part in ("trace", "trace with blocks")},
    }
    if case["network"].endswith(" layers"):
        row["milliseconds per layer"] = per_layer(case["network"], times)
    return [row]


def per_layer(name: str, times: Mapping[str, list[float]]) -> dict[str, float]:
    """Of "encoder, N layers" the least time of each part in thousandths of a second, divided by N; constant if all is linear in depth."""
    layers = int(name.split()[1])
    return {part: round(1000 * min(values) / layers, 3) for part, values in times.items()}


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


def tables(rows: Sequence[Row]) -> dict[str, str]:
    """Per network, and per layer of the encoders."""
    head = ["network", "export alone", "trace", "trace ÷ export", "with blocks", "with blocks ÷ export", "plan + shrink"]
    layers = ["layers", "export alone", "trace", "with blocks", "plan + shrink", "Torch-Pruning build", "prune"]
    encoders = [row for row in rows if "milliseconds per layer" in row]
    return {
        "engine": markdown([*head, "Torch-Pruning build", "prune"], (_line(row) for row in rows)),
        "engine per layer": markdown(layers, (_per_layer(row) for row in encoders)),
    }


def _line(row: Row) -> list[str]:
    def seconds(part: str, digits: int) -> str:
        return f"{row['seconds'][part]['median']:.{digits}f} s" if part in row["seconds"] else "–"

    over = {part: shown(found) for part, found in row["over export"].items()}
    blocks = [seconds("trace with blocks", 2), over["trace with blocks"]]
    ours = [seconds("export", 2), seconds("trace", 2), over["trace"], *blocks, seconds("plan + shrink", 3)]
    return [row["network"], *ours, *(seconds(f"torch-pruning {part}", 3) for part in ("build", "prune"))]


def _per_layer(row: Row) -> list[str]:
    def least(part: str, digits: int = 1) -> str:
        found = row["milliseconds per layer"].get(part)
        return "–" if found is None else f"{found:.{digits}f} ms"

    ours = [least("export"), least("trace"), least("trace with blocks"), least("plan + shrink", 2)]
    return [row["network"].split()[1], *ours, least("torch-pruning build"), least("torch-pruning prune")]


BENCHMARK = Benchmark(
    name="engine",
    about=str(__doc__),
    rounds=2,
    cases=[{"network": name, "threads": 1} for name in NETWORKS],
    measure=measure,
    tables=tables,
    packages=("torch", "torch-pruning"),
)

if __name__ == "__main__":
    main(BENCHMARK)
