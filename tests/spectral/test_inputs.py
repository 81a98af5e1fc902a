"""Relevance of inputs: an eigenvalue of zero cuts an input off, scores are column norms, relevant features come first."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from parsinet import spectral


@pytest.mark.parametrize("make", [lambda: nn.Linear(5, 4), lambda: nn.Conv2d(5, 4, 3)], ids=["linear", "convolution"])
def test_an_input_of_eigenvalue_zero_is_not_read(make) -> None:  # type: ignore[no-untyped-def]
    layer = spectral.spectralize(make().double(), "one-set-in")
    with torch.no_grad():
        layer.spectrum.lambda_in[[1, 3]] = 0.0
    x = torch.randn(2, 5, *[6, 4][: layer.weight.dim() - 2], dtype=torch.float64)
    other = x.clone()
    other[:, [1, 3]] = 17.0
    assert torch.equal(layer(x), layer(other))
    scores = spectral.relevance(layer, "senders")
    torch.testing.assert_close(scores, layer.weight.detach().transpose(0, 1).flatten(1).norm(dim=1), rtol=1e-12, atol=0.0)
    assert torch.nonzero(scores == 0).flatten().tolist() == [1, 3]
    other[:, 2] = 17.0
    assert not torch.allclose(layer(x), layer(other)), "the law must be able to fail"


def two_classes(generator: torch.Generator) -> tuple[Tensor, Tensor, set[int]]:
    """20 Gaussian features, σ = 0.5; the means of 11 of them differ between the classes by σ."""
    relevant = torch.randperm(20, generator=generator)[:11]
    labels = torch.randint(2, (60_000,), generator=generator)
    x = 0.5 * torch.randn(60_000, 20, generator=generator)
    x[:, relevant] += 0.5 * (labels[:, None] - 0.5)
    return x, labels, set(relevant.tolist())


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_relevant_features_come_first(seed: int) -> None:
    """Network, penalties (λ 1e-2, φ 1e-4), samples and batch as in the authors' code; means of the features and larger steps are ours."""
    generator = torch.Generator().manual_seed(seed)
    x, labels, relevant = two_classes(generator)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = nn.Sequential(
            *(nn.Linear(20, 100), nn.Tanh(), nn.BatchNorm1d(100), nn.Dropout(0.2)),
            *(nn.Linear(100, 100), nn.ReLU(), nn.Linear(100, 50), nn.ReLU(), nn.Linear(50, 2)),
        )
        first = spectral.spectralize(model[0], "full", initialiser="glorot", generator=generator).spectrum
        first.lambda_out.requires_grad_(False)
        optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
        for _ in range(10):
            for some in torch.randperm(60_000, generator=generator).split(500):
                penalty = 1e-2 * first.lambda_in.square().sum() + 1e-4 * first.basis.phi.square().sum()
                optimizer.zero_grad()
                (nn.functional.cross_entropy(model(x[some]), labels[some]) + penalty).backward()
                optimizer.step()
    scores = spectral.relevance(model[0], "senders")
    assert set(scores.topk(11).indices.tolist()) == relevant
