"""Variants: what trains and how many, what stays frozen, the decompositions, the named initialisers."""

from __future__ import annotations

import copy
import io
import itertools
import math
import pickle
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from parsinet import spectral


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def mlp(*widths: int, bias: bool = True) -> nn.Sequential:
    return nn.Sequential(*(nn.Linear(a, b, bias=bias) for a, b in itertools.pairwise(widths)))


def spectralize(model: nn.Module, variant: str) -> nn.Module:
    """By the layer's own weights, or drawn where only drawn factors will do."""
    if variant == "svd-gaussian":
        return spectral.spectralize(model, variant, initialiser="p2-svd", generator=generator())
    return spectral.spectralize(model, variant)


TOTALS = {
    (784, 100, 100, 10): (420, 1_404, 1_614, 11_559, 21_504, 90_804),
    (784, 300, 10): (620, 1_704, 2_014, 46_909, 91_804, 239_904),
    (784, 500, 500, 10): (2_020, 3_804, 4_814, 254_359, 503_904, 650_804),
}
"""Trained numbers with biases: one-set, two-set, svd, qr, qr-full, full."""


@pytest.mark.parametrize("widths", TOTALS, ids=str)
@pytest.mark.parametrize("column", range(6), ids=["one-set", "two-set", "svd", "qr", "qr-full", "full"])
def test_totals_of_the_table(widths: tuple[int, ...], column: int) -> None:
    variant = ["one-set", "two-set", "svd-gaussian", "qr", "qr-full", "full"][column]
    assert spectral.trained_parameters(spectralize(mlp(*widths), variant)) == TOTALS[widths][column]


def test_the_perceptron_has_794() -> None:
    assert spectral.trained_parameters(spectralize(mlp(784, 10, bias=False), "two-set")) == 794


FORMULAS: dict[str, Callable[[int, int, int], int]] = {
    "one-set": lambda n_in, n_out, k: n_out,
    "one-set-in": lambda n_in, n_out, k: n_in,
    "two-set": lambda n_in, n_out, k: n_in + n_out,
    "svd": lambda n_in, n_out, k: n_in + n_out + k,
    "svd-gaussian": lambda n_in, n_out, k: n_in + n_out + k,
    "qr": lambda n_in, n_out, k: n_in + n_out + k * (k + 1) // 2 + max(n_out - k, 0) * k,
    "qr-full": lambda n_in, n_out, k: n_in + n_out + n_out * k,
    "full": lambda n_in, n_out, k: n_in * n_out + n_in + n_out,
    "full-one-set": lambda n_in, n_out, k: n_in * n_out + n_out,
    "unit": lambda n_in, n_out, k: n_in * n_out + n_out,
}


@pytest.mark.parametrize("nodes", [(5, 9), (6, 6), (9, 4)])
@pytest.mark.parametrize("variant", spectral.VARIANTS)
def test_counts_equal_the_formulas(variant: str, nodes: tuple[int, int]) -> None:
    layer = spectralize(nn.Linear(*nodes, bias=False), variant)
    assert spectral.trained_parameters(layer) == FORMULAS[variant](*nodes, min(nodes))


@pytest.mark.parametrize("variant", spectral.VARIANTS)
def test_frozen_tensors_are_buffers_and_stay(variant: str) -> None:
    model = spectralize(nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 3)), variant)
    frozen = {name: value.clone() for name, value in model.named_buffers()}
    assert frozen.keys() <= model.state_dict().keys()
    train(model, torch.optim.AdamW(model.parameters(), lr=0.05, weight_decay=0.1), 20)
    assert all(torch.equal(value, frozen[name]) for name, value in model.named_buffers())
    assert (variant == "full") == (not frozen)


@pytest.mark.parametrize("variant", spectral.VARIANTS)
def test_one_node_has_eigenvalues_laid_out_like_any_other(variant: str) -> None:
    """A stride of 0 would make autograd warn in layers with one output."""
    for nodes in ((5, 1), (1, 5)):
        assert all(0 not in parameter.stride() for parameter in spectralize(nn.Linear(*nodes), variant).parameters())


def train(model: nn.Module, optimizer: torch.optim.Optimizer, steps: int) -> None:
    x, target = torch.randn(16, 6, generator=generator(1)), torch.randn(16, 3, generator=generator(2))
    for _ in range(steps):
        optimizer.zero_grad()
        (model(x) - target).square().mean().backward()
        optimizer.step()


@pytest.mark.parametrize("variant", spectral.VARIANTS)
def test_optimizer_state_has_the_size_of_what_trains(variant: str) -> None:
    model = spectralize(nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 3)), variant)
    optimizer = torch.optim.Adam(model.parameters())
    train(model, optimizer, 1)
    moments = sum(value.numel() for state in optimizer.state.values() for value in state.values() if value.dim())
    assert moments == 2 * sum(parameter.numel() for parameter in model.parameters())


OPTIMIZERS: dict[str, Callable[[Any], torch.optim.Optimizer]] = {
    "adam": lambda p: torch.optim.Adam(p, lr=0.01),
    "adamw": lambda p: torch.optim.AdamW(p, lr=0.01, weight_decay=0.1),
    "sgd": lambda p: torch.optim.SGD(p, lr=0.01, momentum=0.9, weight_decay=1e-3),
}


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_the_triangle_stays_a_triangle(optimizer: str) -> None:
    """The published code trains all of R under the count of a triangle."""
    model = spectralize(nn.Sequential(nn.Linear(6, 8), nn.Linear(8, 3)), "qr")
    before = [layer.spectrum.basis.R.detach().clone() for layer in model]
    train(model, OPTIMIZERS[optimizer](model.parameters()), 20)
    for layer, old in zip(model, before, strict=True):
        basis = layer.spectrum.basis
        assert torch.equal(basis.R[~basis.free], torch.zeros(int((~basis.free).sum())))
        assert not torch.equal(basis.R, old)


def test_a_full_r_fills() -> None:
    model = spectralize(nn.Sequential(nn.Linear(6, 8), nn.Linear(8, 3)), "qr-full")
    train(model, torch.optim.Adam(model.parameters(), lr=0.01), 1)
    for layer in model:
        upper = torch.ones_like(layer.spectrum.basis.R, dtype=torch.bool).triu(1)
        assert bool((layer.spectrum.basis.R[upper] != 0).all())


@pytest.mark.parametrize("nodes", [(5, 9), (6, 6), (9, 4)])
def test_qr_is_a_decomposition_of_the_weight(nodes: tuple[int, int]) -> None:
    layer = nn.Linear(*nodes, dtype=torch.float64)
    base = layer.weight.detach().clone()
    basis: Any = spectralize(layer, "qr").spectrum.basis
    torch.testing.assert_close(basis.Q @ basis.Q.t(), torch.eye(min(nodes), dtype=torch.float64), rtol=0, atol=1e-12)
    torch.testing.assert_close(basis.R @ basis.Q, base, rtol=0, atol=1e-12)
    assert basis.R.shape == (nodes[1], min(nodes))


def test_qr_stays_in_the_row_space_of_the_base() -> None:
    layer = nn.Linear(6, 3, dtype=torch.float64)
    base = layer.weight.detach().clone()
    spectralize(layer, "qr-full")
    basis: Any = layer.spectrum.basis
    with torch.no_grad():
        basis.R.copy_(torch.randn(3, 3, dtype=torch.float64, generator=generator()))
    assert int(torch.linalg.matrix_rank(torch.cat([base, basis()]))) == 3


def test_a_full_r_represents_any_weight() -> None:
    layer = nn.Linear(4, 7, dtype=torch.float64)
    target = torch.randn(7, 4, dtype=torch.float64, generator=generator())
    spectralize(layer, "qr-full")
    basis: Any = layer.spectrum.basis
    with torch.no_grad():
        basis.R.copy_(target @ basis.Q.t())
    torch.testing.assert_close(layer.weight, target, rtol=0, atol=1e-12)


@pytest.mark.parametrize("nodes", [(5, 9), (6, 6), (9, 4)])
def test_svd_factors_are_orthonormal(nodes: tuple[int, int]) -> None:
    """The published code draws Gaussian factors under this name."""
    layer = nn.Linear(*nodes, dtype=torch.float64)
    base = layer.weight.detach().clone()
    basis: Any = spectralize(layer, "svd").spectrum.basis
    eye = torch.eye(min(nodes), dtype=torch.float64)
    torch.testing.assert_close(basis.U.t() @ basis.U, eye, rtol=0, atol=1e-12)
    torch.testing.assert_close(basis.V @ basis.V.t(), eye, rtol=0, atol=1e-12)
    torch.testing.assert_close(basis(), base, rtol=0, atol=1e-12)


def test_gaussian_factors_have_the_published_spread() -> None:
    basis: Any = spectralize(nn.Linear(300, 200), "svd-gaussian").spectrum.basis
    for factor in (basis.U, basis.V):
        assert float(factor.std()) == pytest.approx(0.04, rel=0.05)
    assert 0.0 <= float(basis.s.detach().min()) < 0.1
    assert 2.9 < float(basis.s.detach().max()) <= 3.0


RANGES = {
    "glorot": (math.sqrt(6 / 120), 1.0, 0.0),
    "p1-older": (0.2, 1.0, (0.5, 1.5)),
    "p3": (0.2, 0.0, (-0.5, 0.5)),
    "spectral-learning": (math.sqrt(6 / 120), (-0.5, 0.5), (-0.5, 0.5)),
    "spectral-learning-small": (0.02, (-0.5, 0.5), (-0.5, 0.5)),
    "p2-qr": (None, (-0.97, 0.97), (-0.13, 0.13)),
    "p2-sparse-qr": (None, 1.0, 0.0),
    "p2-spectral": (None, (-0.97, 0.97), (-0.13, 0.13)),
    "p2-svd": (None, 0.0, 1.0),
    "spectraltools-0.2": (math.sqrt(6 / 120), 0.0, (-math.sqrt(6 / 51), math.sqrt(6 / 51))),
    "spectraltools-1.0": (math.sqrt(6 / 120), 0.0, 1.0),
    "hyperspectral": (math.sqrt(6 / 120), (-1.0, 1.0), (-1.0, 1.0)),
}
"""Bound of |φ| (None: normal), and constant or range of λ_in and λ_out, at 70 senders and 50 receivers."""


@pytest.mark.parametrize("name", spectral.INITIALISERS)
def test_initialisers_draw_what_the_table_says(name: str) -> None:
    layer = nn.Linear(70, 50)
    spectral.spectralize(layer, "two-set", initialiser=name, generator=generator())
    bound, *sets = RANGES[name]
    own: Any = layer.spectrum
    if bound is None:
        std, tolerance = (0.036, 0.06) if name.endswith("qr") else (math.sqrt(3 * 50) * 0.0016, 0.2)  # 50 draws of s² vary by 13 %
        assert float(own.basis.phi.std()) == pytest.approx(std, rel=tolerance)
    else:
        assert 0.97 * bound < float(own.basis.phi.abs().max()) <= bound
    for values, expected in zip((own.lambda_in, own.lambda_out), sets, strict=True):
        if isinstance(expected, float):
            assert torch.equal(values, torch.full_like(values, expected))
        else:
            low, high = expected
            reach = 0.15 * (high - low)
            assert low <= float(values.detach().min()) < low + reach
            assert high - reach < float(values.detach().max()) <= high
    assert bool((layer.bias == 0).all()) == (name != "hyperspectral")


def test_initial_weights_of_the_presets() -> None:
    for name, sign in (("p2-sparse-qr", 1), ("spectraltools-1.0", -1), ("glorot", 1)):
        layer: Any = spectral.spectralize(nn.Linear(7, 5), initialiser=name, generator=generator())
        assert torch.equal(layer.weight, sign * layer.spectrum.basis.phi)


def test_draws_repeat_and_leave_the_global_stream_alone() -> None:
    state = torch.get_rng_state()
    one, two = (spectral.spectralize(mlp_zeros(), initialiser="p2-qr", generator=generator(3)) for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(one.state_dict().values(), two.state_dict().values(), strict=True))
    assert torch.equal(torch.get_rng_state(), state)


def mlp_zeros() -> nn.Module:
    layer = nn.utils.skip_init(nn.Linear, 4, 3)
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)
    return layer


@pytest.mark.parametrize("variant", spectral.VARIANTS)
def test_round_trips(variant: str) -> None:
    model = nn.Sequential(nn.Conv2d(2, 4, 3), nn.Flatten(), nn.Linear(4 * 2 * 3, 3))
    spectralize(model, variant)
    x = torch.randn(2, 2, 4, 5, generator=generator())
    loaded = nn.Sequential(nn.Conv2d(2, 4, 3), nn.Flatten(), nn.Linear(4 * 2 * 3, 3))
    spectralize(loaded, variant).load_state_dict(model.state_dict())
    through = io.BytesIO()
    torch.save(model, through)
    through.seek(0)
    twins = [loaded, copy.deepcopy(model), pickle.loads(pickle.dumps(model)), torch.load(through, weights_only=False)]
    assert all(torch.equal(twin(x), model(x)) for twin in twins)
    assert all(list(twin.state_dict()) == list(model.state_dict()) for twin in twins)


def test_float64_moves_everything() -> None:
    model = spectralize(nn.Linear(4, 3), "qr").double()
    tensors: list[Tensor] = [*model.parameters(), *(buffer for buffer in model.buffers() if buffer.is_floating_point())]
    assert {tensor.dtype for tensor in tensors} == {torch.float64}
    assert model(torch.ones(2, 4, dtype=torch.float64)).dtype == torch.float64
