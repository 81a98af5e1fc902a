"""The look of every plot: figures in inches without pyplot, a colour-blind-safe palette, labels that keep apart."""

from __future__ import annotations

import functools
import io
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.colors import Colormap
    from matplotlib.figure import Figure


Floats = NDArray[np.float64]

DPI = 120
FONT = "DejaVu Sans"
BODY, SMALL, TITLE = 10.0, 8.5, 12.0
INK, SOFT, GRID = "#222222", "#666666", "#E6E6E6"
COLOURS = ("#0072B2", "#C44E00", "#007A5A", "#AA3377", "#8A6D00", "#2E8BC0", "#6B2E9E")
"""Okabe and Ito's palette, darkened where text in the colour would be too pale; dense runs are drawn in `INK`."""
DASHES = ("-", (0, (5, 2)), (0, (1.5, 1.5)), (0, (6, 2, 1.5, 2)))
LABEL_GAP = 0.175
"""Inches between the base lines of two labels at the ends of lines."""


def figure(width: float, height: float) -> Figure:
    """A white page of `width` × `height` inches on the Agg canvas."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    page = Figure(figsize=(width, height), dpi=DPI, facecolor="white")
    FigureCanvasAgg(page)
    return page


def axes(page: Figure, left: float, bottom: float, width: float, height: float) -> Axes:
    """Axes at a place given in inches, with two spines and a faint horizontal grid."""
    across, up = page.get_size_inches()
    panel = page.add_axes((left / across, bottom / up, width / across, height / up), facecolor="white")
    panel.spines[["top", "right"]].set_visible(False)
    panel.spines[["left", "bottom"]].set_color("#999999")
    panel.grid(axis="y", color=GRID, linewidth=0.8)
    panel.grid(axis="x", visible=False)
    panel.set_axisbelow(True)
    panel.tick_params(labelsize=SMALL, labelfontfamily=FONT, color="#999999", labelcolor=INK, length=3)
    return panel


def png(page: Figure) -> bytes:
    """The page as PNG, `DPI` pixels per inch."""
    buffer = io.BytesIO()
    page.savefig(buffer, format="png", dpi=DPI, facecolor="white")
    return buffer.getvalue()


def write(
    page: Figure, x: float, y: float, words: str, *, size: float = BODY, colour: str = INK, weight: str = "normal", ha: str = "left"
) -> None:
    """Text with its base line at x, y inches from the lower left corner of the page."""
    across, up = page.get_size_inches()
    page.text(x / across, y / up, legible(words), fontsize=size, color=colour, weight=weight, ha=ha, family=FONT, parse_math=False)


def note(
    panel: Axes, x: float, y: float, words: str, *, size: float = SMALL, colour: str = INK, ha: str = "left", va: str = "center"
) -> None:
    """Text at a place given in fractions of the panel; it may lie outside."""
    panel.text(
        x,
        y,
        legible(words),
        transform=panel.transAxes,
        fontsize=size,
        color=colour,
        ha=ha,
        va=va,
        family=FONT,
        parse_math=False,
        clip_on=False,
    )


def x_title(panel: Axes, words: str) -> None:
    """What the horizontal axis shows, with its unit."""
    panel.set_xlabel(words, fontsize=BODY, color=INK, family=FONT)


@functools.cache
def _glyphs() -> frozenset[int]:
    from matplotlib.font_manager import findfont, get_font

    return frozenset(get_font(findfont(FONT)).get_charmap())


def legible(words: str) -> str:
    """`words` with every character the plot's font lacks replaced by `?`."""
    return "".join(letter if ord(letter) in _glyphs() else "?" for letter in words)


def shortened(words: str, length: int = 32) -> str:
    """`words`, or its beginning and end around an ellipsis."""
    if len(words) <= length:
        return words
    head = (length - 1) // 2
    return f"{words[:head]}…{words[head + 1 - length :]}"


def text_size(page: Figure, words: str, size: float = SMALL) -> tuple[float, float]:
    """Width and height of a line of text in inches."""
    probe = page.text(0, 0, legible(words), fontsize=size, family=FONT, parse_math=False)
    box = probe.get_window_extent()
    probe.remove()
    return box.width / DPI, box.height / DPI


def spread(positions: Sequence[float] | Floats, gap: float, low: float, high: float) -> Floats:
    """The places nearest to `positions` (least squares, same order) that lie `gap` apart and within [low, high].

    y_(i) = m_i + i·gap, where m is the isotonic regression of positions_(i) − i·gap, clipped. Where the range is too short for
    all, the gap shrinks.
    """
    n = len(positions)
    gap = min(gap, (high - low) / max(n - 1, 1))
    order = np.argsort(positions, kind="stable")
    steps = gap * np.arange(n)
    blocks: list[tuple[float, int]] = []
    for wanted in np.asarray(positions, dtype=float)[order] - steps:
        mean, weight = float(wanted), 1
        while blocks and blocks[-1][0] > mean:
            before, many = blocks.pop()
            mean, weight = (before * many + mean * weight) / (many + weight), many + weight
        blocks.append((mean, weight))
    level = np.repeat([mean for mean, _ in blocks], [weight for _, weight in blocks])
    placed = np.empty(n)
    placed[order] = np.clip(level, low, high - gap * max(n - 1, 0)) + steps
    return placed


def end_labels(panel: Axes, ends: Sequence[tuple[float, float]], words: Sequence[str], colours: Sequence[str]) -> None:
    """Label lines right of the panel, each at the height of its end (data coordinates) or as near as the others allow."""
    box = panel.get_window_extent()
    points = panel.transData.transform(np.asarray(ends, dtype=float).reshape(-1, 2))
    heights = spread(points[:, 1], LABEL_GAP * DPI, box.y0, max(box.y1, box.y0 + LABEL_GAP * DPI * (len(ends) - 1)))
    for (x, y), height, label, colour in zip(points, heights, words, colours, strict=True):
        start, goal = panel.transAxes.inverted().transform([(x, y), (box.x1, height)])
        if abs(height - y) > 2 or box.x1 - x > 2:
            bend = max(start[0], 0.985)
            way = ([start[0], bend, 1.012], [start[1], start[1], goal[1]])
            panel.plot(*way, transform=panel.transAxes, color=colour, linewidth=0.6, alpha=0.7, clip_on=False, scalex=False, scaley=False)
        note(panel, 1.018, goal[1], label, colour=colour)


def percent_axis(panel: Axes, values: Floats) -> None:
    """A vertical axis for errors given as fractions: logarithmic where they span more than a factor of three, else from zero."""
    from matplotlib.ticker import LogLocator, NullFormatter, NullLocator

    low, high = float(values.min()), float(values.max())
    if low > 0 and high > 3 * low:
        panel.set_yscale("log")
        panel.set_ylim(low / 1.25, min(high * 1.15, 1.0) if high <= 1 else high)
        panel.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0), numticks=20))
        panel.yaxis.set_minor_locator(NullLocator())
        panel.yaxis.set_minor_formatter(NullFormatter())
        panel.yaxis.set_major_formatter(lambda value, _: f"{100 * value:g} %")
    else:
        panel.set_ylim(0, 1.08 * high if high > 0 else 0.01)
        percent_ticks(panel, 5)


def percent_ticks(panel: Axes, most: int) -> None:
    """At most `most` steps on the vertical axis, all written in per cent with the same number of digits."""
    from matplotlib.ticker import MaxNLocator

    locator = MaxNLocator(most, steps=[1, 2, 2.5, 5, 10])
    ticks = 100 * np.asarray(locator.tick_values(*panel.get_ylim()), dtype=float)
    digits = next((n for n in range(6) if np.allclose(ticks, np.round(ticks, n), rtol=0, atol=1e-9)), 6)
    panel.yaxis.set_major_locator(locator)
    panel.yaxis.set_major_formatter(lambda value, _: f"{100 * value:.{digits}f} %")


def thousands(axis: Axes, *, whole: bool = True) -> None:
    """Numbers (whole ones, unless said) with thousands separators on the horizontal axis."""
    from matplotlib.ticker import MaxNLocator

    axis.xaxis.set_major_locator(MaxNLocator(nbins="auto", steps=[1, 2, 5, 10], integer=whole, min_n_ticks=1))
    axis.xaxis.set_major_formatter(lambda value, _: f"{value:,.10g}")


def tints(palest: float = 0.0) -> Colormap:
    """White (or from `palest` in (0, 1) on a light blue) to dark blue: one hue, so that it reads the same to every eye and in print."""
    from matplotlib import colormaps
    from matplotlib.colors import ListedColormap

    return ListedColormap(colormaps["Blues"](np.linspace(palest, 1.0, 256)))
