"""Laws of one step of LpSGD: it stays on the sphere, descends as the identity says, and knows neither scale nor order of rows."""

import pytest
import torch

from parsinet.sphere import LpSGD, conjugate, retract, to_dual, to_primal, unit_norm
from parsinet.sphere.update import dual_step, frank_wolfe_step

PS = (1.02, 1.07, 1.2, 1.3, 1.5, 2.0, 3.0)
LAYOUTS = {"linear": ((6, 9), 0), "convolution": ((5, 3, 2, 4), 0), "transposed": ((3, 5, 2, 4), 1), "channels last": ((5, 3, 2, 4), 0)}


def normal(shape, seed=0, dtype=torch.float64):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def tensor(layout, seed=0, dtype=torch.float64):
    shape, unit_dim = LAYOUTS[layout]
    value = normal(shape, seed, dtype)
    return (value.contiguous(memory_format=torch.channels_last) if layout == "channels last" else value), unit_dim


def train(w, gradients, **options):
    """LpSGD along given gradients; a number of them at 0, where some rows do not move. Returns weights and optimizer."""
    w = torch.nn.Parameter(w.clone())
    optimizer = LpSGD([w], **{"lr": 0.05, "g_min": 0.0, **options})
    for g in gradients:
        w.grad = g.clone()
        optimizer.step()
    return w, optimizer


def check_on_sphere(w, p, tolerance, unit_dim=0):
    assert (unit_norm(w.detach().double(), p, unit_dim) - 1).abs().max() <= tolerance


@pytest.mark.parametrize("foreach", [True, False])
@pytest.mark.parametrize("p", PS)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_weights_stay_on_the_sphere(layout, p, foreach):
    for dtype, tolerance in ((torch.float64, 1e-12), (torch.float32, 1e-5)):
        w, unit_dim = tensor(layout, dtype=dtype)
        gradients = [tensor(layout, seed, dtype)[0] for seed in range(1, 30)]
        options = {"p": p, "unit_dim": unit_dim, "foreach": foreach, "nesterov": True}
        check_on_sphere(train(w, [], **options)[0], p, tolerance, unit_dim)
        trained, optimizer = train(w, gradients, **options)
        check_on_sphere(trained, p, tolerance, unit_dim)
        if p <= 2:
            dual = optimizer.state[trained]["dual"]
            check_on_sphere(dual, conjugate(p), tolerance, unit_dim)
            assert torch.allclose(to_primal(dual, p), trained, atol=10 * tolerance)


def test_the_check_objects_to_the_wrong_unit_dimension():
    w, _ = train(tensor("transposed")[0], [tensor("transposed", 1)[0]], p=1.2, unit_dim=0)
    with pytest.raises(AssertionError):
        check_on_sphere(w, 1.2, 1e-5, unit_dim=1)


@pytest.mark.parametrize("eta", [0.01, 0.3, 0.49, 0.5, 0.9])
@pytest.mark.parametrize("p", PS)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_foreach_equals_plain(layout, p, eta):
    """η up to 0.9 takes both ways through the fast path, with and without the second scaling."""
    w, unit_dim = tensor(layout)
    gradients = [tensor(layout, seed)[0] for seed in range(1, 8)]
    gradients[3].select(unit_dim, 1).zero_()
    for options in ({"nesterov": True}, {"momentum": 0.0}, {"momentum": 0.5, "dampening": 0.2}):
        options |= {"p": p, "unit_dim": unit_dim, "lr": eta}
        fast, slow = (train(w, gradients, foreach=foreach, **options)[0] for foreach in (True, False))
        assert (fast - slow).abs().max() < 1e-10  # rounding, times 1/(p−1) per step


def test_foreach_cuts_large_tensors_into_blocks(monkeypatch):
    w, gradients = normal((11, 9)), [normal((11, 9), 1)]
    whole, _ = train(w, gradients, p=1.3)
    monkeypatch.setattr("parsinet.sphere.blocks.BLOCK", 20)
    assert torch.allclose(train(w, gradients, p=1.3)[0], whole, atol=1e-14)


def test_both_forms_at_p_two_are_normalised_sgd():
    w = normal((6, 9))
    gradients = [normal((6, 9), seed) for seed in range(1, 40)]
    by_hand, buffer = w / w.norm(dim=1, keepdim=True), torch.zeros(6, 9, dtype=torch.float64)
    for g in gradients:
        buffer = 0.9 * buffer + g
        by_hand = 0.95 * by_hand - 0.05 * buffer / buffer.norm(dim=1, keepdim=True)
        by_hand = by_hand / by_hand.norm(dim=1, keepdim=True)
    for form in ("dual", "frank-wolfe"):
        for foreach in (True, False):
            found, _ = train(w, gradients, p=2.0, form=form, foreach=foreach)
            assert torch.allclose(found, by_hand, atol=1e-13)
    assert not torch.allclose(train(w, gradients, p=1.9)[0], by_hand, atol=1e-3)


@pytest.mark.parametrize("nesterov", [True, False])
def test_momentum_is_taken_of_raw_gradients_before_they_are_normalised(nesterov):
    """Gradients of very different size: normalising first would give another direction."""
    w, p, q = retract(normal((3, 5)), 1.3), 1.3, conjugate(1.3)
    gradients = [100 * normal((3, 5), 1), normal((3, 5), 2), 0.01 * normal((3, 5), 3)]
    v, buffer = to_dual(w, p), None
    for g in gradients:
        buffer = g if buffer is None else 0.9 * buffer + g
        direction = g + 0.9 * buffer if nesterov else buffer
        v = 0.95 * v - 0.05 * direction / unit_norm(direction, q)
        v = v / unit_norm(v, q)
    assert torch.allclose(train(w, gradients, p=p, nesterov=nesterov)[0], to_primal(v, p), atol=1e-12)


def least_squares(seed=5):
    a, target = normal((40, 12), seed), normal((40, 3), seed + 1)
    return lambda w: ((a @ w.T - target) ** 2).sum() / 80


def gradient(loss, w):
    w = w.clone().requires_grad_()
    (g,) = torch.autograd.grad(loss(w), w)
    return g


def predicted_rate(w, g, p, form):
    """Section 3.7 of our specification, summed over units."""
    q = conjugate(p)
    size = unit_norm(g, q)
    v, unit = to_dual(w, p), g / size
    along = (w * unit).sum(1)
    if form == "dual":
        spread = (w.abs() ** (2 - p) * unit**2).sum(1)
        return -(size.flatten() / (p - 1) * (spread - along**2)).sum().item()
    u = torch.copysign(unit.abs() ** (q - 1), unit)
    return -(size.flatten() * (1 - along * (v * u).sum(1))).sum().item()


def measured_rate(loss, w, g, p, form):
    """Central difference in η; a negative η is a step along +G."""
    h = 1e-6
    ends = []
    for sign in (1, -1):
        moved = dual_step(w, to_dual(w, p), g, sign * h, p)[0] if form == "dual" else frank_wolfe_step(w, g, sign * h, p)
        ends.append(loss(moved).item())
    return (ends[0] - ends[1]) / (2 * h)


@pytest.mark.parametrize(
    ("form", "p", "tolerance"),
    [("dual", 1.2, 1e-6), ("dual", 1.5, 1e-6), ("dual", 2.0, 1e-6), ("frank-wolfe", 1.5, 1e-4), ("frank-wolfe", 3.0, 1e-4)],
)
def test_the_loss_falls_at_the_predicted_rate(form, p, tolerance):
    loss, w = least_squares(), retract(normal((3, 12)), p)
    g = gradient(loss, w)
    rate = predicted_rate(w, g, p, form)
    assert rate < 0
    assert measured_rate(loss, w, g, p, form) == pytest.approx(rate, rel=tolerance)
    other = "frank-wolfe" if form == "dual" else "dual"
    if p != 2:
        assert abs(predicted_rate(w, g, p, other) / rate - 1) > 1e-2  # the planted fault: the other form's identity


@pytest.mark.parametrize("p", [1.07, 1.2, 1.5, 2.0, 3.0])
def test_training_descends_and_ends_at_a_stationary_point(p):
    """g = −λv at the end: g and v are parallel."""
    loss = least_squares()
    w = torch.nn.Parameter(normal((3, 12)))
    optimizer = LpSGD([w], p=p, lr=0.1, momentum=0.0)
    start = loss(w).item()
    for step in range(600):
        optimizer.param_groups[0]["lr"] = 0.1 * (1 - step / 600) ** 2
        w.grad = gradient(loss, w.detach())
        optimizer.step()
    assert loss(w).item() < start
    g, v = gradient(loss, w.detach()), to_dual(w.detach(), p)
    if p in (1.5, 2.0):  # nearer to 1 most weights are 0 and the condition holds on the support alone
        cosine = (g * v).sum(1) / (g.norm(dim=1) * v.norm(dim=1))
        assert cosine.abs().min() > 1 - 1e-3


@pytest.mark.parametrize("p", [1.07, 1.2, 2.0, 3.0])
def test_the_fixed_point_is_the_minimiser_of_a_linear_loss(p):
    g = normal((4, 7), 3)
    w, _ = train(normal((4, 7)), [g] * 400, p=p, lr=0.1, momentum=0.0)
    unit = g / unit_norm(g, conjugate(p))
    assert torch.allclose((w * unit).sum(1), -torch.ones(4, dtype=torch.float64), atol=1e-9)
    again, _ = train(w.detach(), [g] * 3, p=p, lr=0.1, momentum=0.0)
    assert torch.allclose(again, w, atol=1e-9)


@pytest.mark.parametrize("foreach", [True, False])
@pytest.mark.parametrize("p", [1.07, 1.2, 1.5, 2.0, 3.0])
def test_the_scale_of_gradients_changes_nothing(p, foreach):
    for dtype, tolerance in ((torch.float64, 1e-11), (torch.float32, 1e-5)):
        w, gradients = normal((6, 20), dtype=dtype), [normal((6, 20), seed, dtype) for seed in range(1, 21)]
        base, _ = train(w, gradients, p=p, foreach=foreach, nesterov=True)
        for exponent in (-20, 20):
            scaled, _ = train(w, [g * 2.0**exponent for g in gradients], p=p, foreach=foreach, nesterov=True)
            assert torch.equal(scaled, base)
        for scale in (1e-6, 1e6):
            scaled, _ = train(w, [g * scale for g in gradients], p=p, foreach=foreach, nesterov=True)
            assert (scaled - base).abs().max() <= tolerance


@pytest.mark.parametrize("foreach", [True, False])
@pytest.mark.parametrize("scale", [0.0, 1e-44, 1e-38, 1e-30, 1e20, 1e37])
def test_no_gradient_gives_nan_in_float32(scale, foreach):
    for p in (1.02, 1.2, 1.3, 2.0, 3.0):
        w, _ = train(
            normal((6, 20), dtype=torch.float32), [scale * normal((6, 20), 1, torch.float32)] * 3, p=p, foreach=foreach, momentum=0.0
        )
        check_on_sphere(w, p, 1e-5)


@pytest.mark.parametrize("foreach", [True, False])
@pytest.mark.parametrize("p", [1.07, 1.2, 2.0, 3.0])
def test_rows_without_gradient_keep_every_bit(p, foreach):
    w = normal((6, 20), dtype=torch.float32)
    start, _ = train(w, [], p=p)
    first = [normal((6, 20), seed, torch.float32) for seed in (1, 2)]
    for g in first:
        g[2] = 0
        g[4] *= 1e-13
    moved, optimizer = train(start.detach(), first, p=p, g_min=1e-12, foreach=foreach)
    assert torch.equal(moved[[2, 4]], start[[2, 4]])
    assert not torch.isclose(moved[[0, 1, 3, 5]], start[[0, 1, 3, 5]]).all(1).any()
    later = moved.detach().clone()
    moved.grad = torch.zeros_like(later)
    optimizer.param_groups[0]["momentum"] = 0.0
    optimizer.step()
    assert torch.equal(moved, later)


@pytest.mark.parametrize("foreach", [True, False])
def test_a_step_size_of_zero_moves_nothing(foreach):
    w = retract(normal((6, 20)), 1.2)
    assert torch.equal(train(w, [normal((6, 20), 1)], lr=0.0, foreach=foreach)[0], w)


def test_rows_and_columns_may_be_permuted_and_signs_flipped():
    w, gradients = normal((6, 20)), [normal((6, 20), seed) for seed in range(1, 6)]
    base, _ = train(w, gradients)
    rows, columns = torch.randperm(6, generator=torch.Generator().manual_seed(1)), torch.arange(19, -1, -1)
    assert torch.allclose(train(w[rows], [g[rows] for g in gradients])[0], base[rows], atol=1e-13)
    signs = torch.ones(20, dtype=torch.float64)
    signs[::3] = -1
    turned, _ = train(w[:, columns] * signs, [g[:, columns] * signs for g in gradients])
    assert torch.allclose(turned, base[:, columns] * signs, atol=1e-13)


def test_weights_too_small_for_a_float_return():
    """At p = 1.07 w is exactly 0 in float32 for |v| < 6.9e-4; v remembers, and a steady gradient brings the weight back."""
    w = torch.full((1, 10), 1.0)
    w[0, 0] = 1e-45
    steady = torch.full((1, 10), 1e-3)
    steady[0, 0] = -1.0
    assert train(w, [], p=1.07)[0][0, 0] < 1e-44
    away, optimizer = train(w, [0.001 * steady], p=1.07, momentum=0.0, lr=1e-5)
    assert optimizer.state[away]["dual"][0, 0] > 0
    grown, _ = train(w, [steady] * 300, p=1.07, momentum=0.0, lr=0.01)
    assert grown[0, 0] > 0.1


@pytest.mark.parametrize("p", [1.2, 1.3, 3.0])
def test_small_tensors_share_blocks_and_move_as_they_would_alone(p):
    shapes = ((6, 20), (4, 5, 2, 2), (3, 7), (9, 20), (2, 4, 5))
    alone = [train(normal(shape, k), [normal(shape, 10 + k + 5 * step) for step in range(3)], p=p)[0] for k, shape in enumerate(shapes)]
    together = [torch.nn.Parameter(normal(shape, k)) for k, shape in enumerate(shapes)]
    optimizer = LpSGD(together, p=p, lr=0.05, g_min=0.0)
    for step in range(3):
        for k, w in enumerate(together):
            w.grad = normal(shapes[k], 10 + k + 5 * step)
        optimizer.step()
    for one, other in zip(together, alone, strict=True):
        assert torch.allclose(one, other, atol=1e-14)


@pytest.mark.parametrize("q", [2.5, 3, 3.5, 4, 5, 6, 7, 8, 10, 12, 16, 18])
def test_powers_by_multiplication_give_the_step_of_the_slow_twin(q):
    """Exponents with whole or half powers take roots and products instead of logarithms."""
    p = q / (q - 1)
    gradients = [normal((6, 9), seed) for seed in range(1, 5)]
    fast, slow = (train(normal((6, 9)), gradients, p=p, foreach=foreach, momentum=0.0)[0] for foreach in (True, False))
    assert torch.allclose(fast, slow, rtol=1e-9, atol=1e-12)
    check_on_sphere(fast, p, 1e-12)


@pytest.mark.parametrize(("p", "eta"), [(1.02, 0.9), (1.02, 0.09), (1.05, 0.99)])
def test_long_steps_do_not_overflow_in_float32(p, eta):
    """With η > 2/3 no ‖y‖_q is below 1, but its power may be above what float32 holds."""
    gradients = [normal((6, 40), seed, torch.float32) for seed in range(1, 5)]
    check_on_sphere(train(normal((6, 40), dtype=torch.float32), gradients, p=p, lr=eta)[0], p, 1e-5)
