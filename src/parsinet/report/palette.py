"""Which colour stands for which run: one each for a few runs, one per method for many."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from parsinet.report import style
from parsinet.report.records import Run
from parsinet.report.style import COLOURS, DASHES, INK

if TYPE_CHECKING:
    from matplotlib.figure import Figure


CROWD = 20
"""More runs than this have no names in a plot; they are told apart by method."""

Look = tuple[str, Any]
"""A colour and a line style."""


def colours(runs: Sequence[Run]) -> dict[str, Look]:
    """Run name → look. Dense runs are ink; the others differ run by run while the colours last, else method by method."""
    others = [run for run in runs if run.method != "dense"]
    keys = [run.name if len(others) <= len(COLOURS) else run.method for run in others]
    place = {key: index for index, key in enumerate(dict.fromkeys(keys))}
    looks = {run.name: _look(place[key]) for run, key in zip(others, keys, strict=True)}
    return {run.name: looks.get(run.name, (INK, "-")) for run in runs}


def _look(index: int) -> Look:
    return COLOURS[index % len(COLOURS)], DASHES[index // len(COLOURS) % len(DASHES)]


def legend(page: Figure, x: float, y: float, runs: Sequence[Run]) -> None:
    """Methods in their colours, in a row that starts at x, y inches; for plots of a crowd, where single runs have no names."""
    looks = colours(runs)
    for method, colour in {run.method: looks[run.name][0] for run in runs}.items():
        words = f"● {style.shortened(method, 20)}"
        style.write(page, x, y, words, colour=colour)
        x += style.text_size(page, words, style.BODY)[0] + 0.25
