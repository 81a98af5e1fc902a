"""How long a forward pass takes, dense and lean, in eager torch, torch.compile and ONNX Runtime.

    python benchmarks/export/latency.py [--threads 1 2] [--only lenet] [--repeats 100] [--no-compile] [--out FILE]

Lean networks keep 40 % of the units of every group that can lose any, a multiple of 4, the first ones: time does not depend on which, nor
on the weights, so nothing is trained. All six forms of a network at one batch size take turns in one process, so ratios are of one run;
each number of threads is a process of its own. Medians, 95th percentiles and ratios go to results/latency.json, after every network.
torch.compile takes part where it finds a C++ compiler. Needs `pip install "parsinet[onnx]"`.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

import parsinet as pn
from parsinet.export.capturing import capture, settled
from parsinet.export.onnx_file import to_onnx

NETWORKS: dict[str, tuple[int, ...]] = {"lenet-300-100": (1, 28, 28), "lenet-5-caffe": (1, 28, 28), "resnet-20": (3, 32, 32)}
BATCHES = (1, 64)
KEPT, ROUND = 0.4, 4
RESULT = Path(__file__).parent / "results" / "latency.json"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--only", default="", help="networks whose name contains this; nothing is written then")
    parser.add_argument("--repeats", type=int, default=100)
    parser.add_argument("--no-compile", action="store_true", help="without torch.compile, which takes minutes")
    parser.add_argument("--out", type=Path, default=RESULT)
    parser.add_argument("--part", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.part:
        print(json.dumps(measured(options.part, options.threads[0], options.repeats, not options.no_compile)))
        return
    result: dict[str, Any] = {
        "command": " ".join(["python benchmarks/export/latency.py", *sys.argv[1:]]),
        "machine": {"processor": processor(), "cores": os.cpu_count()},
        "versions": {package: metadata.version(package) for package in ("torch", "onnx", "onnxruntime")},
        "torch.compile": "skipped: --no-compile" if options.no_compile else compiler() or "skipped: no C++ compiler was found",
        "lean": f"{KEPT:.0%} of the units, multiples of {ROUND}",
        "cases": [],
    }
    for threads in options.threads:
        for name in NETWORKS:
            if options.only in name:
                result["cases"] += part(name, threads, options.repeats, not options.no_compile)
                print(json.dumps(result["cases"][-len(BATCHES) :], indent=1), flush=True)
                if not options.only:
                    options.out.write_text(json.dumps(result, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def part(name: str, threads: int, repeats: int, compiled: bool) -> list[dict[str, Any]]:
    """One network in a process of its own, whose libraries start with that many threads."""
    command = [sys.executable, __file__, "--part", name, "--threads", str(threads), "--repeats", str(repeats)]
    command += [] if compiled else ["--no-compile"]
    done = subprocess.run(command, env={**os.environ, "OMP_NUM_THREADS": str(threads)}, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{name}, {threads} threads: {done.stderr}")
    cases: list[dict[str, Any]] = json.loads(done.stdout.splitlines()[-1])
    return cases


def measured(name: str, threads: int, repeats: int, compiled: bool) -> list[dict[str, Any]]:
    """All forms of one network, in turns, at each batch size."""
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    x = torch.randn(max(BATCHES), *NETWORKS[name])
    models = {size: pn.models.build(name, x.shape[1:], 10).eval() for size in ("dense", "lean")}
    shrunk(models["lean"], x)
    size = {"parameters": [pn.measure.parameters(model) for model in models.values()]}
    size["macs"] = [pn.measure.macs(model, x) for model in models.values()]
    forms = {f"{size} {form}": network for size, model in models.items() for form, network in forms_of(model, x, compiled).items()}
    return [{"network": name, "threads": threads, **size, **timed(forms, x[:batch], repeats)} for batch in BATCHES]


def timed(forms: dict[str, nn.Module], x: Tensor, repeats: int) -> dict[str, Any]:
    """Microseconds, median and 95th percentile, and the ratios of the medians to that of the dense network in eager torch."""
    before = os.getloadavg()[0]
    times = pn.measure.compare_latency(forms, x, repeats=repeats, seconds=60)
    eager = times["dense eager"].median
    return {
        "batch": len(x),
        "microseconds": {form: [round(1e6 * time.median, 1), round(1e6 * time.p95, 1)] for form, time in times.items()},
        "times as fast as dense eager": {form: round(eager / time.median, 2) for form, time in times.items()},
        "repeats": times["dense eager"].repeats,
        "load": [round(before, 1), round(os.getloadavg()[0], 1)],
    }


def shrunk(model: nn.Module, x: Tensor) -> nn.Module:
    """The first 40 % of every group that can lose units."""
    found = pn.trace(model, x[:2])
    sizes = {group.name: group.size for group in found.removable()}
    kept = {name: max(ROUND, round(KEPT * size / ROUND) * ROUND) for name, size in sizes.items()}
    pn.shrink(model, found.plan({name: torch.arange(size) < kept[name] for name, size in sizes.items()}))
    return model


def forms_of(model: nn.Module, x: Tensor, compiled: bool) -> dict[str, nn.Module]:
    forms = {"eager": model}
    if compiled and compiler():
        forms["compile"] = torch.compile(model, dynamic=False)
    return {**forms, "onnxruntime": pn.export.OnnxNetwork(to_onnx(capture(*settled(model, x))))}


def compiler() -> str:
    """The C++ compiler that torch.compile would use; "" if there is none."""
    return next((name for name in (os.environ.get("CXX", ""), "g++", "clang++") if name and shutil.which(name)), "")


def processor() -> str:
    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines() if Path("/proc/cpuinfo").exists() else []
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.processor())


if __name__ == "__main__":
    main()
