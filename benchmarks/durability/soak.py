"""200 removals in one run: does memory grow, do tensors or hooks stay behind, do steps get slower?

    OMP_NUM_THREADS=1 python benchmarks/durability/soak.py [--methods spectral random-units] [--removals 200]     # writes results/soak.json

A perceptron on digits in a loop of its own, units leave at every second step. Every 20 removals: objects of Python (tracemalloc), live
tensors and their bytes, hooks, resident memory, and the processor time of the last steps without a removal, which should fall.
"""

from __future__ import annotations

import argparse
import gc
import json
import resource
import statistics
import time
import tracemalloc
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

import parsinet as pn
from parsinet.baselines import RandomUnits
from parsinet.bench import run_script

RESULTS = Path(__file__).parent / "results" / "soak.json"
WIDTHS = (1000, 500)


def method(name: str, removals: int) -> Any:
    """A method that lets units go at every second step, `removals` times."""
    window = {"begin": 0.01, "end": 0.99, "interval": 2}
    if name == "spectral":
        return pn.methods.Spectral(share=0.9, eigenvalues=0.0, **window)
    return RandomUnits(share=0.9, seed=0, **window)


def soak(name: str, removals: int) -> list[dict[str, Any]]:
    """What is alive after every 20 removals."""
    torch.manual_seed(0)
    data = pn.data.load("digits")
    model = pn.models.build("mlp", data.input_shape, data.num_classes, widths=WIDTHS)
    chosen, steps = method(name, removals), 3 * removals
    chosen.prepare(model)
    optimizer = torch.optim.Adam(chosen.param_groups(model), lr=1e-3)
    pruner = pn.Pruner(model, optimizer, chosen, data.train.inputs[:2], steps=steps, examples=len(data.train))
    x, y = data.train.inputs[:64], data.train.targets[:64]
    rows, times, done = [], [], 0
    tracemalloc.start()
    for _ in range(steps):
        began = time.process_time()
        (F.cross_entropy(model(x), y) + pruner.penalty()).backward()
        optimizer.step()
        optimizer.zero_grad()
        spent = time.process_time() - began
        removal = pruner.step()
        times += [spent] if removal is None else []
        done += removal is not None
        if removal is not None and done % 20 == 0:
            rows.append({"removals": done, **alive(model), "step_ms": round(1e3 * statistics.median(times[-10:]), 3)})
        if done == removals:
            break
    tracemalloc.stop()
    return rows


def alive(model: nn.Module) -> dict[str, Any]:
    """What this process holds."""
    gc.collect()
    tensors = [thing for thing in gc.get_objects() if type(thing) in (Tensor, nn.Parameter)]
    hooks = sum(len(m._forward_hooks) + len(m._forward_pre_hooks) + len(m._backward_hooks) for m in model.modules())
    return {
        "parameters": pn.measure.profile(model, torch.zeros(1, 1, 8, 8), latency=False).parameters,
        "tensors": len(tensors),
        "tensor_bytes": sum(tensor.untyped_storage().nbytes() for tensor in tensors),
        "hooks": hooks,
        "python_bytes": tracemalloc.get_traced_memory()[0],
        "peak_resident_kib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--methods", nargs="+", default=["spectral", "random-units"])
    parser.add_argument("--removals", type=int, default=200)
    options = parser.parse_args()
    results = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    for name in options.methods:
        results[name] = soak(name, options.removals)
        for row in results[name]:
            print(name, row, flush=True)
        RESULTS.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    run_script(main)
