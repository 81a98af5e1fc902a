"""Laws of the unit Lp sphere against plain loops in floats."""

import math

import pytest
import torch

from parsinet.errors import ArgumentTypeError, UsageError
from parsinet.sphere import conjugate, minimiser, retract, tangent, to_dual, to_primal, unit_norm
from parsinet.sphere.geometry import power, sp

PS = (1.02, 1.07, 1.2, 1.3, 1.5, 2.0, 3.0)
SHAPES = (((5, 7), 0), ((4, 3, 2, 5), 0), ((3, 4, 2, 5), 1), ((2, 3, 6), 2), ((4, 6), -1))


def normal(shape, seed=0, scale=1.0, dtype=torch.float64):
    return scale * torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def plain_norms(w, p, unit_dim):
    return [sum(abs(x) ** p for x in row.flatten().tolist()) ** (1 / p) for row in w.movedim(unit_dim, 0)]


def check_on_sphere(w, p, unit_dim=0, tolerance=1e-12):
    for size in plain_norms(w.detach().double(), p, unit_dim):
        assert abs(size - 1) <= tolerance


@pytest.mark.parametrize("p", PS)
@pytest.mark.parametrize(("shape", "unit_dim"), SHAPES)
def test_norms_and_retraction_of_any_unit_dimension(shape, unit_dim, p):
    w = normal(shape)
    assert unit_norm(w, p, unit_dim).flatten().tolist() == pytest.approx(plain_norms(w, p, unit_dim), rel=1e-13)
    check_on_sphere(retract(w, p, unit_dim), p, unit_dim)
    if len(shape) == 2 and shape[0] != shape[1]:
        with pytest.raises(AssertionError):
            check_on_sphere(retract(w, p, 1 - unit_dim % 2), p, unit_dim)


@pytest.mark.parametrize("p", PS)
def test_the_duality_map_and_its_inverse(p):
    w = retract(normal((6, 9)), p)
    v = to_dual(w, p)
    assert torch.allclose(to_primal(v, p), w, rtol=1e-11, atol=1e-15)
    check_on_sphere(v, conjugate(p), tolerance=1e-11)
    assert torch.allclose((w * v).sum(1), torch.ones(6, dtype=torch.float64), atol=1e-12)


@pytest.mark.parametrize("p", PS)
def test_the_minimiser_attains_hoelders_bound(p):
    g = normal((6, 9), 1)
    u = minimiser(g, p)
    check_on_sphere(u, p, tolerance=1e-11)
    assert (g * u).sum(1).tolist() == pytest.approx([-x for x in plain_norms(g, conjugate(p), 0)], rel=1e-11)
    others = retract(normal((6, 9), 2), p)
    assert ((g * others).sum(1) > (g * u).sum(1)).all()


@pytest.mark.parametrize("p", PS)
def test_tangents_leave_the_norm_alone_to_first_order(p):
    w, d = retract(normal((6, 9)), p), normal((6, 9), 3)
    along = tangent(d, w, p)
    assert (along * to_dual(w, p)).sum(1).abs().max() < 1e-12
    assert torch.allclose(tangent(along, w, p), along, atol=1e-12)
    assert (tangent(to_dual(w, p), w, p)).abs().max() < 1e-12


@pytest.mark.parametrize("scale", [1e-30, 1e-10, 1.0, 1e20])
@pytest.mark.parametrize("p", [1.02, 1.07, 1.2, 51.0])
def test_float32_norms_neither_under_nor_overflow(scale, p):
    w = normal((3, 50), scale=scale, dtype=torch.float32)
    exact = [scale * size for size in plain_norms(w.double() / scale, p, 0)]
    assert unit_norm(w, p).flatten().tolist() == pytest.approx(exact, rel=3e-6)


def test_the_unscaled_norm_fails_where_the_scaled_one_holds():
    """The planted fault: powers without the scaling."""
    w = normal((3, 50), scale=1e-3, dtype=torch.float32)
    exact = [1e-3 * size for size in plain_norms(w.double() / 1e-3, 21, 0)]
    assert unit_norm(w, 21).flatten().tolist() == pytest.approx(exact, rel=3e-6)
    assert (w.abs() ** 21).sum(1).pow(1 / 21).tolist() == [0, 0, 0]


def test_zero_rows_become_even_and_norms_of_zero_are_zero():
    w = torch.zeros(2, 8, dtype=torch.float64)
    assert unit_norm(w, 1.2).tolist() == [[0], [0]]
    assert torch.allclose(retract(w, 1.2), torch.full_like(w, 8 ** (-1 / 1.2)))
    check_on_sphere(retract(w, 1.2), 1.2)
    assert torch.equal(minimiser(w, 1.2), torch.zeros_like(w))


@pytest.mark.parametrize("k", [0.0, 0.5, 1.0, 1.7, 2.0, 3.5, 6.0, 13 / 3, 14.2857, 50.0])
def test_powers(k):
    a = torch.tensor([0.0, 1e-3, 0.3, 1.0, 2.5], dtype=torch.float64)
    assert power(a, k).tolist() == pytest.approx([x**k for x in a.tolist()], rel=1e-12)
    if k:
        assert sp(-a, k).tolist() == pytest.approx([-(x**k) for x in a.tolist()], rel=1e-12)


def test_narrow_numbers_are_computed_in_float32():
    w = normal((3, 20)).bfloat16()
    assert unit_norm(w, 1.1).dtype == retract(w, 1.1).dtype == to_dual(w, 1.1).dtype == torch.float32


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda: conjugate(1.0), UsageError, "p must be > 1"),
        (lambda: retract(torch.ones(2, 2), 0.9), UsageError, "retract: p must be > 1 and finite .* got 0.9. Use 1.02 ≤ p ≤ 2"),
        (lambda: to_dual(torch.ones(2, 2), math.inf), UsageError, "finite"),
        (lambda: to_dual(torch.ones(2, 2), "2"), ArgumentTypeError, "p must be a number, got str"),
        (lambda: unit_norm(torch.ones(2, 2), 0.5), UsageError, "p must be ≥ 1"),
        (lambda: unit_norm(torch.ones(2), 2.0), UsageError, r"unit_dim=0 needs a tensor .* got shape \[2\]"),
        (lambda: unit_norm(torch.ones(2, 2), 2.0, 2), UsageError, "unit_dim=2"),
        (lambda: tangent(torch.ones(2, 3), torch.ones(2, 2), 1.2), UsageError, "tangent: g must have w's shape"),
    ],
)
def test_refusals(call, error, words):
    with pytest.raises(error, match=words):
        call()
