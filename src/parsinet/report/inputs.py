"""Picture of what a network's inputs matter: one score per pixel, drawn at the pixel's place."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray

from parsinet.errors import UsageError
from parsinet.report import style
from parsinet.report.records import Run
from parsinet.report.style import Floats

if TYPE_CHECKING:
    from matplotlib.colors import Normalize
    from matplotlib.figure import Figure


WHOLE = "input"
"""Name of the group of a network's only input."""
SIDE = 2.9
"""Inches of the longer side of a panel."""
GAP, LEFT, BOTTOM, ABOVE, BAR = 0.35, 0.25, 0.35, 0.95, 0.14


def input_picture(scores: ArrayLike, shape: Sequence[int], *, title: str, names: Sequence[str] | None = None) -> bytes:
    """PNG of scores of the inputs as images, one panel per channel on one scale from 0 to the largest score.

    scores: one number ≥ 0 per input in the order the network reads them, for example `pn.spectral.relevance(first, "senders")`.
    shape: (height, width) or (channels, height, width). names: what stands above the panels, by default the channels' numbers, and nothing
    for a single one. Raises UsageError for sizes that do not meet, and for scores that are negative or not finite.
    """
    return style.png(draw(scores, shape, title=title, names=names))


def kept_inputs(run: Run) -> Figure | None:
    """Which pixels the result of a run still reads; None where none could leave, or the inputs are no images read pixel by pixel."""
    images = kept_pixels(run)
    if images is None:
        return None
    below = f"{np.count_nonzero(images):,} of {images.size:,} inputs are read: 1; the others are not: 0"
    return draw(images, run.input_shape, title=f"Inputs of {run.name}", below=below)


def kept_pixels(run: Run) -> Floats | None:
    """(channels, height, width): 1 where the result reads a pixel, 0 where it does not; None as `kept_inputs`."""
    if run.end is None or list(run.end.inputs) != [WHOLE] or len(run.input_shape) not in (2, 3):
        return None
    pixels = int(np.prod(run.input_shape))
    if run.groups.get(WHOLE) != pixels or not all(0 <= unit < pixels for unit in run.end.inputs[WHOLE]):
        return None
    scores = np.zeros(pixels)
    scores[list(run.end.inputs[WHOLE])] = 1
    return scores.reshape(-1, *run.input_shape[-2:])


def draw(scores: ArrayLike, shape: Sequence[int], *, title: str, names: Sequence[str] | None = None, below: str | None = None) -> Figure:
    """The page that `input_picture` writes. below: the line under the title, by default how many inputs hardly matter."""
    from matplotlib.colors import Normalize

    images = _images(scores, shape)
    if names is None:
        names = [f"channel {number}" for number in range(len(images))] if len(images) > 1 else [""]
    if len(names) != len(images):
        raise UsageError(f"input_picture: {len(images)} channels need as many names, got {len(names)}.")
    rows, columns = images.shape[1:]
    wide, tall = SIDE * columns / max(rows, columns), SIDE * rows / max(rows, columns)
    title, below = style.shortened(title, 60), _below(images) if below is None else below
    probe = style.figure(1, 1)
    words = max(1.1 * style.text_size(probe, title, style.TITLE)[0], style.text_size(probe, below)[0]) + 2 * LEFT
    page = style.figure(max(LEFT + len(images) * (wide + GAP) + BAR + 0.65, words), BOTTOM + tall + ABOVE)
    scale = Normalize(0.0, float(images.max()) or 1.0)
    for number, (image, name) in enumerate(zip(images, names, strict=True)):
        left = LEFT + number * (wide + GAP)
        _panel(page, image, scale, (left, BOTTOM, wide, tall))
        style.write(page, left, BOTTOM + tall + 0.08, style.shortened(name, 30), size=style.SMALL, colour=style.SOFT)
    _bar(page, scale, (LEFT + len(images) * (wide + GAP), BOTTOM, BAR, tall))
    style.write(page, LEFT, BOTTOM + tall + 0.6, title, size=style.TITLE, weight="bold")
    style.write(page, LEFT, BOTTOM + tall + 0.35, below, size=style.SMALL)
    return page


def _images(scores: ArrayLike, shape: Sequence[int]) -> Floats:
    values: NDArray[np.float64] = np.asarray(scores, dtype=np.float64).reshape(-1)
    if len(shape) not in (2, 3) or any(side < 1 for side in shape):
        raise UsageError(f"input_picture: shape must be (height, width) or (channels, height, width), got {tuple(shape)}.")
    if len(values) != int(np.prod(shape)):
        raise UsageError(f"input_picture: shape {tuple(shape)} holds {int(np.prod(shape))} inputs, got {len(values)} scores.")
    if not np.isfinite(values).all() or (values < 0).any():
        raise UsageError("input_picture: scores must be finite and ≥ 0; draw |λ| or relevance(layer, 'senders').")
    return values.reshape(-1, shape[-2], shape[-1])


def _below(images: Floats) -> str:
    silent = float((images < 0.01 * images.max()).mean()) if images.max() > 0 else 1.0
    return f"{100 * silent:.0f} % of the inputs lie below 1 % of the largest score"


def _panel(page: Figure, image: Floats, scale: Normalize, place: tuple[float, float, float, float]) -> None:
    panel = style.axes(page, *place)
    panel.imshow(image, cmap=style.tints(), norm=scale, interpolation="nearest", aspect="auto")
    panel.grid(visible=False)
    panel.set_xticks([])
    panel.set_yticks([])
    panel.spines[:].set_visible(True)
    panel.spines[:].set_color("#999999")


def _bar(page: Figure, scale: Normalize, place: tuple[float, float, float, float]) -> None:
    panel = style.axes(page, *place)
    panel.imshow(np.linspace(1, 0, 256)[:, None], cmap=style.tints(), aspect="auto", extent=(0, 1, 0, scale.vmax or 1.0))
    panel.grid(visible=False)
    panel.set_xticks([])
    panel.yaxis.tick_right()
    panel.spines[:].set_visible(False)
