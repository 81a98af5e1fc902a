"""Names beside the points of a scatter plot: off all points and lines, off each other, with a line to the point where far."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from parsinet.report import style
from parsinet.report.style import Floats

if TYPE_CHECKING:
    from matplotlib.axes import Axes


Box = tuple[float, float, float, float]
"""Left, bottom, right, top in inches."""
DOT = 0.06
"""Half the room of a point, in inches."""


def name_points(panel: Axes, names: Sequence[str], inks: Sequence[str], points: Floats, stairs: Sequence[int]) -> None:
    """Write each name beside its point (rows of x, y in data coordinates); stairs: indices of the points joined by a staircase."""
    page: Any = panel.get_figure()
    words = [style.shortened(name, 24) for name in names]
    extents = [style.text_size(page, text) for text in words]
    places = panel.transData.transform(points) / style.DPI
    frame = panel.get_window_extent()
    area = (frame.x0 / style.DPI, frame.y0 / style.DPI, frame.x1 / style.DPI + 0.2, frame.y1 / style.DPI)
    back: Callable[[Any], Any] = panel.transAxes.inverted().transform
    corners = place(places, extents, area, _treads(places[list(stairs)]))
    for corner, extent, point, text, ink in zip(corners, extents, places, words, inks, strict=True):
        near = _nearest(point, corner, extent)
        (ax, ay), (bx, by), (tx, ty) = back(np.array([point, near, (corner[0], corner[1] + extent[1] / 2)]) * style.DPI)
        if math.dist(point, near) > 0.16:
            panel.plot(
                [ax, bx], [ay, by], transform=panel.transAxes, color=ink, linewidth=0.6, alpha=0.8, zorder=2, scalex=False, scaley=False
            )
        style.note(panel, tx, ty, text, colour=ink)


def _treads(points: Floats) -> list[Box]:
    """The staircase through the points as thin boxes."""
    boxes: list[Box] = []
    for (x, y), (right, low) in itertools.pairwise(points.tolist()):
        boxes += [(x, y - 0.01, right, y + 0.01), (right - 0.01, low, right + 0.01, y)]
    return boxes


def place(points: Floats, extents: Sequence[tuple[float, float]], area: Box, lines: Sequence[Box] = ()) -> list[tuple[float, float]]:
    """Lower left corners for labels of the given width and height.

    Greedy: rings of growing radius around each point, the first place that touches nothing and whose way to the point crosses
    no other point or label, else the least bad. All in inches; lines: further boxes to keep off.
    """
    taken: list[Box] = [*((px - DOT, py - DOT, px + DOT, py + DOT) for px, py in points), *lines]
    placed: list[tuple[float, float]] = []
    for point, (width, height) in zip(points, extents, strict=True):
        best, least = (float(point[0]), float(point[1])), math.inf
        for corner in _candidates(float(point[0]), float(point[1]), width, height):
            way = _nearest(point, corner, (width, height))
            bad = _crossed(point, way, points) + _struck(point, way, taken[len(points) + len(lines) :])
            cost = _cost(corner, (width, height), taken, area) + 0.002 * bad
            if cost < least - 1e-9:
                best, least = corner, cost
            if least < 1e-6:
                break
        placed.append(best)
        taken.append((best[0] - 0.02, best[1], best[0] + width + 0.02, best[1] + height))
    return placed


def _cost(corner: tuple[float, float], extent: tuple[float, float], taken: Sequence[Box], area: Box) -> float:
    """Square inches of the label that lie on something, plus ten times those outside the area."""
    (left, bottom), (width, height) = corner, extent
    outside = width * height - _overlap((left, bottom, left + width, bottom + height), area)
    return sum(_overlap((left - 0.02, bottom - 0.01, left + width + 0.02, bottom + height + 0.01), box) for box in taken) + 10 * outside


def _candidates(px: float, py: float, width: float, height: float) -> Iterator[tuple[float, float]]:
    """Corners of labels around a point: right, left, above and below first, then slanted, then further out."""
    turns = sorted(range(32), key=lambda turn: (turn % 8 != 0, turn % 16 != 0, turn % 4 != 0, turn % 2, turn))
    for radius, turn in itertools.product((0.1, 0.2, 0.3, 0.4, 0.5, 0.62, 0.8, 1.0, 1.25), turns):
        across, up = math.cos(turn * math.pi / 16), math.sin(turn * math.pi / 16)
        yield px + radius * across + (across - 1) * width / 2, py + radius * up + (up - 1) * height / 2


def _nearest(point: Floats, corner: tuple[float, float], extent: tuple[float, float]) -> tuple[float, float]:
    """The place of the label that is nearest to the point."""
    x = min(max(float(point[0]), corner[0]), corner[0] + extent[0])
    return x, min(max(float(point[1]), corner[1]), corner[1] + extent[1])


def _crossed(start: Floats, goal: tuple[float, float], points: Floats) -> int:
    """How many other points lie on the way, the ones that cover the start apart."""
    way = np.asarray(goal) - start
    along = np.clip((points - start) @ way / max(float(way @ way), 1e-12), 0, 1)
    distance = np.linalg.norm(points - (start + along[:, None] * way), axis=1)
    return int(np.sum((distance < DOT) & (np.linalg.norm(points - start, axis=1) >= DOT)))


def _struck(start: Floats, goal: tuple[float, float], labels: Sequence[Box]) -> int:
    """How many labels the way runs through."""
    if not labels:
        return 0
    x, y = (np.linspace(a, b, 30)[:, None] for a, b in zip(start, goal, strict=True))
    left, bottom, right, top = np.array(labels).T
    return int(((left < x) & (x < right) & (bottom < y) & (y < top)).any(axis=0).sum())


def _overlap(one: Box, other: Box) -> float:
    across = min(one[2], other[2]) - max(one[0], other[0])
    up = min(one[3], other[3]) - max(one[1], other[1])
    return max(across, 0.0) * max(up, 0.0)
