"""Autocast, 16-bit weights, torch.compile, torch.export and CUDA: the same function to the precision at hand."""

from __future__ import annotations

import copy
import warnings

import pytest
import torch
from torch import Tensor, nn

from parsinet import spectral
from parsinet.spectral import functions

PLAIN = ["one-set", "one-set-in", "two-set", "svd", "qr", "full", "full-one-set", "unit"]
VARIANTS = [*PLAIN, "two-set masked", "qr masked"]


def network(variant: str) -> tuple[nn.Module, Tensor]:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = nn.Sequential(nn.Conv2d(2, 4, 3, padding=1), nn.Tanh(), nn.Flatten(), nn.Linear(4 * 3 * 5, 6), nn.Tanh(), nn.Linear(6, 3))
        x = torch.randn(4, 2, 3, 5)
    kind, _, masked = variant.partition(" ")
    spectral.spectralize(model, kind)
    return spectral.sparsify(model, 0.3, every=2) if masked else model, x


def offset(model: nn.Module, amount: float) -> nn.Module:
    with torch.no_grad():
        for layer in spectral.spectral_layers(model).values():
            layer.spectrum.lambda_in += amount
            layer.spectrum.lambda_out += amount
    return model


@pytest.mark.parametrize("grad", [True, False])
@pytest.mark.parametrize("variant", PLAIN)
def test_a_common_offset_cancels_under_autocast(variant: str, grad: bool) -> None:
    """λ in bfloat16 would differ by up to 4 at 1000; formed in float32 the difference keeps its third digit."""
    model, x = network(variant)
    with torch.set_grad_enabled(grad), torch.autocast("cpu", torch.bfloat16):
        y = model(x)
        moved = offset(copy.deepcopy(model), 1e3)(x)
    assert y.dtype == torch.bfloat16
    assert float((moved - y).detach().abs().max() / y.detach().abs().max()) < 0.01


def test_the_offset_law_can_fail() -> None:
    """Planted fault: eigenvalues in bfloat16."""
    model, x = network("two-set")
    layer = model[3]
    with torch.no_grad():
        layer.spectrum.lambda_out += 0.3
        y = model(x)
        moved = offset(copy.deepcopy(model), 1e3)
        moved[3].spectrum.bfloat16().float()
        assert float((moved(x) - y).abs().max() / y.abs().max()) > 0.01


@pytest.mark.parametrize("variant", VARIANTS)
def test_training_under_autocast(variant: str) -> None:
    model, x = network(variant)
    reference = copy.deepcopy(model)
    reference(x).square().sum().backward()
    with torch.autocast("cpu", torch.bfloat16):
        loss = model(x).square().sum()
    loss.backward()
    for own, exact in zip(model.parameters(), reference.parameters(), strict=True):
        assert own.grad is not None
        assert own.grad.dtype == torch.float32
        assert float((own.grad - exact.grad).norm() / exact.grad.norm()) < 0.05


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("variant", PLAIN)
def test_eigenvalues_of_16_bit_weights_are_float32(variant: str, dtype: torch.dtype) -> None:
    layer = spectral.spectralize(nn.Linear(6, 4, dtype=dtype), variant)
    trained = [values for values in (layer.spectrum.lambda_in, layer.spectrum.lambda_out) if values.dim()]
    assert {values.dtype for values in trained} == {torch.float32}
    y = layer(torch.randn(3, 6, dtype=dtype))
    y.float().square().sum().backward()
    assert y.dtype == layer.weight.dtype == dtype
    assert all(values.grad is not None and values.grad.dtype == torch.float32 for values in trained)


@pytest.mark.parametrize("variant", VARIANTS)
def test_export_gives_the_same_function(variant: str) -> None:
    model, x = network(variant)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = torch.export.export(model, (x,), strict=False)
    torch.testing.assert_close(program.module()(x), model(x), rtol=1e-5, atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("variant", ["two-set", "one-set", "unit", "two-set masked"])
def test_compiled_equals_eager(variant: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spectral.layers, "BLOCK", 30)
    monkeypatch.setattr(functions, "BLOCK", 60)
    model, x = network(variant)
    twin = copy.deepcopy(model)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        compiled = torch.compile(twin)
        y = compiled(x)
        y.square().sum().backward()
    expected = model(x)
    expected.square().sum().backward()
    torch.testing.assert_close(y, expected, rtol=1e-5, atol=1e-5)
    for own, eager in zip(twin.parameters(), model.parameters(), strict=True):
        torch.testing.assert_close(own.grad, eager.grad, rtol=1e-4, atol=1e-5)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("variant", VARIANTS)
def test_cuda_equals_cpu(variant: str) -> None:
    model, x = network(variant)
    twin = copy.deepcopy(model).double().cuda()
    model, x = model.double(), x.double()
    y, own = model(x), twin(x.cuda())
    y.square().sum().backward()
    own.square().sum().backward()
    torch.testing.assert_close(own.cpu(), y, rtol=1e-10, atol=1e-10)
    for a, b in zip(twin.parameters(), model.parameters(), strict=True):
        torch.testing.assert_close(a.grad.cpu(), b.grad, rtol=1e-10, atol=1e-10)
