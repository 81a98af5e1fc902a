"""How long a forward pass takes, dense and lean, in eager torch, torch.compile and ONNX Runtime.

    python benchmarks/speed/latency.py [--rounds 100] [--threads 1 2] [--only lenet] [--again]
    python benchmarks/speed/latency.py --table

All six forms of a network (lean.py) at one batch size take turns in one process, so that ratios are of one run; each network and number
of threads is a process of its own. The record has medians and 95th percentiles, in microseconds, and ratios of medians to the dense
network in eager torch. torch.compile takes part where it finds a C++ compiler. Needs `pip install "parsinet[onnx]"`.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping, Sequence

import torch
from lean import NETWORKS, shrunk
from protocol import THREADS, Benchmark, Row, main, markdown
from torch import Tensor, nn

import parsinet as pn
from parsinet.export.capturing import capture, settled
from parsinet.export.onnx_file import to_onnx

TIMED = ("lenet-300-100", "lenet-5-caffe", "resnet-20")
BATCHES = (1, 64)
SECONDS = 10.0
"""At most, per form and batch."""
FORMS = ("dense compile", "dense onnxruntime", "lean eager", "lean compile", "lean onnxruntime")
TITLES = {"eager": "eager", "compile": "compiled", "onnxruntime": "ONNX Runtime"}


def measure(case: Row, rounds: int) -> list[Row]:
    """All forms of one network, in turns, at each batch size."""
    network = NETWORKS[case["network"]]
    x = network.examples(max(BATCHES))
    models = {size: network.build(case["network"]).eval() for size in ("dense", "lean")}
    shrunk(models["lean"], x)
    size = {
        "parameters": [pn.measure.parameters(model) for model in models.values()],
        "macs": [pn.measure.macs(model, x) for model in models.values()],
        "torch.compile": compiler() or "skipped: no C++ compiler was found",
    }
    forms = {f"{size} {form}": network for size, model in models.items() for form, network in _forms(model, x).items()}
    return [{**size, **_timed(forms, x[:batch], rounds)} for batch in BATCHES]


def _timed(forms: Mapping[str, nn.Module], x: Tensor, rounds: int) -> Row:
    times = pn.measure.compare_latency(forms, x, repeats=rounds, seconds=SECONDS)
    eager = times["dense eager"]
    fast = {form: {"median": eager.median / time.median, "p95": eager.p95 / time.p95} for form, time in times.items()}
    return {
        "batch": len(x),
        "microseconds": {form: {"median": round(1e6 * time.median, 1), "p95": round(1e6 * time.p95, 1)} for form, time in times.items()},
        "times as fast": {form: {name: round(ratio, 3) for name, ratio in found.items()} for form, found in fast.items()},
        "repeats": eager.repeats,
    }


def _forms(model: nn.Module, x: Tensor) -> dict[str, nn.Module]:
    forms = {"eager": model}
    if compiler():
        forms["compile"] = torch.compile(model, dynamic=False)
    return {**forms, "onnxruntime": pn.export.OnnxNetwork(to_onnx(capture(*settled(model, x))))}


def compiler() -> str:
    """The C++ compiler that torch.compile would use; "" if there is none."""
    return next((name for name in (os.environ.get("CXX", ""), "g++", "clang++") if name and shutil.which(name)), "")


def tables(rows: Sequence[Row]) -> dict[str, str]:
    """Times as fast as the dense network in eager torch."""
    head = ["network", "threads", "batch", "dense, eager, µs (p95)", *(f"{form.split()[0]}, {TITLES[form.split()[1]]}" for form in FORMS)]
    return {"latency": markdown(head, (_line(row) for row in rows))}


def _line(row: Row) -> list[str]:
    eager, fast = row["microseconds"]["dense eager"], row["times as fast"]
    return [
        row["network"],
        str(row["threads"]),
        str(row["batch"]),
        f"{eager['median']:,.0f} ({eager['p95']:,.0f})",
        *(f"{fast[form]['median']:.2f}" if form in fast else "–" for form in FORMS),
    ]


BENCHMARK = Benchmark(
    name="latency",
    about=str(__doc__),
    rounds=100,
    cases=[{"network": name, "threads": threads} for name in TIMED for threads in THREADS],
    measure=measure,
    tables=tables,
    packages=("torch", "onnx", "onnxruntime"),
)

if __name__ == "__main__":
    main(BENCHMARK)
