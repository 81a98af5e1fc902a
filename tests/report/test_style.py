"""Labels keep apart, and the front is what no run beats."""

import numpy as np
import pytest

from parsinet.report import style
from parsinet.report.naming import place
from parsinet.report.pareto import unbeaten


@pytest.mark.parametrize("seed", range(20))
def test_spread_keeps_gap_order_and_range(seed: int) -> None:
    rng = np.random.default_rng(seed)
    wanted = rng.choice([rng.uniform(0, 100, 8), rng.normal(50, 0.1, 8), np.full(8, 99.0)])
    placed = style.spread(wanted, 7.0, 0.0, 100.0)
    order = np.argsort(wanted, kind="stable")
    assert np.diff(placed[order]).min() >= 7.0 - 1e-9
    assert placed.min() >= -1e-9
    assert placed.max() <= 100 + 1e-9


def test_spread_leaves_free_labels_alone_and_shares_the_way() -> None:
    np.testing.assert_allclose(style.spread([10, 80, 40], 5, 0, 100), [10, 80, 40])
    np.testing.assert_allclose(style.spread([50, 50], 10, 0, 100), [45, 55])
    np.testing.assert_allclose(style.spread([5, 5, 5], 10, 0, 12), [0, 6, 12])
    assert style.spread([], 5, 0, 1).size == 0


def test_names_of_close_points_do_not_overlap() -> None:
    points = np.array([[2.0, 2.0], [2.01, 2.0], [2.0, 2.02], [2.03, 1.99], [1.98, 2.01], [2.0, 2.0]])
    size = (0.8, 0.13)
    corners = place(points, [size] * len(points), (0, 0, 5, 4))
    for i, (a, b) in enumerate(corners):
        assert a >= 0
        assert a + size[0] <= 5
        for c, d in corners[:i]:
            assert abs(a - c) >= size[0] or abs(b - d) >= size[1]


def test_unbeaten() -> None:
    x = np.array([1.0, 2.0, 3.0, 1.0, 4.0])
    y = np.array([0.5, 0.3, 0.4, 0.6, 0.1])
    assert unbeaten(x, y) == [0, 1, 4]
    assert unbeaten(np.ones(3), np.ones(3)) == [0]


def test_words_without_a_glyph_and_long_words() -> None:
    assert style.legible("θ 实验") == "θ ??"
    assert len(style.shortened("a" * 50 + "z", 20)) == 20
    assert style.shortened("a" * 50 + "z", 20).endswith("z")
