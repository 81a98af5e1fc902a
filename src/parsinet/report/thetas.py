"""Plot: gate probabilities θ of the units still there: their distribution over epochs and at the end, group by group."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from parsinet.report import style
from parsinet.report.records import Run

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.colors import LogNorm
    from matplotlib.figure import Figure


BINS = 25
EDGES = np.linspace(0.0, 1.0, BINS + 1)
PALEST = 0.22
EMPTY, UNKNOWN = 1e-9, "#F4F4F4"
"""A cell without units is white (below the logarithmic scale), an epoch that knows no θ is grey."""


def thetas(run: Run) -> Figure | None:
    """A heat map of θ over epochs per group with its final histogram at the side; None where the method has no θ."""
    names = list(dict.fromkeys(name for epoch in run.epochs for name, theta in epoch.theta.items() if theta))
    if not names:
        return None
    counts = {name: _counts(run, name) for name in names}
    across, wide, tall = _grid(len(names))
    down = math.ceil(len(names) / across)
    page = style.figure(0.75 + across * wide, 1.15 + down * (tall + 0.5) + 0.4)
    height = page.get_size_inches()[1]
    style.write(page, 0.3, height - 0.33, style.shortened(run.name, 70), size=style.TITLE, weight="bold")
    settled = " (grey: decided, no θ any more)" if any(np.isnan(table).any() for table in counts.values()) else ""
    words = f"Gate probability θ of the units still there, over epochs{settled}; at the side: the histogram last known"
    style.write(page, 0.3, height - 0.6, words)
    norm = _norm(counts)
    for place, name in enumerate(names):
        row, column = divmod(place, across)
        left, bottom = 0.7 + column * wide, height - 1.15 - row * (tall + 0.5) - tall - 0.12
        last = place + across >= len(names)
        _cell(page, (left, bottom, wide - 0.35, tall), run, name, counts[name], norm, edge=(column == 0, last))
    _scale(page, norm, height - 0.88)
    return page


def _norm(counts: Mapping[str, style.Floats]) -> LogNorm:
    """Units per cell on a logarithmic scale, one for all groups."""
    from matplotlib.colors import LogNorm

    return LogNorm(1, max(2.0, *(float(np.nanmax(table)) for table in counts.values())))


def _grid(many: int) -> tuple[int, float, float]:
    """Cells across, and the width and height of each in inches."""
    if many <= 3:
        return 1, 8.4, 1.7
    if many <= 8:
        return 2, 4.9, 1.5
    return (3, 3.4, 1.15) if many <= 30 else (4, 2.7, 1.0)


def _counts(run: Run, name: str) -> style.Floats:
    """Units per bin of θ (rows) and epoch (columns); nan where the epoch knows no θ of the group."""
    table = np.full((BINS, len(run.epochs)), np.nan)
    for column, epoch in enumerate(run.epochs):
        if name in epoch.theta:
            values = np.asarray(epoch.theta[name], dtype=float)
            table[:, column] = np.histogram(np.clip(values[np.isfinite(values)], 0, 1), EDGES)[0]
    return table


def _cell(
    page: Figure, box: tuple[float, float, float, float], run: Run, name: str, table: style.Floats, norm: Any, edge: tuple[bool, bool]
) -> None:
    left, bottom, width, height = box
    main = style.axes(page, left, bottom, 0.8 * width, height)
    side = style.axes(page, left + 0.8 * width + 0.06, bottom, 0.2 * width - 0.06, height)
    epochs = np.array([epoch.epoch for epoch in run.epochs], dtype=float)
    edges = np.concatenate([epochs - 0.5, epochs[-1:] + 0.5])
    tints = style.tints(PALEST).with_extremes(under="white", bad=UNKNOWN)
    main.pcolormesh(edges, EDGES, np.where(table == 0, EMPTY, table), cmap=tints, norm=norm)
    main.set_xlim(edges[0], edges[-1])
    style.thousands(main)
    for panel in (main, side):
        panel.grid(visible=False)
        panel.set_ylim(-0.02, 1.02)
    main.set_yticks([0, 0.5, 1], ["0", "0.5", "1"] if edge[0] else ["", "", ""])
    main.tick_params(axis="x", labelbottom=edge[1])
    if edge[1]:
        style.x_title(main, "epoch")
        style.x_title(side, "units")
    left_units = run.epochs[-1].widths.get(name, _histogram(side, table))
    gone = f"{run.groups[name]:,} → {left_units:,} units" if name in run.groups else f"{left_units:,} units"
    style.note(main, 0, 1 + 0.06 / height, f"{style.shortened(name, 24)}   {gone}", va="bottom")


def _histogram(side: Axes, table: style.Floats) -> int:
    """Draw the last known distribution; return its number of units."""
    known = np.flatnonzero(~np.isnan(table[0]))
    final = table[:, known[-1]]
    side.barh(EDGES[:-1], final, height=np.diff(EDGES) * 0.9, align="edge", color=style.COLOURS[0])
    side.set_xlim(0, 1.08 * max(float(final.max()), 1))
    side.set_xticks([float(final.max())], [f"{final.max():,.0f}"])
    side.set_yticks([])
    return int(final.sum())


def _scale(page: Figure, norm: LogNorm, bottom: float) -> None:
    from matplotlib.cm import ScalarMappable

    bar = style.axes(page, 2.2, bottom, 1.6, 0.09)
    page.colorbar(ScalarMappable(norm, style.tints(PALEST)), cax=bar, orientation="horizontal", ticks=[])
    bar.minorticks_off()
    bar.spines[:].set_visible(False)
    style.note(bar, -0.03, 0.5, "units per cell: 1", ha="right")
    style.note(bar, 1.03, 0.5, f"{norm.vmax:,.0f} (logarithmic)")
