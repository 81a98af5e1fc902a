"""Windows, the cubic and cosine schedules and the bang-bang controller against their formulas and their derived equilibria."""

from __future__ import annotations

import pytest

from parsinet import topology
from parsinet.errors import UsageError
from parsinet.topology import BangBang, Window


def test_a_window_is_due_at_multiples_and_at_its_end() -> None:
    window = Window(begin=5, end=17, interval=4)
    assert [step for step in range(30) if window.due(step)] == [8, 12, 16, 17]
    assert [window.progress(step) for step in (0, 5, 11, 17, 20)] == [0, 0, 0.5, 1, 1]


def test_a_window_of_one_step_is_over_at_once() -> None:
    assert Window(3, 3, 1).progress(2) < 1
    assert Window(3, 3, 1).progress(3) == 1
    assert [step for step in range(6) if Window(3, 3, 1).due(step)] == [3]


@pytest.mark.parametrize("values", [(0, 3, 1), (4, 3, 1), (1, 3, 0)])
def test_windows_that_are_none_are_refused(values: tuple[int, int, int]) -> None:
    with pytest.raises(UsageError, match="needs 1 ≤ begin ≤ end and interval ≥ 1"):
        Window(*values)


def test_cubic_sparsity() -> None:
    assert topology.cubic_sparsity(0, 0.9, 0.2) == pytest.approx(0.2)
    assert topology.cubic_sparsity(0.5, 0.9) == pytest.approx(0.9 * 7 / 8)
    assert topology.cubic_sparsity(0.45, 0.9, 0.2, ramp=0.9) == pytest.approx(0.9 - 0.7 / 8)
    assert topology.cubic_sparsity(0.95, 0.9, ramp=0.9) == 0.9


def test_cosine_rate() -> None:
    assert [topology.cosine_rate(u, 0.3) for u in (0, 0.5, 1)] == pytest.approx([0.3, 0.15, 0])


def test_bangbang_takes_the_sides_of_its_band() -> None:
    control = BangBang(target=0.8, delta=0.1)
    assert control.replaced_share(0.7, rate=0.2) == pytest.approx(0.9 * 0.7 / 0.8)
    assert control.replaced_share(0.73, rate=0.2) == pytest.approx(1.1 * 0.73 / 0.8)


def test_bangbang_settles_below_its_target() -> None:
    """With a constant drop share of the active weights: s ← s + (1 − f) · dropped/N, whose fixed point is s*/(1 + δ)."""
    control, sparsity = BangBang(target=0.8, delta=0.1), 0.2
    for _ in range(4000):
        sparsity += (1 - control.replaced_share(sparsity, rate=0.2)) * 0.2 * (1 - sparsity)
    assert sparsity == pytest.approx(0.8 / 1.1, abs=2e-3)
