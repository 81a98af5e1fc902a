"""From which density on a linear layer without its zeros (CSR) is faster than the dense one, and whether the export ever chooses worse.

    python benchmarks/speed/csr.py [--rounds 40] [--threads 1 2] [--only 1024] [--again]
    python benchmarks/speed/csr.py --table

A layer and its CSR form take turns on one input, for weights of which a random share is left. `to_csr`, which `parsinet export --to csr`
asks, then chooses by its own measurement; where it chooses CSR both forms are timed once more, and this decides whether the choice was a
slow-down: the script ends with 1 if one was. Break-even is where the ratio crosses 1 between two densities, on straight lines over the
logarithms.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import partial
from itertools import pairwise

import torch
from protocol import THREADS, Benchmark, Row, main, markdown
from torch import Tensor, nn

from parsinet.export import CSRLinear, to_csr
from parsinet.measure import Latency, compare_latency

SIZES = ((300, 784), (1024, 1024), (4096, 1024))
"""Outputs, inputs."""
DENSITIES = (0.5, 0.3, 0.2, 0.1, 0.05, 0.02, 0.01, 0.005)
BATCHES = (1, 64)
SECONDS = 0.6
"""At most, per form and comparison."""
SLOWER = 1.02
"""What counts as a slow-down: two forms of equal speed differ by as much in medians of so few passes."""


def measure(case: Row, rounds: int) -> list[Row]:
    """One size at every density and batch."""
    timer = partial(compare_latency, repeats=rounds, warmup=3, seconds=SECONDS)
    outputs, inputs = (int(number) for number in case["size"].split("×"))
    x = torch.randn(max(BATCHES), inputs)
    return [_compared(_sparse(outputs, inputs, density), density, x[:batch], timer) for batch in BATCHES for density in DENSITIES]


def _sparse(outputs: int, inputs: int, density: float) -> nn.Module:
    """A network of one layer with exactly this share of its weights."""
    layer = nn.Linear(inputs, outputs)
    with torch.no_grad():
        hidden = torch.randperm(layer.weight.numel())[round(density * layer.weight.numel()) :]
        layer.weight.view(-1)[hidden] = 0
    return nn.Sequential(layer).eval()


def _compared(network: nn.Module, density: float, x: Tensor, timer: partial[Mapping[str, Latency]]) -> Row:
    """Both forms' microseconds, CSR's time over the dense one's, what was chosen, and the chosen form's in a second comparison."""
    times = timer({"dense": network, "csr": nn.Sequential(CSRLinear.from_linear(network[0]))}, x)
    choice = to_csr(network, x, timer=timer)
    row: Row = {
        "batch": len(x),
        "density": density,
        "microseconds": {form: {"median": round(1e6 * t.median, 1), "p95": round(1e6 * t.p95, 1)} for form, t in times.items()},
        "csr / dense": round(times["csr"].median / times["dense"].median, 3),
        "chosen": "dense" if choice.csr is None or not choice.layers[0].converted else "csr",
    }
    if row["chosen"] == "csr":
        again = timer({"dense": network, "chosen": choice.model}, x)
        row["chosen / dense"] = round(again["chosen"].median / again["dense"].median, 3)
    return row


def break_even(rows: Sequence[Row]) -> float | None:
    """The density at which CSR becomes faster, of one size, batch and number of threads; None if it never does, 1 if it always is."""
    points = sorted((row["density"], row["csr / dense"]) for row in rows)
    if points[0][1] >= 1:
        return None
    for (low, before), (high, after) in pairwise(points):
        if after >= 1:
            part = -math.log(before) / (math.log(after) - math.log(before))
            return math.exp((1 - part) * math.log(low) + part * math.log(high))
    return 1.0


def judge(rows: Sequence[Row]) -> str:
    """Choices of the export that were slower than the dense layer."""
    worse = [row for row in rows if row.get("chosen / dense", 0) > SLOWER]
    told = [f"{r['size']}, batch {r['batch']}, {r['threads']} threads, density {r['density']}: {r['chosen / dense']} times" for r in worse]
    return f"CSR was chosen and took longer than the dense layer: {'; '.join(told)}." if worse else ""


def tables(rows: Sequence[Row]) -> dict[str, str]:
    """CSR's time over the dense layer's per density, where it breaks even, and the worst choice."""
    head = ["size", "threads", "batch", *(f"{100 * density:g} %" for density in DENSITIES), "break-even", "CSR chosen", "worst choice"]
    found: dict[tuple[str, int, int], list[Row]] = {}
    for row in rows:
        found.setdefault((row["size"], row["threads"], row["batch"]), []).append(row)
    return {"csr": markdown(head, (_line(*key, group) for key, group in found.items()))}


def _line(size: str, threads: int, batch: int, rows: Sequence[Row]) -> list[str]:
    even, by_density = break_even(rows), {row["density"]: row for row in rows}
    chosen = [row["chosen / dense"] for row in rows if row["chosen"] == "csr"]
    return [
        size,
        str(threads),
        str(batch),
        *(f"{by_density[density]['csr / dense']:.2f}" for density in DENSITIES),
        "never" if even is None else "always" if even == 1 else f"{100 * even:.2g} %",
        f"{len(chosen)} of {len(rows)}",
        f"{max(chosen):.2f}" if chosen else "–",
    ]


BENCHMARK = Benchmark(
    name="csr",
    about=str(__doc__),
    rounds=40,
    cases=[{"size": f"{outputs}×{inputs}", "threads": threads} for outputs, inputs in SIZES for threads in THREADS],
    measure=measure,
    tables=tables,
    judge=judge,
)

if __name__ == "__main__":
    main(BENCHMARK)
