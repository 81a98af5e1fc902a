"""Eigenvalues first, then all: what trains, one optimizer for both, and no gradient of the weight meanwhile."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from parsinet import spectral

WITH_A_BASIS = ["svd", "qr", "qr-full", "full", "full-one-set", "unit"]


def network(variant: str) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = nn.Sequential(nn.Conv1d(2, 5, 3), nn.Tanh(), nn.Flatten(), nn.Linear(20, 3)).double()
    return spectral.spectralize(model, variant)


X = torch.randn(4, 2, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("variant", WITH_A_BASIS)
def test_one_optimizer_serves_both_phases(variant: str) -> None:
    model = network(variant)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.1, weight_decay=0.1)
    basis = {id(parameter) for parameter in spectral.basis_parameters(model)}
    assert basis
    for freeze, moves in ((spectral.freeze_basis, False), (spectral.train_basis, True)):
        freeze(model)
        before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
        for _ in range(2):
            optimizer.zero_grad()
            model(X).square().sum().backward()
            optimizer.step()
        for name, parameter in model.named_parameters():
            assert torch.equal(parameter, before[name]) == (id(parameter) in basis and not moves)


def test_gradients_from_before_are_not_applied() -> None:
    model = network("full")
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    model(X).square().sum().backward()
    spectral.freeze_basis(model)
    before = [parameter.detach().clone() for parameter in spectral.basis_parameters(model)]
    optimizer.step()
    assert all(torch.equal(a, b) for a, b in zip(spectral.basis_parameters(model), before, strict=True))


@pytest.mark.parametrize("variant", ["one-set", "one-set-in", "two-set", "svd-gaussian"])
def test_frozen_blocks_have_nothing_to_freeze(variant: str) -> None:
    model = nn.Linear(4, 3)
    drawn: dict[str, Any] = {"initialiser": "p2-svd", "generator": torch.Generator()} if variant == "svd-gaussian" else {}
    spectral.spectralize(model, variant, **drawn)
    assert bool(spectral.basis_parameters(model)) == (variant == "svd-gaussian")
    spectral.freeze_basis(model)
    assert model.spectrum.lambda_out.requires_grad or variant == "one-set-in"
    assert model.bias.requires_grad


@pytest.mark.parametrize("variant", ["full-one-set", "unit"])
@pytest.mark.parametrize("layer", [nn.Linear(6, 5), nn.Conv2d(6, 4, 2, groups=2)], ids=["linear", "conv"])
def test_gradients_are_those_of_the_composed_form(variant: str, layer: nn.Module) -> None:
    own: Any = spectral.spectralize(nn.Sequential(layer).double(), variant)[0]
    x = torch.randn(3, 6, *([4, 3] if isinstance(layer, nn.Conv2d) else []), dtype=torch.float64, requires_grad=True)
    leaves = [x, own.spectrum.lambda_out, own.bias]
    composed = torch.autograd.grad(own(x).tanh().sum(), leaves)
    spectral.freeze_basis(own)
    for gated, plain in zip(torch.autograd.grad(own(x).tanh().sum(), leaves), composed, strict=True):
        torch.testing.assert_close(gated, plain, rtol=1e-11, atol=1e-12)
    spectral.fold(own)


class Products(TorchDispatchMode):
    """Counts matrix products by the size of their result."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.size, self.found = size, 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if any(word in str(func) for word in ("mm", "matmul", "linear")):
            self.found += sum(isinstance(leaf, Tensor) and leaf.numel() == self.size for leaf in tree_leaves(result))
        return result


@pytest.mark.parametrize("variant", ["full-one-set", "unit"])
def test_no_gradient_of_the_weight_while_the_basis_is_frozen(variant: str) -> None:
    layer = spectral.spectralize(nn.Linear(20, 30), variant)
    counts = []
    for change in (spectral.train_basis, spectral.freeze_basis):
        change(layer)
        with Products(20 * 30) as products:
            layer(torch.randn(7, 20)).sum().backward()
        counts.append(products.found)
    assert counts == [1, 0]
