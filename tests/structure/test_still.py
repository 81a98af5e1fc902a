"""Networks that draw random numbers in evaluation: the draws of a smaller network are others, and must not tell against it."""

from __future__ import annotations

import warnings

import pytest
import torch
from torch import Tensor, nn
from torch.distributions import Distribution, Normal
from torch.nn import functional as F

import parsinet as pn
from parsinet.methods import Gates, Pruner
from parsinet.structure.still import still


class Sampler(nn.Module):
    """An autoencoder whose latent is drawn, by one of several ways."""

    def __init__(self, way: str = "randn", width: int = 12) -> None:
        super().__init__()
        self.way = way
        self.enter, self.mean, self.spread = nn.Linear(6, width), nn.Linear(width, 5), nn.Linear(width, 5)
        self.leave, self.out = nn.Linear(5, 11), nn.Linear(11, 6)

    def forward(self, x: Tensor) -> Tensor:
        h = torch.relu(self.enter(x))
        return self.out(torch.relu(self.leave(self.drawn(self.mean(h), (self.spread(h) / 2).exp()))))

    def drawn(self, mean: Tensor, spread: Tensor) -> Tensor:
        if self.way == "distribution":
            return Normal(mean, spread).rsample()
        if self.way == "dropout":
            return F.dropout(mean * spread, 0.3, training=True)
        if self.way == "alpha":
            return F.alpha_dropout(mean * spread, 0.3, training=True)
        if self.way == "exponential":
            return mean + spread * torch.empty_like(mean).exponential_().log()
        if self.way == "depth":
            return mean + spread * torch.bernoulli(torch.full((len(mean), 1), 0.5))
        if self.way == "whole":
            return mean * spread + torch.randint(2, 5, mean.shape).to(mean)
        if self.way == "order":
            order = torch.randperm(len(mean))
            return mean + spread[order]
        return mean + spread * torch.randn_like(mean)


class Spread(Sampler):
    """The same, with a size in the computation."""

    def drawn(self, mean: Tensor, spread: Tensor) -> Tensor:
        return (mean + spread * torch.randn_like(mean)) / mean.shape[1]


WAYS = ("randn", "distribution", "dropout", "alpha", "exponential", "depth", "whole", "order")


@pytest.mark.parametrize("way", WAYS)
def test_what_is_drawn_leaves_exactly(way: str) -> None:
    structure = pn.trace(Sampler(way), torch.randn(4, 6))
    assert [(group.name, group.exact) for group in structure.removable()] == [("enter", True), ("mean", True), ("leave", True)]


class Attending(nn.Module):
    """Attention that drops weights in evaluation too."""

    def __init__(self) -> None:
        super().__init__()
        self.heads = 3
        self.lift, self.qkv, self.out = nn.Linear(6, 8), nn.Linear(8, 36), nn.Linear(12, 2)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = (t.unflatten(2, (self.heads, 4)).transpose(1, 2) for t in self.qkv(self.lift(x)).chunk(3, dim=2))
        return self.out(F.scaled_dot_product_attention(q, k, v, dropout_p=0.2).transpose(1, 2).flatten(2))


def test_dropped_attention_leaves_exactly() -> None:
    structure = pn.trace(Attending(), torch.randn(2, 5, 6))
    assert {group.name for group in structure.removable() if group.exact} == {"lift", "qkv.heads"}


def test_a_size_is_still_noticed() -> None:
    structure = pn.trace(Spread(), torch.randn(4, 6))
    assert {group.name for group in structure.removable() if group.exact} == {"enter", "leave"}


def test_trace_leaves_the_random_numbers_and_torchs_checks_as_they_were() -> None:
    before, checks = torch.get_rng_state(), Distribution._validate_args
    model, x = Sampler("distribution"), torch.zeros(4, 6)
    torch.set_rng_state(before)
    pn.trace(model, x)
    assert torch.equal(torch.get_rng_state(), before)
    assert Distribution._validate_args is checks


def test_gates_train_a_variational_autoencoder_to_a_size() -> None:
    torch.manual_seed(0)
    model, x = Sampler(width=60), torch.randn(32, 6)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    start = pn.measure.macs(model, x)
    pruner = Pruner(model, optimizer, Gates(target="macs=60%", fall_steps=5), x, steps=60)
    for _ in range(60):
        F.mse_loss(model(x), x).backward()
        optimizer.step()
        optimizer.zero_grad()
        pruner.step(lambda: F.mse_loss(model(x), x))
    assert pn.measure.macs(pruner.finish(), x) <= 0.6 * start


def test_draws_are_filled_only_where_there_are_some() -> None:
    drawn = torch.fx.symbolic_trace(nn.Sequential(nn.Linear(2, 2)))
    with still(drawn.graph, nn.Identity()):
        assert torch.rand(64).unique().numel() > 1
    exported = torch.export.export(Sampler(), (torch.randn(4, 6),), strict=False)
    with still(exported.graph, nn.Identity()):
        assert torch.rand(64).unique().tolist() == [0.5]
        assert torch.randint(3, 9, (64,)).unique().tolist() == [3]
        assert torch.randint(9, (64,)).unique().tolist() == [0]
        assert torch.equal(F.dropout(torch.ones(64), 0.3), torch.full((64,), 1 / 0.7))


@pytest.mark.parametrize("way", WAYS)
def test_draws_are_seen_in_a_graph_that_was_taken_apart(way: str) -> None:
    model = Sampler("randn" if way == "distribution" else way)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = torch.export.export(model, (torch.randn(4, 6),), strict=False).run_decompositions()
    with still(program.graph, model):
        assert torch.rand(64).unique().tolist() == [0.5]
