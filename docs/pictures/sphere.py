"""docs/pictures/sphere.png: unit Lp spheres in the plane, and how sparse units on them are, expected and measured, from a record.

python docs/pictures/sphere.py
"""

from __future__ import annotations

import json
from pathlib import Path
from statistics import mean

import numpy as np

import parsinet as pn
from parsinet.report import style

HERE = Path(__file__).parent
RECORD = HERE.parent.parent / "benchmarks" / "sphere" / "results" / "hoyer.json"
FANS = ((784, "lenet-300-100-bn", "1.weight"), (144, "conv-8-16-32-32", ""))


def main() -> None:
    page = style.figure(8.6, 3.6)
    _spheres(style.axes(page, 0.45, 0.5, 2.6, 2.6))
    _sparsity(style.axes(page, 4.2, 0.65, 2.5, 2.45))
    (HERE / "sphere.png").write_bytes(style.png(page))


def _spheres(panel: style.Axes) -> None:
    angle = np.linspace(0, 2 * np.pi, 1601)
    plane = np.stack([np.cos(angle), np.sin(angle)])
    for p, colour in zip((2.0, 1.5, 1.2, 1.05), style.COLOURS, strict=False):
        on = plane / (np.abs(plane) ** p).sum(0) ** (1 / p)
        panel.plot(*on, color=colour, linewidth=1.6, label=f"p = {p:g}")
    panel.axhline(0, color=style.GRID, linewidth=0.8, zorder=0)
    panel.axvline(0, color=style.GRID, linewidth=0.8, zorder=0)
    panel.set_xlim(-1.1, 1.1)
    panel.set_ylim(-1.1, 1.1)
    panel.set_xticks([-1, 0, 1])
    panel.set_yticks([-1, 0, 1])
    panel.grid(visible=False)
    panel.legend(frameon=False, fontsize=style.SMALL, loc="center", handlelength=1.2)
    style.note(panel, 0, 1.08, "unit spheres |w₁|ᵖ + |w₂|ᵖ = 1", size=style.BODY)


def _sparsity(panel: style.Axes) -> None:
    runs = json.loads(RECORD.read_text(encoding="utf-8"))["runs"]
    grid = np.linspace(1.03, 3.0, 120)
    ends = []
    for (fan, network, layer), colour in zip(FANS, style.COLOURS, strict=False):
        expected = [pn.sphere.expected_hoyer(fan, float(p)) for p in grid]
        panel.plot(grid, expected, color=colour, linewidth=1.6)
        ends.append((grid[-1], expected[-1]))
        measured: dict[float, list[float]] = {}
        for run in runs:
            for name, told in run["layers"].items():
                if run["network"] == network and told["fan_in"] == fan and layer in ("", name):
                    measured.setdefault(run["p"], []).append(told["hoyer"])
        panel.plot(list(measured), [mean(values) for values in measured.values()], "o", color=colour, markersize=4)
    panel.set_ylim(0, 1)
    panel.set_xlim(1, 3.05)
    style.end_labels(panel, ends, ["784 inputs (linear)", "144 inputs (convolution)"], style.COLOURS[:2])
    style.x_title(panel, "p")
    style.note(panel, -0.12, 1.08, "Hoyer sparsity: lines expected, points trained", size=style.BODY)


if __name__ == "__main__":
    main()
