"""Gradients: every form against its formula and against plain autograd, conservation, gauges, and no tensor of the weight's size."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from parsinet import spectral
from parsinet.spectral import functions
from parsinet.spectral.pairs import Pairs

EXACT = 1e-12
"""float64, sums of a few dozen terms."""
SHAPES = [(5, 3), (4, 4), (3, 6)]
"""n_out > n_in, =, <."""


def numbers(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def slow_weight(lambda_in: Tensor, lambda_out: Tensor, phi: Tensor, groups: int, sending_rows: bool) -> Tensor:
    """The double loop over pairs, written from the definition."""
    weight = torch.empty_like(phi)
    d0, d1 = phi.shape[:2]
    for row in range(d0):
        for column in range(d1):
            other = row // (d0 // groups) * d1 + column
            sender, receiver = (row, other) if sending_rows else (other, row)
            weight[row, column] = (lambda_in[sender] - lambda_out[receiver]) * phi[row, column]
    return weight


@pytest.mark.parametrize(("d0", "d1"), SHAPES)
@pytest.mark.parametrize("taps", [(), (2,), (2, 3), (1, 2, 3)])
@pytest.mark.parametrize("groups", [1, 2, 4])
@pytest.mark.parametrize("sending_rows", [False, True])
def test_the_composed_weight_is_the_double_loop(d0: int, d1: int, taps: tuple[int, ...], groups: int, sending_rows: bool) -> None:
    d0 *= groups
    phi = numbers(d0, d1, *taps)
    nodes = (d0, d1 * groups) if sending_rows else (d1 * groups, d0)
    lambda_in, lambda_out = numbers(nodes[0], seed=1), numbers(nodes[1], seed=2)
    weight = functions.compose(lambda_in, lambda_out, phi, Pairs(groups, sending_rows))
    assert torch.equal(weight, slow_weight(lambda_in, lambda_out, phi, groups, sending_rows))


@pytest.mark.parametrize("pairs", [Pairs(), Pairs(2), Pairs(1, True), Pairs(3, True)])
@pytest.mark.parametrize("taps", [(), (2,)])
def test_gradcheck_of_the_composed_form(pairs: Pairs, taps: tuple[int, ...]) -> None:
    phi = numbers(6, 2, *taps).requires_grad_()
    nodes = (6, 2 * pairs.groups) if pairs.sending_rows else (2 * pairs.groups, 6)
    sets = [numbers(n, seed=n).requires_grad_() for n in nodes]
    assert torch.autograd.gradcheck(lambda i, o, p: functions.compose(i, o, p, pairs), (*sets, phi))


@pytest.mark.parametrize("batch", [1, 100, 10_000])
def test_blocks_and_tiles_cover_every_row_once(batch: int) -> None:
    phi, x, threads = torch.empty(1000, 5000), torch.empty(batch, 1), torch.get_num_threads()
    rows = [row for block, _ in functions._blocks(x, phi) for row in range(*block.indices(1000))]
    assert rows == list(range(1000))
    heights = {len(room) for _, room in functions._blocks(x, phi)}
    assert max(heights) == min(1000, threads * (functions.MOST if batch == 10_000 else functions.BLOCK) // 5000)
    assert [row for tile in functions._tiles(phi) for row in range(*tile.indices(1000))] == list(range(1000))


@pytest.mark.parametrize("empty", ["senders", "receivers", "batch"])
def test_nothing_to_multiply(empty: str) -> None:
    B, n_in, n_out = (0 if empty == name else 3 for name in ("batch", "senders", "receivers"))
    tensors = [torch.ones(B, n_in), torch.ones(n_in), torch.zeros(n_out), torch.ones(n_out, n_in), torch.ones(n_out)]
    x, *rest = [tensor.requires_grad_() for tensor in tensors]
    functions.blocked_linear(x, *rest).sum().backward()
    assert all(tensor.grad is not None and bool(tensor.grad.isfinite().all()) for tensor in tensors)


@pytest.mark.parametrize(("n_out", "n_in"), [*SHAPES, (40, 3)])
@pytest.mark.parametrize("bias", [True, False])
def test_gradcheck_of_the_blocked_form(n_out: int, n_in: int, bias: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    small_blocks(monkeypatch, 1)
    inputs = [numbers(2, n_in), numbers(n_in, seed=1), numbers(n_out, seed=2), numbers(n_out, n_in, seed=3)]
    inputs = [value.requires_grad_() for value in inputs] + [numbers(n_out, seed=4).requires_grad_() if bias else None]
    assert torch.autograd.gradcheck(functions.blocked_linear, tuple(inputs))


def small_blocks(monkeypatch: pytest.MonkeyPatch, entries: int) -> None:
    """Products over `entries` entries of the weight, passes over half as many, so that small layers have several of both."""
    monkeypatch.setattr(functions, "BLOCK", entries)
    monkeypatch.setattr(functions, "PER_EXAMPLE", 0)
    monkeypatch.setattr(functions, "TILE", entries // 2)


VARIANTS = [name for name in spectral.VARIANTS if name != "svd-gaussian"]
LAYERS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "linear": (lambda: nn.Linear(5, 7), (3, 5)),
    "linear of sequences": (lambda: nn.Linear(6, 4, bias=False), (2, 3, 6)),
    "wide": (lambda: nn.Linear(4, 37), (2, 4)),
    "conv1d": (lambda: nn.Conv1d(4, 6, 3, groups=2, stride=2), (2, 4, 9)),
    "conv2d": (lambda: nn.Conv2d(3, 5, (3, 2), padding=1), (2, 3, 4, 6)),
    "conv2d 4 groups": (lambda: nn.Conv2d(8, 4, 2, groups=4, dilation=2, bias=False), (2, 8, 5, 4)),
    "depthwise": (lambda: nn.Conv2d(4, 4, 3, groups=4, padding=1, padding_mode="circular"), (2, 4, 5, 3)),
    "conv3d": (lambda: nn.Conv3d(2, 3, 2), (2, 2, 3, 4, 5)),
    "transposed1d": (lambda: nn.ConvTranspose1d(4, 6, 3, stride=2), (2, 4, 5)),
    "transposed2d": (lambda: nn.ConvTranspose2d(6, 4, 2, groups=2), (2, 6, 3, 5)),
    "transposed3d": (lambda: nn.ConvTranspose3d(2, 3, 2), (1, 2, 3, 2, 4)),
}


def layer_and_input(name: str, variant: str) -> tuple[nn.Module, Tensor]:
    """A spectral layer in float64 with eigenvalues of its own, and an input."""
    if (name, variant) == ("transposed2d", "unit"):
        pytest.skip("directions of grouped transposed convolutions are refused")
    make, shape = LAYERS[name]
    layer = spectral.spectralize(make().double(), variant)
    with torch.no_grad():
        for number, parameter in enumerate(layer.parameters()):
            parameter += 0.3 * numbers(*parameter.shape, seed=number + 5)
    return layer, numbers(*shape, seed=3)


def plainly(layer: Any, x: Tensor) -> Tensor:
    """The layer by plain operators: the composed weight put into the plain layer's own forward."""
    own = layer.spectrum
    twin = copy.deepcopy(layer)
    plain = spectral.fold(twin)
    weight = functions.composed(own.lambda_in, own.lambda_out, own.basis(), spectral.layers.pairs_of(layer))
    values = {"weight": weight} if layer.bias is None else {"weight": weight, "bias": layer.bias}
    return torch.func.functional_call(plain, values, (x,))


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("name", LAYERS)
def test_every_layer_equals_plain_autograd(name: str, variant: str, monkeypatch: pytest.MonkeyPatch) -> None:
    small_blocks(monkeypatch, 60)
    monkeypatch.setattr(spectral.layers, "BLOCK", 30)
    layer, x = layer_and_input(name, variant)
    leaves = [x.requires_grad_(), *layer.parameters()]
    y, expected = layer(x), plainly(layer, x)
    torch.testing.assert_close(y, expected, rtol=1e-10, atol=1e-10)
    g = numbers(*y.shape, seed=9)
    for own, plain in zip(torch.autograd.grad(y, leaves, g), torch.autograd.grad(expected, leaves, g), strict=True):
        torch.testing.assert_close(own, plain, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("name", ["linear", "conv1d", "transposed2d"])
def test_gradcheck_of_every_variant(name: str, variant: str) -> None:
    layer, x = layer_and_input(name, variant)
    names = [name for name, _ in layer.named_parameters()]

    def run(x: Tensor, *values: Tensor) -> Tensor:
        return torch.func.functional_call(layer, dict(zip(names, values, strict=True)), (x,))

    values = [parameter.detach().clone().requires_grad_() for parameter in layer.parameters()]
    assert torch.autograd.gradcheck(run, (x.requires_grad_(), *values), fast_mode=True)


@pytest.mark.parametrize("name", LAYERS)
def test_conservation_of_the_gradients(name: str) -> None:
    """Σ∂L/∂λ_in + Σ∂L/∂λ_out = 0 and Σ λ·∂L/∂λ = ⟨G, W⟩ = Σ φ·∂L/∂φ, for any loss."""
    layer, x = layer_and_input(name, "full")
    own: Any = layer.spectrum
    layer(x).tanh().square().sum().backward()
    d_in, d_out, phi = own.lambda_in.grad, own.lambda_out.grad, own.basis.phi
    scale = float(d_in.abs().sum())
    assert float(d_in.sum() + d_out.sum()) == pytest.approx(0.0, abs=EXACT * scale)
    inner = float((own.lambda_in.detach() * d_in).sum() + (own.lambda_out.detach() * d_out).sum())
    assert inner == pytest.approx(float((phi.detach() * phi.grad).sum()), abs=1e-11 * scale)


@pytest.mark.parametrize("name", LAYERS)
def test_gauges_leave_the_function(name: str) -> None:
    layer, x = layer_and_input(name, "two-set")
    own: Any = layer.spectrum
    y, score = layer(x), spectral.relevance(layer)
    with torch.no_grad():
        own.lambda_in += 0.7
        own.lambda_out += 0.7
        torch.testing.assert_close(layer(x), y, rtol=1e-11, atol=1e-11)
        own.lambda_in *= 3.0
        own.lambda_out *= 3.0
        own.basis.phi /= 3.0
    torch.testing.assert_close(layer(x), y, rtol=1e-11, atol=1e-11)
    torch.testing.assert_close(spectral.relevance(layer), score, rtol=1e-11, atol=1e-11)
    with torch.no_grad():
        own.lambda_in += 0.7
    assert not torch.allclose(layer(x), y), "the law must be able to fail"


class Largest(TorchDispatchMode):
    """Remembers the size of the largest new tensor any operator returns."""

    size = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        known = {leaf.untyped_storage().data_ptr() for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)}
        for leaf in tree_leaves(result):
            if isinstance(leaf, Tensor) and leaf.untyped_storage().data_ptr() not in known:
                self.size = max(self.size, leaf.numel())
        return result


@pytest.mark.parametrize(("variant", "small"), [("two-set", True), ("one-set", True), ("one-set-in", True), ("full", False)])
def test_no_tensor_of_the_weights_size(variant: str, small: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    small_blocks(monkeypatch, 1000)
    monkeypatch.setattr(spectral.layers, "BLOCK", 1000)
    layer = spectral.spectralize(nn.Linear(100, 120), variant)
    x = torch.randn(4, 100, requires_grad=True)
    with Largest() as seen:
        layer(x).sum().backward()
    assert (seen.size < 100 * 120) == small


@pytest.mark.parametrize("fault", ["sign of λ_out", "lost row block", "φ without its factor"])
def test_the_comparison_sees_planted_faults(fault: str, monkeypatch: pytest.MonkeyPatch) -> None:
    backward = functions._Compose.backward

    def wrong(ctx: Any, G: Tensor) -> tuple[Any, ...]:
        d_in, d_out, d_phi, rest = backward(ctx, G)
        if fault == "sign of λ_out":
            d_out = -d_out
        elif fault == "lost row block":
            d_in = d_in - ctx.saved_tensors[2][0] * G[0]
        else:
            d_phi = G
        return d_in, d_out, d_phi, rest

    monkeypatch.setattr(functions._Compose, "backward", staticmethod(wrong))
    with pytest.raises(AssertionError):
        test_every_layer_equals_plain_autograd("linear of sequences", "full", pytest.MonkeyPatch())


def test_an_empty_batch_and_a_lost_axis() -> None:
    layer = spectral.spectralize(nn.Linear(400, 400))
    assert layer(torch.empty(0, 400)).shape == (0, 400)
    assert layer(torch.ones(400)).shape == (400,)
    with pytest.raises(RuntimeError):
        layer(torch.ones(2, 399))


@pytest.mark.parametrize("nodes", [(5, 4), (800, 700)], ids=["composed", "blocked"])
def test_functional_gradients(nodes: tuple[int, int]) -> None:
    """torch.func sees the same gradients."""
    layer = spectral.spectralize(nn.Linear(*nodes, dtype=torch.float64))
    x = numbers(2, nodes[0])
    parameters = dict(layer.named_parameters())
    found = torch.func.grad(lambda values: torch.func.functional_call(layer, values, (x,)).square().sum())(parameters)
    layer(x).square().sum().backward()
    for name, parameter in parameters.items():
        torch.testing.assert_close(found[name], parameter.grad)


def test_the_comparison_sees_a_lost_block(monkeypatch: pytest.MonkeyPatch) -> None:
    blocks = functions._blocks
    monkeypatch.setattr(functions, "_blocks", lambda *tensors: list(blocks(*tensors))[:-1])
    with pytest.raises(AssertionError):
        test_every_layer_equals_plain_autograd("wide", "two-set", pytest.MonkeyPatch())
