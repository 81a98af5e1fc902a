"""Step schedules: values at knots, shape between them, refusals."""

import pytest

from parsinet.errors import UsageError
from parsinet.sphere import schedule


@pytest.mark.parametrize(
    ("epoch", "value"), [(0, 1.5625e-4), (50 / 6, 7.8125e-3), (50 / 3, 1.953125e-3), (47, 1.5625e-5), (50, 7.8125e-7), (48.5, 8.203125e-6)]
)
def test_the_authors_knots(epoch, value):
    assert schedule.authors(epoch / 50, epochs=50) == pytest.approx(value, rel=1e-12)


def test_piecewise_linear_is_constant_outside_its_knots():
    values = [schedule.piecewise_linear(x, (0.25, 0.5), (1.0, 3.0)) for x in (0, 0.25, 0.375, 0.5, 1)]
    assert values == [1, 1, 2, 3, 3]


@pytest.mark.parametrize(("shape", "middle"), [(schedule.linear, 0.55), (schedule.cosine, 0.55)])
def test_annealing_rises_then_falls(shape, middle):
    assert shape(0.1, 1.0, 0.1, warmup=0.2) == pytest.approx(0.5)
    assert shape(0.2, 1.0, 0.1, warmup=0.2) == 1
    assert shape(0.6, 1.0, 0.1, warmup=0.2) == pytest.approx(middle)
    assert shape(1, 1.0, 0.1, warmup=0.2) == pytest.approx(0.1)
    assert shape(0, 1.0) == 1
    assert shape(1, 1.0) == pytest.approx(0, abs=1e-15)
    falling = [shape(step / 50, 1.0) for step in range(51)]
    assert falling == sorted(falling, reverse=True)


def test_the_two_shapes_differ():
    assert schedule.cosine(0.25, 1.0) > schedule.linear(0.25, 1.0) + 0.1


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: schedule.linear(1.1, 1.0), "progress must be in"),
        (lambda: schedule.cosine(0.5, -1.0), "peak and final"),
        (lambda: schedule.cosine(0.5, 1.0, warmup=1.0), "warmup"),
        (lambda: schedule.authors(0.5, epochs=4), "epochs must be ≥ 5"),
        (lambda: schedule.piecewise_linear(0.5, (0.0, 0.0), (1.0, 1.0)), "knots must rise"),
        (lambda: schedule.piecewise_linear(0.5, (0.0,), (1.0, 1.0)), "as many as values"),
    ],
)
def test_refusals(call, words):
    with pytest.raises(UsageError, match=words):
        call()
