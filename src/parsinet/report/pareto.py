"""Plot: what several runs traded: test error against parameters, and against training time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from parsinet.report import style, timeline
from parsinet.report.naming import name_points
from parsinet.report.palette import CROWD, colours, legend
from parsinet.report.records import Run
from parsinet.report.style import Floats

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


WIDE, TALL = 4.9, 4.0
ROOM = 0.3
"""Free space left and right of the points, for their names, as a part of their spread."""


def pareto(runs: Sequence[Run]) -> Figure | None:
    """Both panels share the error axis; the grey staircase joins the runs no other run beats. None with fewer than two finished runs."""
    shown = [run for run in runs if run.end is not None and run.end.test_error is not None]
    if len(shown) < 2:
        return None
    errors = np.array([run.end.test_error for run in shown if run.end is not None], dtype=float)
    page = style.figure(0.8 + 2 * WIDE + 0.55 + 0.3, TALL + 1.55)
    style.write(page, 0.8, TALL + 1.22, f"{len(shown)} runs", size=style.TITLE, weight="bold")
    absent = f"; {len(runs) - len(shown)} without a test error not shown" if len(shown) < len(runs) else ""
    style.write(page, 0.8, TALL + 0.85, f"Test error; the grey line joins the runs no other run beats{absent}")
    seconds = np.array([run.seconds or 0.0 for run in shown])
    word, scale = timeline.time_unit(float(seconds.max()))
    sizes = np.array([run.size.parameters for run in shown], dtype=float)
    for column, (title, x) in enumerate((("parameters", sizes), (f"training time ({word})", seconds / scale))):
        panel = style.axes(page, 0.8 + column * (WIDE + 0.55), 0.65, WIDE, TALL)
        framed(panel, x, errors, first=column == 0)
        style.x_title(panel, title)
        _draw(panel, shown, x, errors)
    if len(shown) > CROWD:
        legend(page, 0.8 + WIDE + 0.55, TALL + 0.85, shown)
    return page


def framed(panel: Axes, x: Floats, y: Floats, *, first: bool) -> None:
    """Axes for points x, y ≥ 0 with y in per cent, logarithmic in x where it spans much. first: with numbers at y."""
    from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter, NullLocator

    panel.grid(axis="both", color=style.GRID, linewidth=0.8)
    wide = bool(x.min() > 0 and x.max() > 4 * x.min())
    if wide:
        panel.set_xscale("log")
        room = (x.max() / x.min()) ** ROOM
        panel.set_xlim(x.min() / room, x.max() * room)
        panel.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0) if x.max() < 300 * x.min() else (1.0,), numticks=20))
        panel.xaxis.set_minor_locator(NullLocator())
        panel.xaxis.set_minor_formatter(NullFormatter())
    else:
        room = ROOM * float(np.ptp(x)) or 0.1 * (float(x.max()) or 1.0)
        panel.set_xlim(max(x.min() - room, 0.0), x.max() + room)
        panel.xaxis.set_major_locator(MaxNLocator(6, steps=[1, 2, 5, 10]))
    panel.xaxis.set_major_formatter(lambda value, _: f"{value:,.10g}")
    room = 0.15 * float(np.ptp(y)) or 0.1 * (float(y.max()) or 0.01)
    panel.set_ylim(max(y.min() - room, 0.0), y.max() + room)
    style.percent_ticks(panel, 6)
    panel.tick_params(axis="y", labelleft=first)


def _draw(panel: Axes, runs: Sequence[Run], x: Floats, y: Floats) -> None:
    looks = colours(runs)
    front = unbeaten(x, y)
    panel.plot(x[front], y[front], color="#AAAAAA", linewidth=1.2, drawstyle="steps-post", zorder=1)
    for run, a, b in zip(runs, x, y, strict=True):
        panel.plot(a, b, "o", color=looks[run.name][0], markersize=7, markeredgecolor="white", markeredgewidth=0.8, zorder=3)
    if len(runs) <= CROWD:
        name_points(panel, [run.name for run in runs], [looks[run.name][0] for run in runs], np.column_stack([x, y]), front)


def unbeaten(x: Floats, y: Floats) -> list[int]:
    """Indices, by growing x, of the points no other point beats: nothing is smaller in one of x, y and not larger in the other."""
    front: list[int] = []
    for index in np.lexsort((y, x)):
        if not front or y[index] < y[front[-1]]:
            front.append(int(index))
    return front
