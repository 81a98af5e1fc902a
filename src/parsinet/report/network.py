"""Picture of a network: its groups of units from input to output, as bars of their sizes in the colour of what may leave."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from parsinet.report import style

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


ROW = 0.22
"""Inches per group."""
WIDE = 4.2
REASON = 46
"""Letters of the reason that are shown beside a group that stays."""
KINDS = {"removable": style.COLOURS[0], "removable, not exactly": "#8FBEDB", "stays": "#B4B4B4"}


def picture(model: str, share: float, parameters: int, groups: Sequence[Mapping[str, Any]]) -> bytes:
    """PNG of a network. groups: in order of computation, with name, size, removable, exact, reason; share: of the parameters."""
    return style.png(draw(model, share, parameters, groups))


def draw(model: str, share: float, parameters: int, groups: Sequence[Mapping[str, Any]]) -> Figure:
    """The page that `picture` writes."""
    probe = style.figure(1, 1)
    names = [style.shortened(group["name"], 44) for group in groups]
    left = max((style.text_size(probe, name)[0] for name in names), default=0.0) + 0.35
    tall = ROW * max(len(groups), 1)
    largest = max((group["size"] for group in groups), default=1)
    ends = [WIDE * group["size"] / largest + style.text_size(probe, _words(group))[0] for group in groups]
    title = f"Groups of units, input to output; {100 * share:.1f} % of {parameters:,} parameters are in removable ones"
    width = max(left + max([WIDE, *ends]) + 0.25, style.text_size(probe, title, style.BODY)[0] + 0.35)
    page = style.figure(width, tall + 1.65)
    panel = style.axes(page, left, 0.55, WIDE, tall)
    _bars(panel, groups, names)
    top = tall + 1.65
    style.write(page, 0.15, top - 0.33, style.shortened(model, 60), size=style.TITLE, weight="bold")
    lying = f"{100 * share:.1f} % of {parameters:,} parameters lie in groups that can shrink"
    style.write(page, 0.15, top - 0.62, f"Groups of units, input to output; {lying}")
    _legend(page, 0.15, top - 0.9)
    return page


def _bars(panel: Axes, groups: Sequence[Mapping[str, Any]], names: Sequence[str]) -> None:
    sizes = [group["size"] for group in groups]
    largest = max(sizes, default=1)
    rows = np.arange(len(groups)) + 0.5
    panel.barh(rows, sizes, height=0.72, color=[KINDS[_kind(group)] for group in groups])
    panel.set_xlim(0, largest)
    panel.set_ylim(max(len(groups), 1), 0)
    panel.set_yticks(rows, [style.legible(name) for name in names])
    panel.tick_params(axis="y", length=0)
    panel.grid(axis="y", visible=False)
    panel.grid(axis="x", visible=True, color=style.GRID, linewidth=0.8)
    for row, group in zip(rows, groups, strict=True):
        height = 1 - row / len(groups)
        style.note(panel, group["size"] / largest + 0.015, height, f"{group['size']:,}")
        page: Any = panel.get_figure()
        shift = 0.03 + style.text_size(page, f"{group['size']:,}")[0] / WIDE
        style.note(panel, group["size"] / largest + shift, height, _reason(group), colour=style.SOFT)
    style.thousands(panel)
    style.x_title(panel, "units")


def _words(group: Mapping[str, Any]) -> str:
    return f"{group['size']:,}   {_reason(group)}"


def _reason(group: Mapping[str, Any]) -> str:
    return "" if group["removable"] else style.shortened(group["reason"], REASON)


def _kind(group: Mapping[str, Any]) -> str:
    if not group["removable"]:
        return "stays"
    return "removable" if group["exact"] else "removable, not exactly"


def _legend(page: Figure, x: float, y: float) -> None:
    for kind, colour in KINDS.items():
        style.write(page, x, y, "■", colour=colour)
        style.write(page, x + 0.16, y, kind)
        x += style.text_size(page, kind, style.BODY)[0] + 0.45
