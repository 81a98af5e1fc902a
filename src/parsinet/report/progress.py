"""Plot: error and size over training, of one run in two panels or of several runs in three."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from parsinet.report import numbers, style, timeline
from parsinet.report.palette import CROWD, colours, legend
from parsinet.report.records import Run
from parsinet.report.style import Floats
from parsinet.report.timeline import Unit

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


PLOT, LEFT, TOP, BOTTOM, SPACE = 6.3, 0.75, 0.75, 0.6, 0.55


@dataclass(frozen=True)
class Line:
    """A curve with the words at its end ('' for none); stairs keep a value until the next one."""

    x: Floats
    y: Floats
    words: str
    colour: str
    dash: Any = "-"
    weight: float = 1.8
    stairs: bool = False


@dataclass(frozen=True)
class Panel:
    """One set of curves with its title."""

    title: str
    kind: Literal["error", "size"]
    lines: tuple[Line, ...]
    height: float


def progress(runs: Sequence[Run], unit: Unit) -> Figure | None:
    """Errors in per cent and sizes in per cent of the start over epochs or time; None while no epoch has ended."""
    shown = [run for run in runs if run.epochs]
    if not shown:
        return None
    word, scale = ("epoch", 1.0) if unit == "epoch" else timeline.time_unit(max(run.epochs[-1].seconds for run in shown))
    panels = _one(shown[0], unit, scale) if len(runs) == 1 else _several(shown, unit, scale)
    page, drawn = _page([panel for panel in panels if panel.lines], whole=unit == "epoch")
    _settled(drawn[0], shown, unit, scale)
    style.x_title(drawn[-1], "epoch" if unit == "epoch" else f"training time ({word})")
    heading = runs[0].name if len(runs) == 1 else f"{len(shown)} runs"
    style.write(page, LEFT, page.get_size_inches()[1] - 0.33, style.shortened(heading, 70), size=style.TITLE, weight="bold")
    if len(shown) > CROWD:
        legend(page, LEFT + 1.3, page.get_size_inches()[1] - 0.33, shown)
    return page


def _one(run: Run, unit: Unit, scale: float) -> tuple[Panel, ...]:
    train, validation = (timeline.errors(run, part) for part in ("train", "validation"))
    lines = []
    if validation.x.size:
        lines.append(_curve(run, validation, unit, scale, f"validation {numbers.error(validation.y[-1])}", style.COLOURS[0]))
    if train.x.size:
        pale = {"colour": style.SOFT, "weight": 1.1} if lines else {"colour": style.COLOURS[0]}
        lines.append(_curve(run, train, unit, scale, f"training {numbers.error(train.y[-1])}", **pale))
    last = run.epochs[-1].epoch if unit == "epoch" else run.epochs[-1].seconds / scale
    if run.end is not None and run.end.test_error is not None:
        words = f"test {numbers.error(run.end.test_error)}"
        lines.append(Line(np.array([float(last)]), np.array([run.end.test_error]), words, style.COLOURS[1]))
    return Panel("Error", "error", tuple(lines), 2.7), Panel("Size, per cent of the start", "size", _both_sizes(run, unit, scale), 2.3)


def _both_sizes(run: Run, unit: Unit, scale: float) -> tuple[Line, ...]:
    lines = []
    for of, word, colour, dash in (
        ("parameters", "parameters", style.COLOURS[2], "-"),
        ("macs", "MACs", style.COLOURS[3], style.DASHES[1]),
    ):
        series = timeline.sizes(run, "parameters" if of == "parameters" else "macs")
        words = f"{word} {numbers.share(series.y[-1])} ({numbers.count(getattr(run.epochs[-1].size, of))})"
        lines.append(_curve(run, series, unit, scale, words, colour, dash=dash, stairs=True))
    return tuple(lines)


def _several(runs: Sequence[Run], unit: Unit, scale: float) -> tuple[Panel, ...]:
    validated = all(any(epoch.validation_error is not None for epoch in run.epochs) for run in runs)
    looks = colours(runs)
    panels = []
    part: Literal["train", "validation"] = "validation" if validated else "train"
    lines = [_labelled(run, timeline.errors(run, part), unit, scale, looks[run.name], len(runs), stairs=False) for run in runs]
    panels.append(Panel("Validation error" if validated else "Training error", "error", tuple(line for line in lines if line.x.size), 2.6))
    for title, of in (("Parameters, per cent of the start", "parameters"), ("MACs, per cent of the start", "macs")):
        series = [timeline.sizes(run, "parameters" if of == "parameters" else "macs") for run in runs]
        curves = (_labelled(run, s, unit, scale, looks[run.name], len(runs), stairs=True) for run, s in zip(runs, series, strict=True))
        panels.append(Panel(title, "size", tuple(curves), 1.9))
    return tuple(panels)


def _labelled(run: Run, series: timeline.Series, unit: Unit, scale: float, look: tuple[str, Any], crowd: int, *, stairs: bool) -> Line:
    if crowd > CROWD or not series.x.size:
        words = ""
    else:
        value = numbers.share(series.y[-1]) if stairs else numbers.error(series.y[-1])
        words = f"{style.shortened(run.name, 24)} {value}"
    return _curve(run, series, unit, scale, words, look[0], dash=look[1], weight=1.5 if crowd <= CROWD else 0.9, stairs=stairs)


def _curve(run: Run, series: timeline.Series, unit: Unit, scale: float, words: str, colour: str, **look: Any) -> Line:
    return Line(timeline.clock(run, series.x, unit) / scale, series.y, words, colour, **look)


def _page(panels: Sequence[Panel], *, whole: bool) -> tuple[Figure, list[Axes]]:
    heights = [max(panel.height, style.LABEL_GAP * sum(bool(line.words) for line in panel.lines)) for panel in panels]
    height = TOP + sum(heights) + SPACE * (len(panels) - 1) + BOTTOM
    probe = style.figure(1, 1)
    right = max([0.3, *(style.text_size(probe, line.words)[0] for panel in panels for line in panel.lines)]) + 0.35
    page = style.figure(LEFT + PLOT + right, height)
    end = max(float(line.x.max()) for panel in panels for line in panel.lines)
    drawn: list[Axes] = []
    top = height - TOP
    for panel, tall in zip(panels, heights, strict=True):
        drawn.append(_draw(style.axes(page, LEFT, top - tall, PLOT, tall), panel, end, whole=whole))
        top -= tall + SPACE
    return page, drawn


def _draw(axes: Axes, panel: Panel, end: float, *, whole: bool) -> Axes:
    from matplotlib.ticker import MultipleLocator

    axes.set_xlim(0, end or 1)
    style.thousands(axes, whole=whole)
    if panel.kind == "error":
        style.percent_axis(axes, np.concatenate([line.y for line in panel.lines]))
    else:
        axes.set_ylim(0, max(1.04, *(1.04 * float(line.y.max()) for line in panel.lines)))
        axes.yaxis.set_major_locator(MultipleLocator(0.25))
        axes.yaxis.set_major_formatter(lambda value, _: f"{100 * value:g} %")
    for line in panel.lines:
        way = "steps-post" if line.stairs else "default"
        axes.plot(line.x, line.y, color=line.colour, linestyle=line.dash, linewidth=line.weight, drawstyle=way, clip_on=False)
        if not line.stairs:
            axes.plot(line.x[-1:], line.y[-1:], "o", color=line.colour, markersize=4, clip_on=False)
    named = [line for line in panel.lines if line.words]
    style.end_labels(axes, [(line.x[-1], line.y[-1]) for line in named], [line.words for line in named], [line.colour for line in named])
    style.note(axes, 0, 1 + 0.1 / axes.get_window_extent().height * style.DPI, panel.title, size=style.BODY, va="bottom")
    return axes


def _settled(axes: Axes, runs: Sequence[Run], unit: Unit, scale: float) -> None:
    """Mark when the structure of a single run became final."""
    if len(runs) > 1 or runs[0].settled is None:
        return
    x = float(timeline.clock(runs[0], np.array([float(runs[0].settled)]), unit)[0]) / scale
    axes.axvline(x, color=style.SOFT, linewidth=0.9, linestyle=style.DASHES[1], zorder=0)
    share = x / axes.get_xlim()[1]
    style.note(
        axes,
        share - 0.01 if share > 0.5 else share + 0.01,
        0.97,
        "structure settled",
        colour=style.SOFT,
        ha="right" if share > 0.5 else "left",
    )
