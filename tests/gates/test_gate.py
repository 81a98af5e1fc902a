"""The gate function against a plain product differentiated by autograd, over shapes, owners and several uses."""

import gc
import weakref

import pytest
import torch

from parsinet.errors import RunError, UsageError
from parsinet.gates import Owner, QSink, gate

BLOCKS = torch.tensor([0, 0, 0, 1, 1, 1])
SCATTERED = torch.tensor([2, 0, 1, 1, 3, 0])
# shape of h, axis, owner, units; H ≠ W ≠ C ≠ B so that a broadcast along the wrong axis cannot pass
CASES = {
    "linear": ((4, 6), 1, None, 6),
    "linear, last axis": ((4, 6), -1, None, 6),
    "conv": ((2, 3, 4, 5), 1, None, 3),
    "channels last": ((2, 3, 4, 5), 3, None, 5),
    "tokens": ((2, 3, 7), -1, None, 7),
    "heads": ((2, 3, 4, 5), 2, None, 4),
    "flattened conv": ((4, 6), 1, BLOCKS, 2),
    "scattered owners": ((4, 6), 1, SCATTERED, 4),
    "scattered owners, tokens": ((2, 5, 6), 2, SCATTERED, 4),
    "one index each": ((4, 3), 1, torch.arange(3), 3),
    "a unit without index": ((4, 3), 1, torch.tensor([0, 0, 2]), 4),
}


def draw(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def plain_gate(h, xi, axis, owner):
    """h · ξ with ξ [B, n] as an ordinary differentiable factor, index by index."""
    axis %= h.dim()
    rows = []
    for index in range(h.shape[axis]):
        unit = index if owner is None else int(owner[index])
        slab = h.select(axis, index)
        rows.append(slab * xi[:, unit].reshape(-1, *[1] * (slab.dim() - 1)))
    return torch.stack(rows, axis)


def weird_loss(z):
    return (torch.sin(z) * draw(*z.shape, seed=9)).sum()


@pytest.mark.parametrize("per_example", [False, True])
@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_gate_equals_the_plain_product(case, per_example):
    shape, axis, owner, units = case
    xi = torch.bernoulli(torch.full((shape[0], units) if per_example else (units,), 0.6), generator=torch.Generator().manual_seed(3))
    mine, theirs = draw(*shape).requires_grad_(), draw(*shape).requires_grad_()
    full = xi.double().expand(shape[0], units).clone().requires_grad_()
    sink = QSink()
    z, expected = gate(mine, xi, axis, sink, owner), plain_gate(theirs, full, axis, owner)
    assert torch.equal(z, expected)
    weird_loss(z).backward()
    weird_loss(expected).backward()
    assert torch.equal(mine.grad, theirs.grad)
    assert torch.allclose(sink.take(), full.grad, atol=1e-13)


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_gradcheck(case):
    shape, axis, owner, units = case
    xi = torch.rand(units, generator=torch.Generator().manual_seed(3), dtype=torch.float64)

    def function(h):
        return gate(h, xi, axis, QSink(), owner)

    h = draw(*shape).requires_grad_()
    assert torch.autograd.gradcheck(function, h)
    assert torch.autograd.gradgradcheck(function, h)


def test_q_carries_no_graph_even_where_second_derivatives_are_taken():
    sink, h = QSink(), draw(4, 3).requires_grad_()
    (first,) = torch.autograd.grad(weird_loss(gate(h, torch.ones(3), 1, sink)), h, create_graph=True)
    assert first.requires_grad
    assert not sink.take().requires_grad


def test_several_uses_are_summed_before_anything_is_squared():
    xi = torch.tensor([1.0, 0.0, 1.0])
    first, second, third = draw(4, 3), draw(4, 3, 5, 2, seed=1), draw(4, 2, 3, seed=2)
    full = xi.double().expand(4, 3).clone().requires_grad_()
    sink = QSink()
    for h, axis in ((first, 1), (second, 1), (third, 2)):
        weird_loss(gate(h.clone().requires_grad_(), xi, axis, sink)).backward()
        weird_loss(plain_gate(h, full, axis, None)).backward()
    assert torch.allclose(sink.take(), full.grad, atol=1e-13)


def test_uses_inside_one_backward_pass_are_summed():
    xi, h = torch.tensor([1.0, 0.5, 0.0]), draw(4, 3)
    full = xi.double().expand(4, 3).clone().requires_grad_()
    sink = QSink()
    leaf = h.clone().requires_grad_()
    weird_loss(gate(torch.tanh(gate(leaf, xi, 1, sink)), xi, 1, sink)).backward()
    weird_loss(plain_gate(torch.tanh(plain_gate(h, full, 1, None)), full, 1, None)).backward()
    assert torch.allclose(sink.take(), full.grad, atol=1e-13)


def test_raw_inputs_can_be_gated():
    sink, x, weight = QSink(), draw(4, 3), draw(3, 2, seed=1).requires_grad_()
    (gate(x, torch.ones(3), 1, sink) @ weight).sum().backward()
    assert x.grad is None
    assert torch.allclose(sink.take(), x * weight.detach().sum(1))


def test_take_clears_and_refuses_when_there_is_nothing():
    sink = QSink()
    assert sink.empty
    gate(draw(4, 3).requires_grad_(), torch.ones(3), 1, sink).sum().backward()
    assert not sink.empty
    sink.take()
    assert sink.empty
    with pytest.raises(RunError, match="no backward pass went through this gate"):
        sink.take()


@pytest.mark.parametrize("with_sink", [False, True])
def test_without_gradient_only_the_product_remains(with_sink):
    sink = QSink() if with_sink else None
    h, xi = draw(4, 3), torch.tensor([0.0, 0.5, 1.0])
    with torch.no_grad():
        assert torch.equal(gate(h, xi, 1, sink), h * xi)
    with torch.inference_mode():
        assert torch.equal(gate(h, xi, 1, sink), h * xi)
    assert sink is None or sink.empty
    assert not gate(h, xi, 1).requires_grad


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_derivatives_are_summed_in_float32(dtype):
    h = torch.ones(1, 2, 5000, dtype=dtype, requires_grad=True)
    sink = QSink()
    z = gate(h, torch.ones(2), 1, sink)
    assert z.dtype == dtype
    z.backward(torch.full_like(z, 0.1))
    q = sink.take()
    assert q.dtype == torch.float32
    each = torch.tensor(0.1, dtype=dtype).item()
    assert q.tolist() == [[pytest.approx(5000 * each, rel=1e-5)] * 2]
    assert h.grad.dtype == dtype


def test_boolean_and_double_gates_do_not_change_the_dtype_of_h():
    h = torch.ones(2, 3)
    for xi in (torch.tensor([True, False, True]), torch.tensor([1.0, 0.0, 1.0], dtype=torch.float64)):
        z = gate(h, xi, 1, QSink())
        assert z.dtype == torch.float32
        assert z[0].tolist() == [1, 0, 1]


def test_h_is_freed_after_the_backward_pass():
    sink, leaf = QSink(), draw(4, 3).requires_grad_()
    h = leaf * 2
    kept = weakref.ref(h)
    z = gate(h, torch.ones(3), 1, sink)
    del h
    z.sum().backward()
    gc.collect()
    assert kept() is None
    assert z.requires_grad


def test_sink_refuses_uses_of_different_batches():
    sink = QSink()
    gate(draw(4, 3).requires_grad_(), torch.ones(3), 1, sink).sum().backward()
    with pytest.raises(UsageError, match=r"after \[4, 3\]. Call take\(\) after every backward pass"):
        gate(draw(2, 3).requires_grad_(), torch.ones(3), 1, sink).sum().backward()


def test_owner_finds_blocks():
    assert Owner.of(BLOCKS).block == 3
    assert Owner.of(torch.arange(4)).block == 1
    for index in (SCATTERED, torch.tensor([0, 0, 1]), torch.tensor([1, 1, 0, 0])):
        assert Owner.of(index).block is None
    assert Owner.of(BLOCKS, units=3).block is None


def test_prepared_owner_equals_its_index():
    h, xi = draw(4, 6), torch.tensor([1.0, 0.0, 1.0, 0.0])
    assert torch.equal(gate(h, xi, 1, None, Owner.of(SCATTERED)), gate(h, xi, 1, None, SCATTERED))


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: gate(draw(4, 3), torch.ones(3), 0), r"axis must name a dimension of h after the batch \(1 … 1\), got 0"),
        (lambda: gate(draw(4, 3), torch.ones(3), -2), "got -2"),
        (lambda: gate(draw(4, 3), torch.ones(3), 2), "got 2"),
        (lambda: gate(draw(4, 3), torch.ones(4), 1), r"xi must be \[3\] or \[4, 3\]"),
        (lambda: gate(draw(4, 3), torch.ones(2, 3), 1), r"got \[2, 3\]"),
        (lambda: gate(draw(4, 3), torch.ones(2), 1, None, BLOCKS), "owner must name a unit for each of the 3 indices"),
        (lambda: Owner.of(torch.tensor([0.0])), "non-empty int64 vector"),
        (lambda: Owner.of(torch.tensor([0, -2])), "values from -2 to 0"),
        (lambda: Owner.of(SCATTERED, units=3), "units 0 … 2"),
    ],
)
def test_refusals_name_the_argument(call, words):
    with pytest.raises(UsageError, match=words):
        call()


def test_a_tensor_changed_in_place_is_refused_not_misread() -> None:
    sink, h = QSink(), draw(4, 3).requires_grad_() * 1
    loss = gate(h, torch.ones(3, dtype=torch.float64), 1, sink).sum()
    h.add_(1)
    with pytest.raises(RunError, match="changed in place"):
        loss.backward()


def test_indices_without_a_unit_pass_and_teach_nothing() -> None:
    """In a concatenation only some indices belong to the group."""
    sink, h, owner = QSink(), draw(4, 5).requires_grad_(), Owner.of(torch.tensor([-1, 0, 1, -1, 1]), 2)
    xi = torch.tensor([0.0, 1.0], dtype=torch.float64)
    z = gate(h, xi, 1, sink, owner)
    assert torch.equal(z, h * torch.tensor([1.0, 0.0, 1.0, 1.0, 1.0], dtype=torch.float64))
    z.sum().backward()
    assert torch.allclose(sink.take(), torch.stack([h[:, 1], h[:, 2] + h[:, 4]], 1).detach())


def test_complex_numbers_have_real_derivatives():
    """∂L/∂ξ by central differences; the imaginary part is not dropped."""
    h = torch.complex(draw(3, 4, seed=1), draw(3, 4, seed=2))
    weights = draw(4, 4, seed=3)

    def loss(xi):
        z = h * xi
        return (z.real @ weights * z.imag).sin().sum() + z.abs().sum()

    xi, sink = draw(3, 4, seed=4).abs() + 0.5, QSink()
    z = gate(h.clone().requires_grad_(), xi, 1, sink)
    ((z.real @ weights * z.imag).sin().sum() + z.abs().sum()).backward()
    found, step = sink.take(), 1e-6
    assert found.dtype == torch.float64
    for b, i in ((0, 0), (1, 2), (2, 3)):
        change = torch.zeros_like(xi)
        change[b, i] = step
        assert found[b, i] == pytest.approx(((loss(xi + change) - loss(xi - change)) / (2 * step)).item(), rel=1e-5)
