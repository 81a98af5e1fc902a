"""Plot: the trials of a sweep: validation error against size, or, of a single objective, trial by trial."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from parsinet.report import numbers, style
from parsinet.report.naming import name_points
from parsinet.report.pareto import framed
from parsinet.report.style import COLOURS, INK, SOFT, Floats
from parsinet.report.sweep_table import counted, label
from parsinet.report.sweeps import Reference, Sweep

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


WIDE, TALL = 7.2, 4.4
LEFT, BOTTOM, TOP, RIGHT = 0.85, 0.7, 1.0, 0.4
FRONT, OTHER, KNEE = COLOURS[0], "#9DB4C4", COLOURS[1]
TITLES = {"macs": "multiply-adds per example", "params": "parameters", "bytes": "bytes as stored", "latency": "time of one example, ms"}
CROWD = 12
"""Of longer fronts only best and knee have names."""


def tradeoff(sweep: Sweep) -> Figure | None:
    """Error against size with the front as a staircase; or errors in the order of trials, with the lowest so far. None without trials
    that have ended well."""
    if not sweep.complete:
        return None
    page = style.figure(LEFT + WIDE + RIGHT, BOTTOM + TALL + TOP)
    panel = style.axes(page, LEFT, BOTTOM, WIDE, TALL)
    name = style.shortened(sweep.name, 40)
    style.write(page, LEFT, BOTTOM + TALL + 0.62, name, size=style.TITLE, weight="bold")
    style.write(page, LEFT + 1.2 * style.text_size(page, name, style.TITLE)[0] + 0.15, BOTTOM + TALL + 0.62, _sentence(sweep), colour=SOFT)
    single = len(sweep.objectives) == 1
    line = "the line is the lowest so far" if single else "numbers are trials, the line joins those no other beats"
    style.write(page, LEFT, BOTTOM + TALL + 0.3, f"Validation error; {line}", colour=SOFT)
    (_by_trial if single else _by_size)(panel, sweep)
    return page


def _sentence(sweep: Sweep) -> str:
    seeds = f", each the mean of {len(sweep.seeds)} seeds" if len(sweep.seeds) > 1 else ""
    return f"{counted(sweep)}{seeds}"


def _by_size(panel: Axes, sweep: Sweep) -> None:
    scale = 1e3 if sweep.objectives[1] == "latency" else 1.0
    points = np.array([(scale * trial.values[1], trial.values[0]) for trial in sweep.complete if trial.values is not None])
    shown = points if sweep.reference is None else np.vstack([points, _place(sweep.reference, scale)])
    framed(panel, shown[:, 0], shown[:, 1], first=True)
    if 0 < 3 * shown[:, 1].min() < shown[:, 1].max():
        style.percent_axis(panel, shown[:, 1])
    style.x_title(panel, TITLES[sweep.objectives[1]])
    order = {trial.number: place for place, trial in enumerate(sweep.complete)}
    front = points[[order[number] for number in sweep.front]]
    rest = points[[place for number, place in order.items() if number not in sweep.front]]
    end = (shown[:, 0].max(), front[-1, 1])
    stairs = np.vstack([front, end])
    panel.plot(stairs[:, 0], stairs[:, 1], color=FRONT, linewidth=1.3, alpha=0.6, drawstyle="steps-post", zorder=1)
    panel.plot(rest[:, 0], rest[:, 1], "o", color=OTHER, markersize=5, markeredgewidth=0, alpha=0.75, zorder=2)
    panel.plot(front[:, 0], front[:, 1], "o", color=FRONT, markersize=7, markeredgecolor="white", markeredgewidth=0.8, zorder=3)
    _rings(panel, sweep, dict(zip(sweep.front, front, strict=True)))
    if sweep.reference is not None:
        panel.plot(*_place(sweep.reference, scale), "D", color=INK, markersize=7, markeredgecolor="white", markeredgewidth=0.8, zorder=3)
    _names(panel, sweep, front, rest, scale)


def _rings(panel: Axes, sweep: Sweep, places: dict[int, Floats]) -> None:
    if sweep.knee is not None and sweep.knee in places:
        panel.plot(*places[sweep.knee], "o", color="none", markersize=12, markeredgecolor=KNEE, markeredgewidth=1.6, zorder=4)


def _names(panel: Axes, sweep: Sweep, front: Floats, rest: Floats, scale: float) -> None:
    """Names of the front and the reference, kept off all points."""
    words, inks = [], []
    for number in sweep.front:
        extra = label(sweep, number)
        words.append("" if len(sweep.front) > CROWD and not extra else f"{number} {extra}".strip())
        inks.append(KNEE if number == sweep.knee else FRONT)
    named = front
    if sweep.reference is not None:
        words.append(sweep.reference.name)
        inks.append(INK)
        named = np.vstack([front, _place(sweep.reference, scale)])
    name_points(panel, [*words, *[""] * len(rest)], [*inks, *[OTHER] * len(rest)], np.vstack([named, rest]), range(len(front)))


def _place(reference: Reference, scale: float) -> tuple[float, float]:
    return scale * reference.values[1], reference.values[0]


def _by_trial(panel: Axes, sweep: Sweep) -> None:
    done = [(trial.number, trial.values[0]) for trial in sweep.complete if trial.values is not None]
    pruned = [(trial.number, trial.epochs[max(trial.epochs)]) for trial in sweep.trials if trial.state == "pruned" and trial.epochs]
    x, y = np.array(done, dtype=float).T
    style.percent_axis(panel, np.array([value for _, value in [*done, *pruned]] + _heights(sweep)))
    style.thousands(panel)
    style.x_title(panel, "trial")
    panel.plot(x, np.minimum.accumulate(y), color=FRONT, linewidth=1.3, alpha=0.6, drawstyle="steps-post", zorder=1)
    if pruned:
        panel.plot(*np.array(pruned, dtype=float).T, "x", color=SOFT, markersize=5, zorder=2)
    panel.plot(x, y, "o", color=FRONT, markersize=6, markeredgecolor="white", markeredgewidth=0.8, zorder=3)
    if sweep.reference is not None:
        panel.axhline(sweep.reference.values[0], color=INK, linewidth=1, linestyle=(0, (5, 2)), zorder=1)
    _keys(panel, sweep, bool(pruned))
    _name_best(panel, sweep, x, y)


def _name_best(panel: Axes, sweep: Sweep, x: Floats, y: Floats) -> None:
    """The name of the best trial, kept off all points and off the line, which goes on to the last trial."""
    names = [f"{trial.number} best" if trial.number == sweep.best else "" for trial in sweep.complete]
    lowest = [place for place in range(len(y)) if place == 0 or y[place] < y[:place].min()]
    points = np.vstack([np.column_stack([x, y]), (x[-1], y.min())])
    name_points(panel, [*names, ""], [FRONT] * len(points), points, [*lowest, len(y)])


def _heights(sweep: Sweep) -> list[float]:
    return [] if sweep.reference is None else [sweep.reference.values[0]]


def _keys(panel: Axes, sweep: Sweep, pruned: bool) -> None:
    """What the marks mean, right above the panel."""
    words: Sequence[str] = [
        "● complete",
        *(["× given up, at its last epoch"] if pruned else []),
        *([] if sweep.reference is None else [f"– – {sweep.reference.name}: {numbers.error(sweep.reference.values[0])}"]),
    ]
    style.note(panel, 1.0, 1.03, "    ".join(words), colour=SOFT, ha="right")
    panel.xaxis.set_major_formatter(lambda value, _: f"{value:,.10g}")
