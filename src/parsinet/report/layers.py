"""Plot: how wide each layer was over training: one line per group, or a heat map where there are many."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from parsinet.report import style, timeline
from parsinet.report.records import Run

if TYPE_CHECKING:
    from matplotlib.figure import Figure


FEW = 6
"""Up to this many groups are drawn as lines."""
COLUMNS = 400
ROW = 0.21
"""Inches per group in the heat map."""


def layers(run: Run) -> Figure | None:
    """Units per group over epochs; None if no epoch has ended or no unit left."""
    watched = timeline.groups(run)
    series = {name: timeline.widths(run, name, size) for name, size in watched.items()}
    if not any(np.ptp(one.y) > 0 for one in series.values()):
        return None
    return _lines(run, watched, series) if len(watched) <= FEW else _map(run, watched, series)


def _change(start: int, series: timeline.Series) -> str:
    return f"{start:,} → {series.y[-1]:,.0f}"


def _lines(run: Run, watched: dict[str, int], series: dict[str, timeline.Series]) -> Figure:
    from matplotlib.ticker import MaxNLocator

    words = [f"{style.shortened(name)}  {_change(size, series[name])}" for name, size in watched.items()]
    probe = style.figure(1, 1)
    right = max(style.text_size(probe, text)[0] for text in words) + 0.35
    page = style.figure(0.75 + 6.3 + right, 5.0)
    panel = style.axes(page, 0.75, 0.6, 6.3, 3.65)
    panel.set_xlim(0, run.epochs[-1].epoch)
    panel.set_ylim(0, 1.04 * max(float(one.y.max()) for one in series.values()))
    panel.yaxis.set_major_locator(MaxNLocator(6, steps=[1, 2, 5, 10], integer=True))
    style.thousands(panel)
    colours = style.COLOURS[: len(watched)]
    for one, colour in zip(series.values(), colours, strict=True):
        x = timeline.clock(run, one.x, "epoch")
        panel.plot(x, one.y, color=colour, linewidth=1.8, drawstyle="steps-post", clip_on=False)
    style.end_labels(panel, [(run.epochs[-1].epoch, one.y[-1]) for one in series.values()], words, colours)
    style.note(panel, 0, 1.03, "Units in each group", size=style.BODY, va="bottom")
    style.x_title(panel, "epoch")
    style.write(page, 0.75, 5.0 - 0.33, style.shortened(run.name, 70), size=style.TITLE, weight="bold")
    return page


def _map(run: Run, watched: dict[str, int], series: dict[str, timeline.Series]) -> Figure:
    probe = style.figure(1, 1)
    names = [style.shortened(name, 40) for name in watched]
    left = max(style.text_size(probe, name)[0] for name in names) + 0.3
    changes = [_change(size, series[name]) for name, size in watched.items()]
    right = max(style.text_size(probe, text)[0] for text in changes) + 0.25
    tall, wide = ROW * len(watched), max(4.6, 8.6 - left - right)
    page = style.figure(left + wide + right, tall + 1.75)
    panel = style.axes(page, left, 0.6, wide, tall)
    last = run.epochs[-1].epoch
    kept = np.stack([_sampled(run, series[name], size, last) for name, size in watched.items()])
    image = panel.imshow(
        kept, aspect="auto", cmap=style.tints(), vmin=0, vmax=1, extent=(0, last, len(watched), 0), interpolation="nearest"
    )
    panel.grid(visible=False)
    panel.hlines(range(1, len(watched)), 0, last, color="white", linewidth=1.2)
    panel.set_yticks(np.arange(len(watched)) + 0.5, names)
    panel.tick_params(axis="y", length=0)
    style.thousands(panel)
    for row, text in enumerate(changes):
        style.note(panel, 1 + 0.08 / wide, 1 - (row + 0.5) / len(watched), text)
    style.x_title(panel, "epoch")
    height = tall + 1.75
    style.write(page, 0.15, height - 0.33, style.shortened(run.name, 70), size=style.TITLE, weight="bold")
    style.write(page, 0.15, height - 0.62, "Units left in each group; right: start → end")
    _scale(page, image, left, height - 0.93, wide)
    return page


def _sampled(run: Run, series: timeline.Series, start: int, last: int) -> style.Floats:
    moments = np.linspace(0, last, COLUMNS)
    x = timeline.clock(run, series.x, "epoch")
    return np.asarray(series.y[np.searchsorted(x, moments, side="right") - 1] / max(start, 1))


def _scale(page: Figure, image: Any, left: float, bottom: float, wide: float) -> None:
    bar = style.axes(page, left, bottom, min(1.6, wide / 3), 0.09)
    page.colorbar(image, cax=bar, orientation="horizontal", ticks=[])
    bar.spines[:].set_visible(False)
    style.note(bar, -0.03, 0.5, "none", ha="right")
    style.note(bar, 1.03, 0.5, "all")
