"""Plot: error over size and over training time, one line per row of a suite, bars for the range over seeds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import mean
from typing import TYPE_CHECKING, Any

import numpy as np

from parsinet.bench.suite import Suite
from parsinet.report import style
from parsinet.report.pareto import unbeaten

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


WIDE, TALL, NAMES = 4.9, 4.6, 2.5
MARKS = "osD^vP*X"
Event = Mapping[str, Any]


def pareto(suite: Suite, events: Sequence[Event]) -> Figure | None:
    """None without a trained row. The grey staircase joins the means no other mean beats."""
    rows = [event for event in events if event["event"] == "row" and event["row"] in suite.rows]
    if not rows:
        return None
    page = style.figure(0.8 + 2 * WIDE + 0.75 + NAMES, TALL + 1.25)
    style.write(page, 0.8, TALL + 0.9, suite.title, size=style.TITLE, weight="bold")
    titles = list(dict.fromkeys(event["row"] for event in rows))
    looks = {title: _look(place) for place, title in enumerate(titles)}
    for column, (key, label) in enumerate(((suite.size, suite.size), ("cpu_seconds", "training time (processor seconds)"))):
        panel = style.axes(page, 0.8 + column * (WIDE + 0.55), 0.65, WIDE, TALL)
        _draw(panel, suite, rows, looks, key)
        style.x_title(panel, label)
    for place, (title, (colour, _, mark)) in enumerate(looks.items()):
        y = TALL + 0.5 - place * min(0.21, TALL / len(looks))
        _key(page, 0.8 + 2 * WIDE + 0.75, y, mark, colour)
        style.write(page, 0.8 + 2 * WIDE + 0.9, y - 0.05, style.shortened(title, 30), size=style.SMALL, colour=colour)
    word = "test error" if suite.metric == "error" else "test loss, nats per target"
    style.write(page, 0.8, TALL + 0.68, f"{word}: mean over seeds, bars from the least to the largest", size=style.SMALL)
    return page


def _draw(panel: Axes, suite: Suite, rows: Sequence[Event], looks: Mapping[str, tuple[str, Any, str]], key: str) -> None:
    from matplotlib.ticker import LogLocator, NullFormatter, NullLocator

    panel.grid(axis="both", color=style.GRID, linewidth=0.8)
    panel.set_xscale("log")
    panel.set_yscale("log")
    means = []
    for title, (colour, dash, mark) in looks.items():
        points = _points([event for event in rows if event["row"] == title], suite, key)
        means += [(x, y) for x, y, _, _ in points]
        x, y, low, high = (np.array(values) for values in zip(*points, strict=True))
        panel.errorbar(
            x, y, [y - low, high - y], color=colour, linestyle=dash, marker=mark, markersize=4.5, linewidth=1.2, elinewidth=0.8, zorder=3
        )
    all_x, all_y = (np.array(values, dtype=float) for values in zip(*means, strict=True))
    front = unbeaten(all_x, all_y)
    panel.plot(all_x[front], all_y[front], color="#AAAAAA", linewidth=1.2, drawstyle="steps-post", zorder=1)
    for axis in (panel.xaxis, panel.yaxis):
        axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0), numticks=20))
        axis.set_minor_locator(NullLocator())
        axis.set_minor_formatter(NullFormatter())
    panel.xaxis.set_major_formatter(lambda value, _: f"{value:,.10g}")
    percent = suite.metric == "error"
    panel.yaxis.set_major_formatter(lambda value, _: f"{100 * value:g} %" if percent else f"{value:g}")


def _points(own: Sequence[Event], suite: Suite, key: str) -> list[tuple[float, float, float, float]]:
    """Per strength: mean place, mean error, least and largest error."""
    found = []
    for strength in dict.fromkeys(str(event["strength"]) for event in own):
        same = [event for event in own if str(event["strength"]) == strength]
        errors = [max(float(event[suite.metric]), 1e-6) for event in same]
        found.append((mean(float(event[key]) for event in same), mean(errors), min(errors), max(errors)))
    return sorted(found)


def _look(place: int) -> tuple[str, Any, str]:
    """Colours first, then other dashes and marks."""
    number = len(style.COLOURS)
    return style.COLOURS[place % number], style.DASHES[place // number % len(style.DASHES)], MARKS[place % len(MARKS)]


def _key(page: Figure, x: float, y: float, mark: str, colour: str) -> None:
    """The mark of a row, inches from the lower left corner."""
    across, up = page.get_size_inches()
    panel = page.add_axes((x / across - 0.005, y / up - 0.01, 0.01, 0.02))
    panel.set_axis_off()
    panel.plot([0], [0], marker=mark, color=colour, markersize=4.5)
