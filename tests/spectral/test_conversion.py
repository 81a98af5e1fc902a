"""Conversion and folding: bitwise there and back, the layer's identity, refusals in words that change nothing."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd
from torch.nn.modules.linear import NonDynamicallyQuantizableLinear
from torch.nn.utils import parametrizations, parametrize, prune

from networks import NETWORKS, call, flat, make
from parsinet import spectral
from parsinet.errors import ArgumentTypeError, ParsinetError, UsageError

EXACT_VARIANTS = ["one-set", "one-set-in", "two-set", "full", "full-one-set"]
NETS = ["mlp", "lenet-5-caffe", "resnet-20", "tiny-vit", "grouped-query", "branches", "gated", "cells", "volumes", "unet"]


def generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("initialiser", ["keep", "gate"])
@pytest.mark.parametrize("variant", EXACT_VARIANTS)
def test_the_composed_weight_is_the_weight_bitwise(variant: str, initialiser: str, dtype: torch.dtype) -> None:
    for layer in (nn.Linear(5, 7), nn.Conv2d(4, 6, 3, groups=2), nn.ConvTranspose1d(4, 6, 3, groups=2)):
        layer.to(dtype)
        before = layer.weight.detach().clone()
        spectral.spectralize(layer, variant, initialiser=initialiser)
        assert layer.weight.dtype == dtype
        assert torch.equal(layer.weight, before)
        assert torch.equal(spectral.fold(layer).weight, before)


@pytest.mark.parametrize("variant", [*EXACT_VARIANTS, "svd", "qr", "qr-full", "unit"])
@pytest.mark.parametrize("name", NETS)
def test_the_function_is_kept(name: str, variant: str) -> None:
    if (name, variant) == ("volumes", "unit"):
        pytest.skip("directions of grouped transposed convolutions are refused")
    model, x = make(name)
    model = model.eval()
    with torch.no_grad():
        before = flat(call(model, x))
        names, text = list(model.state_dict()), repr(model)
        after = flat(call(spectral.spectralize(model, variant), x))
        assert repr(model) != text
        if variant in EXACT_VARIANTS:
            assert torch.equal(after, before)
        torch.testing.assert_close(after, before, rtol=1e-3, atol=1e-3)
        spectral.fold(model)
        assert torch.equal(flat(call(model, x)), after)
    assert list(model.state_dict()) == names
    assert repr(model) == text


def test_every_kind_of_layer_has_a_form() -> None:
    """Every linear and convolutional kind of the table of networks, but for the subclass attention reads the weight of by itself."""
    kinds = {type(module) for name in NETWORKS for module in make(name)[0].modules()}
    linear = {kind for kind in kinds if issubclass(kind, (nn.Linear, _ConvNd)) and not kind.__name__.startswith("Parametrized")}
    assert linear - set(spectral.LAYERS) == {NonDynamicallyQuantizableLinear}


@pytest.mark.parametrize("variant", spectral.VARIANTS)
def test_the_fold_is_the_composed_weight_and_the_old_layer(variant: str) -> None:
    layer = nn.Conv2d(4, 6, (3, 2), stride=2, padding=1, groups=2, padding_mode="reflect").eval()
    calls: list[int] = []
    layer.register_forward_hook(lambda *_: calls.append(1))
    identity, bias, attributes = id(layer), layer.bias, set(layer.__dict__)
    spectral.spectralize(layer, variant, initialiser="p2-svd" if variant == "svd-gaussian" else "glorot", generator=generator())
    assert isinstance(layer, nn.Conv2d)
    with torch.no_grad():
        for parameter in layer.spectrum.parameters():
            parameter += 0.1
    composed = layer.weight.detach().clone()
    assert spectral.fold(layer) is layer
    assert (type(layer), id(layer), layer.bias is bias, layer.training) == (nn.Conv2d, identity, True, False)
    assert set(layer.__dict__) == attributes
    assert torch.equal(layer.weight, composed)
    assert [name for name, _ in layer.named_parameters()] == ["weight", "bias"]
    layer(torch.randn(1, 4, 7, 5))
    assert calls == [1]


def test_a_frozen_weight_is_frozen_again() -> None:
    layer = nn.Linear(3, 2)
    layer.weight.requires_grad_(False)
    spectral.spectralize(layer)
    assert layer.spectrum.lambda_in.requires_grad
    assert not spectral.fold(layer).weight.requires_grad
    assert spectral.fold(spectral.spectralize(nn.Linear(3, 2))).weight.requires_grad


@pytest.mark.parametrize("variant", ["full", "full-one-set"])
def test_a_trained_block_is_the_layers_own_parameter(variant: str) -> None:
    layer = nn.Linear(3, 2)
    weight = layer.weight
    assert spectral.spectralize(layer, variant).spectrum.basis.phi is weight


def test_only_the_named_layers() -> None:
    model = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 4), nn.Linear(4, 2))
    spectral.spectralize(model, layers=["0", model[2]])
    assert list(spectral.spectral_layers(model)) == ["0", "2"]
    assert type(model[1]) is nn.Linear


def test_a_module_called_twice_is_converted_once() -> None:
    shared = nn.Linear(4, 4)
    model = nn.Sequential(shared, nn.Tanh(), shared)
    x = torch.randn(2, 4)
    before = model(x)
    spectral.spectralize(model)
    assert model[0] is model[2]
    assert list(spectral.spectral_layers(model)) == ["0"]
    with torch.no_grad():
        assert torch.equal(model(x), before)


def test_the_bias_is_never_scaled() -> None:
    for variant in EXACT_VARIANTS:
        layer = spectral.spectralize(nn.Conv2d(3, 4, 2), variant)
        with torch.no_grad():
            (layer.spectrum.lambda_out if layer.spectrum.lambda_out.dim() else layer.spectrum.lambda_in).copy_(torch.tensor(0.0))
            layer.spectrum.basis.phi.zero_()
        assert torch.equal(layer(torch.randn(2, 3, 4, 6)), layer.bias[None, :, None, None].expand(2, 4, 3, 5))


@pytest.mark.parametrize("variant", ["one-set", "two-set"])
def test_a_gate_stands_on_the_channels(variant: str) -> None:
    """A published port multiplies along the width of the image instead."""
    layer = nn.Conv2d(3, 8, 1, bias=False)
    x = torch.randn(2, 3, 5, 8)
    y = layer(x)
    spectral.spectralize(layer, variant)
    with torch.no_grad():
        layer.spectrum.lambda_out[2] = 1.0
    z = layer(x)
    assert bool((z[:, 2] == 0).all())
    others = [channel for channel in range(8) if channel != 2]
    torch.testing.assert_close(z[:, others], y[:, others])
    assert spectral.spectralize(nn.Conv2d(3, 6, 1), variant)(x).shape == (2, 6, 5, 8)


@pytest.mark.parametrize("act", [torch.relu, torch.tanh, nn.functional.elu])
def test_a_node_of_eigenvalue_zero_is_dead(act: Callable[[Tensor], Tensor]) -> None:
    model = nn.Sequential(nn.Linear(4, 6, bias=False), nn.Linear(6, 3)).double()
    spectral.spectralize(model, "one-set", initialiser="p3", generator=generator())
    with torch.no_grad():
        model[0].spectrum.lambda_out[[1, 4]] = 0.0
    x = torch.randn(5, 4, dtype=torch.float64)
    hidden = act(model[0](x))
    keep = [0, 2, 3, 5]
    assert bool((hidden[:, [1, 4]] == 0).all())
    small = nn.functional.linear(hidden[:, keep], model[1].weight[:, keep], model[1].bias)
    torch.testing.assert_close(model[1](hidden), small, rtol=0, atol=1e-12)


@pytest.mark.parametrize("groups", [1, 2, 4])
def test_a_convolution_is_the_map_unrolled(groups: int) -> None:
    """One spectral Linear over (channel, position) pairs with eigenvalues shared across positions; H ≠ W ≠ C."""
    conv = nn.Conv2d(4, 8, (3, 2), stride=(2, 1), padding=1, groups=groups, bias=False, dtype=torch.float64)
    spectral.spectralize(conv, initialiser="spectral-learning", generator=generator())
    shape = (4, 5, 3)
    own: Any = conv.spectrum
    eye = torch.eye(4 * 5 * 3, dtype=torch.float64).reshape(-1, *shape)
    with torch.no_grad():
        out = torch.conv2d(eye, own.basis.phi, None, (2, 1), 1, 1, groups)
        unrolled = nn.Linear(60, out[0].numel(), bias=False, dtype=torch.float64)
        unrolled.weight.copy_(out.flatten(1).t())
        spectral.spectralize(unrolled)
        unrolled.spectrum.lambda_in.copy_(own.lambda_in.repeat_interleave(15))
        unrolled.spectrum.lambda_out.copy_(own.lambda_out.repeat_interleave(out[0, 0].numel()))
    x = torch.randn(3, *shape, dtype=torch.float64)
    torch.testing.assert_close(conv(x).flatten(1), unrolled(x.flatten(1)), rtol=1e-12, atol=1e-12)


def tied() -> nn.Module:
    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
    model[1].weight = model[0].weight
    return model


def plain() -> nn.Module:
    return nn.Sequential(nn.Linear(4, 4), nn.Tanh())


DRAW: dict[str, Any] = {"generator": torch.Generator()}
REFUSED: dict[str, tuple[Callable[[], Any], dict[str, Any], str]] = {
    "variant": (plain, {"variant": "two-sets"}, "Did you mean 'two-set'?"),
    "variant kind": (plain, {"variant": None}, "unknown variant None"),
    "initialiser": (plain, {"initialiser": "p2_qr", **DRAW}, "Did you mean 'p2-qr'?"),
    "first row of the table": (plain, {"initialiser": "p1", **DRAW}, "unknown initialiser 'p1'"),
    "no generator": (plain, {"initialiser": "glorot"}, "needs generator="),
    "seed for generator": (plain, {"initialiser": "glorot", "generator": 3}, "needs generator="),
    "generator for nothing": (plain, DRAW, "draws nothing"),
    "kept Gaussian factors": (plain, {"variant": "svd-gaussian"}, "does not draw. Use initialiser='p2-svd'"),
    "drawn constant set": (plain, {"variant": "one-set", "initialiser": "p2-qr", **DRAW}, "draws λ_in, which variant 'one-set' holds"),
    "drawn constant set in": (plain, {"variant": "one-set-in", "initialiser": "p3", **DRAW}, "draws λ_out"),
    "tied": (tied, {}, "0.weight, 1.weight are one tied tensor"),
    "tied, one named": (tied, {"layers": ["1"]}, "one tied tensor"),
    "twice": (lambda: spectral.spectralize(plain()), {}, "0 is spectral already; fold"),
    "parametrized": (lambda: nn.Sequential(parametrizations.spectral_norm(nn.Linear(3, 3))), {"layers": ["0"]}, "parametrized already"),
    "pruned": (lambda: prune.random_unstructured(nn.Linear(3, 3), "weight", 0.5), {}, "computed by a hook"),
    "another kind": (plain, {"layers": ["1"]}, "1 is a Tanh; spectral forms exist for Linear, Conv1d"),
    "strange module": (plain, {"layers": [nn.Linear(2, 2)]}, "not part of the model"),
    "strange name": (plain, {"layers": ["9"]}, "which the model does not have"),
    "one name": (plain, {"layers": "0"}, "write layers=[…]"),
    "no layer": (lambda: nn.Tanh(), {}, "has no Linear, Conv or ConvTranspose layer."),
    "all parametrized": (
        lambda: nn.Sequential(parametrizations.weight_norm(nn.Linear(3, 4))),
        {},
        "layer that is not parametrized; remove_parametrizations from 0",
    ),
    "complex": (lambda: nn.Linear(2, 2, dtype=torch.complex64), {}, "real floating-point weights"),
    "tied embedding": (lambda: make("char-gpt")[0], {}, "are one tied tensor"),
    "own kind": (lambda: nn.Sequential(type("Own", (nn.Linear,), {})(2, 2)), {"layers": ["0"]}, "0 is a Own; spectral forms exist for"),
    "no module": (lambda: [nn.Linear(2, 2)], {}, "expected an nn.Module, got list"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refusals_are_in_words_and_change_nothing(case: str) -> None:
    make_model, options, words = REFUSED[case]
    model = make_model()
    before = copy.deepcopy(model.state_dict()) if isinstance(model, nn.Module) else {}
    with pytest.raises(ParsinetError) as caught:
        spectral.spectralize(model, **options)
    assert words in str(caught.value)
    assert isinstance(caught.value, ArgumentTypeError if case == "no module" else UsageError)
    if before:
        assert list(model.state_dict()) == list(before)
        assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_the_refusal_of_one_layer_converts_none() -> None:
    model = nn.Sequential(nn.Linear(3, 3), tied())
    with pytest.raises(UsageError):
        spectral.spectralize(model)
    assert spectral.spectral_layers(model) == {}


@pytest.mark.parametrize("fault", ["one eigenvalue", "one vector"])
def test_the_bitwise_check_can_fail(fault: str) -> None:
    layer = nn.Linear(4, 3)
    before = layer.weight.detach().clone()
    spectral.spectralize(layer)
    with torch.no_grad():
        tensor = layer.spectrum.lambda_in if fault == "one eigenvalue" else layer.spectrum.basis.phi[0]
        tensor[0] = torch.nextafter(tensor[0], torch.tensor(2.0)) + (1e-6 if fault == "one eigenvalue" else 0)
    assert not torch.equal(spectral.fold(layer).weight, before)


def test_what_stands_on_top_must_leave_first() -> None:
    layer = spectral.spectralize(nn.Linear(3, 3))
    parametrize.register_parametrization(layer, "bias", nn.Tanh())
    with pytest.raises(UsageError, match="remove_parametrizations from it first"):
        spectral.fold(layer)
    parametrize.remove_parametrizations(layer, "bias")
    assert type(spectral.fold(layer)) is nn.Linear
