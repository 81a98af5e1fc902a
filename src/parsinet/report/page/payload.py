"""What the page's script draws from: the numbers of all runs as JSON-able values, none that the records do not have."""

from collections.abc import Sequence
from typing import Any

from parsinet.report.inputs import kept_pixels
from parsinet.report.page import curves, moments, views
from parsinet.report.palette import colours
from parsinet.report.records import Run, Size
from parsinet.report.style import COLOURS, DASHES

POINTS, CELLS = 24_000, 60_000
"""Numbers in all curves, and in all drawings of the networks, of one page; with more runs or groups, epochs are left out."""


def payload(runs: Sequence[Run]) -> dict[str, Any]:
    """Every run's numbers. Errors are fractions, times seconds, losses nats per target, as in the record; None where it has none."""
    looks = colours(runs)
    return {"runs": [_run(run, looks[run.name], len(runs)) for run in runs]}


def _run(run: Run, look: tuple[str, Any], runs: int) -> dict[str, Any]:
    points = max(20, min(600, POINTS // (10 * runs)))
    drawn = max(12, min(240, CELLS // (runs * max(len(run.groups), 1))))
    return {
        "name": run.name,
        "method": run.method,
        "status": run.status,
        "colour": COLOURS.index(look[0]) if look[0] in COLOURS else None,
        "dash": _dash(look),
        "shape": list(run.input_shape),
        "start": _size(run.start),
        "size": _size(run.size),
        "seconds": run.seconds,
        "test_error": None if run.end is None else run.end.test_error,
        "curves": curves.curves(run, points),
        "sizes": curves.sizes(run, points),
        "settled": curves.settled(run),
        "network": moments.network(run, drawn),
        "views": views.views(run, max(views.BINS * 12, CELLS // runs)),
        "inputs": _inputs(run),
    }


def _dash(look: tuple[str, Any]) -> int:
    """A neighbour in colour differs in its dashes too."""
    return ((COLOURS.index(look[0]) if look[0] in COLOURS else 0) + DASHES.index(look[1])) % len(DASHES)


def _size(size: Size) -> dict[str, int | None]:
    return {"parameters": size.parameters, "macs": size.macs, "bytes": size.bytes, "nonzeros": size.nonzeros}


def _inputs(run: Run) -> dict[str, Any] | None:
    """channels: for each the rows of the image as strings of 1 (read) and 0."""
    images = kept_pixels(run)
    if images is None:
        return None
    rows = [["".join("1" if pixel else "0" for pixel in row) for row in image] for image in images]
    return {"channels": rows, "kept": int(images.sum()), "inputs": int(images.size)}
