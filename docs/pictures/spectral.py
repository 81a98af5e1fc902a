"""docs/pictures/spectral.png: a map as a block of its transfer operator, and accuracy over trained numbers, from a record.

python docs/pictures/spectral.py
"""

from __future__ import annotations

import json
from pathlib import Path
from statistics import mean

import numpy as np
import torch
from matplotlib.patches import Rectangle
from torch import nn

import parsinet as pn
from parsinet.report import style

HERE = Path(__file__).parent
RECORD = HERE.parent.parent / "benchmarks" / "spectral" / "results" / "dense-published.json"
SENDERS, RECEIVERS = 9, 5


def main() -> None:
    page = style.figure(8.6, 3.6)
    _operator(style.axes(page, 0.35, 0.35, 2.7, 2.7))
    _accuracy(style.axes(page, 4.3, 0.65, 2.6, 2.4))
    (HERE / "spectral.png").write_bytes(style.png(page))


def _operator(panel: style.Axes) -> None:
    layer = nn.Sequential(nn.Linear(SENDERS, RECEIVERS, bias=False))
    pn.spectral.spectralize(layer, "two-set", initialiser="hyperspectral", generator=torch.Generator().manual_seed(3))
    whole = pn.spectral.transfer_operator(layer[0]).matrix.detach().numpy()
    bound = float(np.abs(whole).max())
    panel.imshow(whole, cmap="RdBu", vmin=-bound, vmax=bound, interpolation="nearest")
    panel.set_xticks([])
    panel.set_yticks([])
    panel.grid(visible=False)
    panel.spines[["left", "bottom"]].set_visible(False)
    for x, y, width, height in ((0, 0, SENDERS, SENDERS), (SENDERS, SENDERS, RECEIVERS, RECEIVERS), (0, SENDERS, SENDERS, RECEIVERS)):
        panel.add_patch(Rectangle((x - 0.5, y - 0.5), width, height, fill=False, edgecolor=style.INK, linewidth=1.0))
    side = SENDERS + RECEIVERS
    style.note(panel, 0, 1.07, "transfer operator A, 9 senders, 5 receivers", size=style.BODY)
    style.note(panel, 0.36, 1 - 2 / side, "diag(λ_in)", ha="left")
    style.note(panel, 1.02, 1 - (SENDERS + RECEIVERS / 2) / side, "diag(λ_out)")
    style.note(panel, 0, -0.055, "the weights w_ij = (λ_in,j − λ_out,i) φ_ij")


def _accuracy(panel: style.Axes) -> None:
    rows = json.loads(RECORD.read_text(encoding="utf-8"))["rows"]
    names = list(dict.fromkeys(row["setting"] for row in rows))
    ends = []
    for name, colour in zip(names, (style.INK, *style.COLOURS), strict=False):
        of = {nodes: [row for row in rows if row["setting"] == name and row["nodes"] == nodes] for nodes in (50, 100, 300)}
        x = [mean(row["trained"] for row in found) for found in of.values()]
        y = [mean(row["test_accuracy"] for row in found) for found in of.values()]
        panel.plot(x, y, color=colour, linewidth=1.6, marker="o", markersize=4)
        ends.append((x[-1], y[-1]))
    panel.set_xscale("log")
    panel.set_xlim(800, 500_000)
    panel.set_ylim(0.85, 0.99)
    style.percent_ticks(panel, 5)
    style.end_labels(panel, ends, names, (style.INK, *style.COLOURS)[: len(names)])
    style.x_title(panel, "trained numbers, 784-N-N-10 with N = 50, 100, 300")
    style.note(panel, -0.1, 1.08, "test accuracy, MNIST", size=style.BODY)


if __name__ == "__main__":
    main()
