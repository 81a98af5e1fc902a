"""Directions: unit rows in the Lp norm, their gradient, the function kept, zero rows, removal of senders."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import parsinet as pn
from parsinet import spectral
from parsinet.errors import UsageError
from parsinet.spectral import directions

EXACT = 1e-12
ORDERS = [1.05, 1.3, 2.0, 3.0]
LAYERS: dict[str, tuple[Callable[[], nn.Module], int]] = {
    "linear": (lambda: nn.Linear(5, 7), 0),
    "conv2d": (lambda: nn.Conv2d(4, 6, (3, 2), groups=2), 0),
    "depthwise": (lambda: nn.Conv1d(4, 4, 3, groups=4), 0),
    "transposed2d": (lambda: nn.ConvTranspose2d(4, 6, 2), 1),
}


def numbers(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def slow_lengths(block: Tensor, p: float, dim: int) -> Tensor:
    return torch.stack([row.abs().pow(p).sum().pow(1 / p) for row in block.unbind(dim)])


@pytest.mark.parametrize("p", ORDERS)
@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize("initialiser", ["keep", "gate", "p3", "p1-older", "spectraltools-1.0"])
def test_eigenvalues_are_the_lengths_of_the_weights(name: str, p: float, initialiser: str) -> None:
    """λ_i = ‖w_i‖_p ≥ 0, rows of φ have length one, and the function is that of the same draw without directions."""
    make, dim = LAYERS[name]
    drawn: dict[str, Any] = {} if initialiser in ("keep", "gate") else {"generator": torch.Generator().manual_seed(0)}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        plain, layer = make().double(), make().double()
    layer.load_state_dict(plain.state_dict())
    expected: Any = spectral.spectralize(plain, "full-one-set", initialiser=initialiser, **drawn).weight
    if drawn:
        drawn["generator"].manual_seed(0)
    unit: Any = spectral.spectralize(layer, "unit", initialiser=initialiser, p=p, **drawn)
    torch.testing.assert_close(unit.weight, expected, rtol=EXACT, atol=EXACT)
    torch.testing.assert_close(slow_lengths(unit.spectrum.basis(), p, dim), torch.ones_like(unit.spectrum.lambda_out), rtol=EXACT, atol=0)
    torch.testing.assert_close(unit.spectrum.lambda_out.detach(), slow_lengths(expected.detach(), p, dim), rtol=EXACT, atol=EXACT)
    assert float(unit.spectrum.lambda_in) == 0.0
    assert torch.equal(spectral.fold(unit).weight, unit.weight)


@pytest.mark.parametrize("p", [10.0, 50.0, 150.0])
def test_high_orders_stay_in_range(p: float) -> None:
    """0.03^50 is no float32, yet the norm of such entries is."""
    layer: Any = nn.Linear(20, 6)
    with torch.no_grad():
        layer.weight.copy_(0.03 * numbers(6, 20))
        layer.weight[2] = 0.0
    weight = layer.weight.detach().clone()
    spectral.spectralize(layer, "unit", p=p)
    torch.testing.assert_close(layer.weight, weight, rtol=1e-5, atol=1e-8)
    expected = slow_lengths(weight.double(), p, 0).float()
    torch.testing.assert_close(layer.spectrum.lambda_out.detach(), expected, rtol=1e-5, atol=1e-8)
    layer(torch.ones(3, 20)).sum().backward()
    assert all(bool(parameter.grad.isfinite().all()) for parameter in layer.parameters())


@pytest.mark.parametrize("p", ORDERS)
@pytest.mark.parametrize(("shape", "dim"), [((4, 3), 0), ((3, 2, 2), 0), ((2, 4, 3), 1)])
def test_gradcheck(shape: tuple[int, ...], dim: int, p: float) -> None:
    scale = numbers(*[size if d == dim else 1 for d, size in enumerate(shape)], seed=1).abs()
    assert torch.autograd.gradcheck(lambda phi: directions.unit_rows(phi, scale, p, dim), numbers(*shape).requires_grad_())


@pytest.mark.parametrize("p", ORDERS)
def test_no_gradient_along_the_row_itself(p: float) -> None:
    phi = numbers(4, 6).requires_grad_()
    directions.unit_rows(phi, torch.ones(4, 1, dtype=torch.float64), p, 0).tanh().pow(2).sum().backward()
    assert phi.grad is not None
    assert float((phi.grad * phi.detach()).sum(1).abs().max()) < 1e-12


def test_the_gradient_law_can_fail() -> None:
    phi = numbers(4, 6).requires_grad_()
    (phi / phi.detach().norm(dim=1, keepdim=True)).tanh().pow(2).sum().backward()
    assert phi.grad is not None
    assert float((phi.grad * phi.detach()).sum(1).abs().max()) > 1e-3


@pytest.mark.parametrize("p", [1.3, 2.0])
def test_a_node_without_weights_has_a_direction_and_can_come_back(p: float) -> None:
    layer: Any = nn.Linear(5, 4, dtype=torch.float64)
    with torch.no_grad():
        layer.weight[1] = 0.0
    spectral.spectralize(layer, "unit", p=p)
    assert float(layer.spectrum.lambda_out.detach()[1]) == 0.0
    assert bool((layer.weight[1] == 0).all())
    torch.testing.assert_close(slow_lengths(layer.spectrum.basis(), p, 0), torch.ones(4, dtype=torch.float64))
    layer(numbers(8, 5)).square().sum().backward()
    assert all(bool(torch.isfinite(parameter.grad).all()) for parameter in layer.parameters())
    assert float(layer.spectrum.lambda_out.grad[1]) != 0.0


def test_a_zero_row_of_directions_stays_finite() -> None:
    layer: Any = spectral.spectralize(nn.Linear(5, 4), "unit")
    with torch.no_grad():
        layer.spectrum.basis.phi[2] = 0.0
    layer(torch.ones(2, 5)).sum().backward()
    assert all(bool(torch.isfinite(parameter.grad).all()) for parameter in layer.parameters())
    assert bool((layer.weight[2] == 0).all())


def test_the_scale_gauge_is_fixed() -> None:
    """φ may be multiplied by anything: neither the function nor the relevance moves, and |λ| is the relevance (p = 2)."""
    layer: Any = spectral.spectralize(nn.Linear(5, 4, dtype=torch.float64), "unit")
    before, score = layer.weight.detach().clone(), spectral.eigenvalue_relevance(layer)
    torch.testing.assert_close(score, spectral.relevance(layer), rtol=EXACT, atol=0)
    with torch.no_grad():
        layer.spectrum.basis.phi *= numbers(4, 1, seed=5).abs() + 0.1
    torch.testing.assert_close(layer.weight, before, rtol=EXACT, atol=0)
    assert torch.equal(spectral.eigenvalue_relevance(layer), score)


@pytest.mark.parametrize("p", [1.3, 2.0])
def test_senders_leave_and_the_rest_of_the_weight_stays(p: float) -> None:
    """Without the buffer `scale` shorter rows would be stretched to length one again."""
    model: Any = nn.Sequential(nn.Linear(4, 9), nn.Tanh(), nn.Linear(9, 3)).double()
    spectral.spectralize(model, "unit", p=p)
    x = numbers(5, 4)
    structure = pn.trace(model, x)
    assert structure.group("0").exact
    kept = torch.tensor([True, False, True] * 3)
    weight = model[2].weight.detach()[:, kept]
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    pn.shrink(model, structure.plan({"0": kept}), optimizers=[optimizer])
    torch.testing.assert_close(model[2].weight, weight, rtol=EXACT, atol=EXACT)
    torch.testing.assert_close(spectral.eigenvalue_relevance(model[2]), slow_lengths(weight, p, 0), rtol=EXACT, atol=0)
    assert bool((model[2].spectrum.basis.scale < 1).all())
    model(x).square().sum().backward()
    optimizer.step()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_16_bit_directions(dtype: torch.dtype) -> None:
    layer: Any = spectral.spectralize(nn.Linear(300, 4, dtype=dtype), "unit", p=1.3)
    y = layer(torch.ones(2, 300, dtype=dtype))
    y.float().sum().backward()
    assert y.dtype == layer.weight.dtype == layer.spectrum.basis.phi.grad.dtype == dtype
    assert layer.spectrum.lambda_out.dtype == torch.float32
    assert bool(torch.isfinite(y).all())


@pytest.mark.parametrize("p", [1.3, 2.0])
def test_the_exported_graph_has_the_same_norm(p: float) -> None:
    layer = spectral.spectralize(nn.Linear(5, 4, dtype=torch.float64), "unit", p=p)
    x = numbers(3, 5)
    with torch.no_grad():
        torch.testing.assert_close(torch.export.export(layer, (x,), strict=False).module()(x), layer(x), rtol=EXACT, atol=EXACT)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"variant": "unit", "p": 1.0}, "p must be > 1 and finite"),
        ({"variant": "unit", "p": float("inf")}, "p must be > 1 and finite"),
        ({"variant": "unit", "p": "2"}, "p must be > 1 and finite"),
        ({"variant": "full", "p": 1.3}, "variant 'full' has none, leave p out"),
        ({"variant": "unit", "initialiser": "p2-qr", "generator": torch.Generator()}, "draws λ_in, which variant 'unit' holds"),
    ],
)
def test_refusals(options: dict[str, Any], words: str) -> None:
    with pytest.raises(UsageError) as caught:
        spectral.spectralize(nn.Linear(3, 3), **options)
    assert words in str(caught.value)


def test_a_grouped_transposed_convolution_is_refused() -> None:
    model = nn.Sequential(nn.ConvTranspose1d(4, 4, 2, groups=2))
    with pytest.raises(UsageError, match="0 is a grouped transposed convolution"):
        spectral.spectralize(model, "unit")
    assert type(model[0]) is nn.ConvTranspose1d
