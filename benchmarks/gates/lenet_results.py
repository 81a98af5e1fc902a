"""Tables and curves of lenet.py: what its rows came to, over seeds and at equal sizes."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any


def curves(rows: list[dict[str, Any]]) -> Iterator[tuple[str, bool, float, list[dict[str, Any]]]]:
    """Method, whether pixels may leave, strength, its rows over seeds."""
    for name, inputs, strength in dict.fromkeys((row["method"], row["inputs"], row["strength"]) for row in rows):
        yield name, inputs, strength, [row for row in rows if (row["method"], row["inputs"], row["strength"]) == (name, inputs, strength)]


def table(rows: list[dict[str, Any]]) -> str:
    """Means over seeds, smallest and largest error in brackets."""
    lines = [
        "| method | pixels | strength | seeds | test error % | parameters | MACs | widths | CPU s | training MACs |",
        "|---" * 10 + "|",
    ]
    for name, inputs, strength, same in curves(rows):
        errors = [100 * row["test_error"] for row in same]
        mean = {key: statistics.mean(row[key] for row in same) for key in ("parameters", "macs", "cpu_seconds", "train_macs")}
        widths = "-".join(str(round(statistics.mean(values))) for values in zip(*(row["widths"] for row in same), strict=True))
        lines.append(
            f"| {name} | {'leave' if inputs else 'stay'} | {strength:g} | {len(same)} | {statistics.mean(errors):.2f} "
            f"({min(errors):.2f}–{max(errors):.2f}) | {mean['parameters']:.0f} | {mean['macs']:.0f} | {widths} "
            f"| {mean['cpu_seconds']:.0f} | {mean['train_macs']:.2e} |"
        )
    return "\n".join(lines)


def equal(rows: list[dict[str, Any]], inputs: bool, targets: Sequence[int], key: str = "parameters") -> str:
    """Errors at the wanted sizes, between the neighbouring rows of a method along straight lines of log error over log size."""
    rows = [row for row in rows if row["inputs"] == inputs and row["method"] != "dense"]
    lines = [f"| test error % at {key}, pixels {'leave' if inputs else 'stay'} | " + " | ".join(f"{size:,}" for size in targets) + " |"]
    lines.append("|---" * (len(targets) + 1) + "|")
    for name in dict.fromkeys(row["method"] for row in rows):
        same = [each for method, _, _, each in curves(rows) if method == name]
        points = sorted((statistics.mean(r[key] for r in each), 100 * statistics.mean(r["test_error"] for r in each)) for each in same)
        lines.append(f"| {name} | " + " | ".join(_between(points, size) for size in targets) + " |")
    return "\n".join(lines)


def _between(points: list[tuple[float, float]], size: float) -> str:
    """A dash outside of the rows, by more than a fiftieth of the size."""
    for (x0, y0), (x1, y1) in pairwise(points):
        if x0 / 1.02 <= size <= x1 * 1.02:
            part = math.log(size / x0) / math.log(x1 / x0)
            return f"{y0 * (y1 / y0) ** part:.2f}"
    return "–"


COLORS = 10
"""In matplotlib's cycle."""


def plot(rows: list[dict[str, Any]], inputs: bool, names: Sequence[str], path: Path) -> Path:
    """Error over parameters and over multiply-adds, one line per method, the dense network as a level. names: methods, in their order."""
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot as plt

    figure, panels = plt.subplots(1, 2, figsize=(12.5, 4.6), sharey=True, layout="constrained")
    for panel, key, label in zip(panels, ("parameters", "macs"), ("parameters", "multiply-adds per image"), strict=True):
        for color, name in enumerate(name for name in names if any(row["method"] == name for row in rows)):
            lines = [same for method, pixels, _, same in curves(rows) if method == name and (pixels == inputs or name == "dense")]
            points = sorted((statistics.mean(r[key] for r in same), 100 * statistics.mean(r["test_error"] for r in same)) for same in lines)
            if name == "dense":
                panel.axhline(points[0][1], color="gray", linestyle=":", label="dense")
            elif points:
                form = "o-" if color < COLORS else "s--"  # the colours begin again
                panel.plot(*zip(*points, strict=True), form, markersize=4, color=f"C{color % COLORS}", label=name)
        panel.set(xscale="log", yscale="log", xlabel=label)
        panel.xaxis.set_major_formatter(lambda value, place: f"{value / 1000:,g}k")
        panel.xaxis.set_minor_formatter(lambda value, place: f"{value / 1000:,g}k" if f"{value:e}"[0] in "25" else "")
        panel.yaxis.set_major_formatter("{x:g}")
        panel.yaxis.set_minor_formatter(lambda value, place: f"{value:g}" if value < 10 else "")
        panel.grid(alpha=0.3, which="both")
    panels[0].set_ylabel("test error %")
    figure.legend(*panels[1].get_legend_handles_labels(), fontsize=8, loc="outside right center")
    figure.savefig(path, dpi=110)
    return path
