"""The transfer operator: its blocks, its inverse, the chain that runs the network; relevance."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from parsinet import spectral
from parsinet.errors import ArgumentTypeError, UsageError

NODES = [(5, 3), (4, 4), (3, 6)]
CLOSE = {"rtol": 0.0, "atol": 1e-12}


def layer(n_in: int, n_out: int, variant: str = "two-set", initialiser: str = "spectral-learning") -> nn.Module:
    plain = nn.Linear(n_in, n_out, dtype=torch.float64)
    return spectral.spectralize(plain, variant, initialiser=initialiser, generator=torch.Generator().manual_seed(n_in))


@pytest.mark.parametrize("nodes", NODES)
@pytest.mark.parametrize("variant", ["one-set", "two-set", "qr", "svd", "full"])
def test_blocks_of_the_operator(nodes: tuple[int, int], variant: str) -> None:
    own = layer(*nodes, variant, "p3" if variant == "one-set" else "spectral-learning")
    operator = spectral.transfer_operator(own)
    n_in, n_out = nodes
    lambda_in, lambda_out = own.spectrum.lambda_in.detach().expand(n_in), own.spectrum.lambda_out.detach().expand(n_out)
    expected = torch.zeros(n_in + n_out, n_in + n_out, dtype=torch.float64)
    expected[:n_in, :n_in], expected[n_in:, n_in:] = torch.diag(lambda_in), torch.diag(lambda_out)
    expected[n_in:, :n_in] = own.weight.detach()
    torch.testing.assert_close(operator.matrix, expected, **CLOSE)
    eye = torch.eye(n_in + n_out, dtype=torch.float64)
    torch.testing.assert_close(operator.eigenvectors @ operator.inverse, eye, **CLOSE)
    torch.testing.assert_close(operator.inverse, 2 * eye - operator.eigenvectors, **CLOSE)
    torch.testing.assert_close(operator.matrix @ operator.eigenvectors, operator.eigenvectors * operator.eigenvalues, **CLOSE)
    assert not operator.matrix.requires_grad


@pytest.mark.parametrize("act", [torch.tanh, lambda n: n], ids=["tanh", "linear"])
def test_a_chain_of_operators_runs_the_network(act) -> None:  # type: ignore[no-untyped-def]
    layers = [layer(5, 7), layer(7, 4), layer(4, 3)]
    operators = spectral.transfer_operators(layers)
    x = torch.randn(6, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    state = torch.cat([x, torch.zeros(6, 14, dtype=torch.float64)], 1)
    for own, operator in zip(layers, operators, strict=True):
        x = act(nn.functional.linear(x, own.weight))
        state = state @ operator.matrix.t()
        state[:, operator.receivers] = act(state[:, operator.receivers])
        torch.testing.assert_close(state[:, operator.receivers], x, **CLOSE)


def test_the_published_chain_has_ones_elsewhere() -> None:
    operators = spectral.transfer_operators([layer(5, 7, initialiser="p1-older"), layer(7, 4, initialiser="p1-older")])
    for operator in operators:
        rest = torch.ones(16, dtype=torch.bool)
        rest[operator.receivers] = False
        assert bool((operator.eigenvalues[rest] == 1).all())


def test_refusals() -> None:
    with pytest.raises(ArgumentTypeError, match="Call spectralize first"):
        spectral.transfer_operator(nn.Linear(3, 2))
    with pytest.raises(ArgumentTypeError, match="got SpectralConv1d"):
        spectral.transfer_operator(spectral.spectralize(nn.Conv1d(3, 2, 1)))
    with pytest.raises(UsageError, match="at least one"):
        spectral.transfer_operators([])
    with pytest.raises(UsageError, match="3 outputs is followed by one that reads 4"):
        spectral.transfer_operators([layer(5, 3), layer(4, 2)])
    with pytest.raises(ArgumentTypeError, match="relevance: expected a spectral layer"):
        spectral.relevance(nn.Linear(3, 2))
    with pytest.raises(UsageError, match="'receivers' or 'senders'"):
        spectral.relevance(layer(3, 2), "inputs")
    with pytest.raises(UsageError, match=r"both sets .* train"):
        spectral.eigenvalue_relevance(layer(3, 2))


def test_relevance_is_the_norm_of_the_composed_weights() -> None:
    own = layer(5, 4)
    torch.testing.assert_close(spectral.relevance(own), own.weight.detach().norm(dim=1), **CLOSE)
    torch.testing.assert_close(spectral.relevance(own, "senders"), own.weight.detach().norm(dim=0), **CLOSE)


def test_relevance_of_one_set() -> None:
    own = layer(5, 4, "one-set", "p3")
    eigenvalues, phi = own.spectrum.lambda_out.detach().abs(), own.spectrum.basis.phi
    torch.testing.assert_close(spectral.eigenvalue_relevance(own), eigenvalues, **CLOSE)
    torch.testing.assert_close(spectral.relevance(own), eigenvalues * phi.norm(dim=1), **CLOSE)
    mirror = spectral.spectralize(nn.Linear(5, 4), "one-set-in")
    assert torch.equal(spectral.eigenvalue_relevance(mirror), torch.ones(5))


@pytest.mark.parametrize("groups", [1, 2, 4])
def test_relevance_of_channels(groups: int) -> None:
    conv = spectral.spectralize(nn.Conv2d(4, 8, (3, 2), groups=groups, dtype=torch.float64), "one-set")
    torch.testing.assert_close(spectral.relevance(conv), conv.weight.detach().flatten(1).norm(dim=1), **CLOSE)
    columns = conv.weight.detach().reshape(groups, 8 // groups, 4 // groups, -1).square().sum((1, 3)).reshape(-1).sqrt()
    torch.testing.assert_close(spectral.relevance(conv, "senders"), columns, **CLOSE)


def test_decay_of_both_factors_is_a_group_lasso_on_nodes() -> None:
    """min over c of a·(cλ_i)² + b·‖φ_i/c‖² = 2√(ab)·r_i, r the relevance, which no c changes."""
    layer: Any = spectral.spectralize(nn.Linear(5, 7, dtype=torch.float64), "full-one-set", initialiser="gate")
    a, b, own = 0.3, 0.02, layer.spectrum
    with torch.no_grad():
        own.lambda_out.copy_(torch.linspace(-2, 3, 7))
        scales = torch.logspace(-3, 3, 60001, dtype=torch.float64)[:, None]
        cost = a * (scales * own.lambda_out).square() + b * own.basis().square().sum(1) / scales.square()
    torch.testing.assert_close(cost.min(0).values, 2 * (a * b) ** 0.5 * spectral.relevance(layer), rtol=1e-6, atol=1e-12)
