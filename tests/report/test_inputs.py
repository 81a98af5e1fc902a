"""Picture of the inputs: every score at its place, one scale for all panels, refusals in words."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from parsinet.errors import UsageError
from parsinet.report import input_picture, inputs, read
from report.conftest import end, start, write


def test_every_score_stands_at_its_place() -> None:
    scores = np.arange(24.0)
    page = inputs.draw(scores, (2, 3, 4), title="Inputs")
    panels = [panel.images[0] for panel in page.axes[:2]]
    for channel, image in enumerate(panels):
        assert np.array_equal(image.get_array(), scores.reshape(2, 3, 4)[channel])
        assert (image.norm.vmin, image.norm.vmax) == (0.0, 23.0)
    assert {text.get_text() for text in page.texts} >= {
        "Inputs",
        "channel 0",
        "channel 1",
        "4 % of the inputs lie below 1 % of the largest score",
    }


@pytest.mark.parametrize("shape", [(1, 1), (2, 30), (30, 2), (3, 5, 4)])
@pytest.mark.parametrize("title", ["A", "Relevance of the inputs of a network with quite a long name"])
def test_nothing_leaves_the_page(shape: tuple[int, ...], title: str) -> None:
    page = inputs.draw(np.ones(int(np.prod(shape))), shape, title=title)
    across, up = page.get_size_inches() * page.dpi
    for artist in (*page.texts, *page.axes):
        box = artist.get_tightbbox(page.canvas.get_renderer())  # type: ignore[attr-defined]
        assert box is None or (box.x0 >= 0 and box.y0 >= 0 and box.x1 <= across and box.y1 <= up)


def test_scores_of_zero_are_a_picture_too() -> None:
    assert input_picture([0.0] * 4, (2, 2), title="Off").startswith(b"\x89PNG")
    assert "100 % of the inputs" in inputs.draw([0.0] * 4, (2, 2), title="Off").texts[-1].get_text()


@pytest.mark.parametrize(
    ("scores", "shape", "names", "words"),
    [
        ([1.0] * 5, (2, 3), None, "holds 6 inputs, got 5 scores"),
        ([1.0] * 6, (6,), None, "shape must be"),
        ([-1.0] * 6, (2, 3), None, "≥ 0"),
        ([float("nan")] * 6, (2, 3), None, "finite"),
        ([1.0] * 6, (2, 3), ["a", "b"], "1 channels need as many names, got 2"),
    ],
)
def test_refusals(scores: list[float], shape: tuple[int, ...], names: list[str] | None, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        input_picture(scores, shape, title="", names=names)


@pytest.mark.parametrize(
    ("groups", "kept", "drawn"),
    [
        ({"input": 784, "fc1": 30}, {"input": [0, 29, 783]}, True),
        ({"fc1": 30}, {}, False),
        ({"input": 5, "input#2": 7}, {"input": [1], "input#2": [2]}, False),
        ({"input": 28}, {"input": [1]}, False),
    ],
)
def test_a_run_whose_inputs_left_shows_which_are_read(
    tmp_path: Path, groups: dict[str, int], kept: dict[str, list[int]], drawn: bool
) -> None:
    last = {**end((10, 10), (5, 5), 0.02, 1.0, 0.5), "inputs": kept}
    page = inputs.kept_inputs(read(write(tmp_path / "run", [start("gates", groups, 10, 10), last])))
    assert (page is not None) == drawn
    if page is not None:
        image = np.asarray(page.axes[0].images[0].get_array())
        assert image.shape == (28, 28)
        assert list(zip(*image.nonzero(), strict=True)) == [(0, 0), (1, 1), (27, 27)]
        assert "3 of 784 inputs are read: 1; the others are not: 0" in [text.get_text() for text in page.texts]
