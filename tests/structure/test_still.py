"""Networks that draw random numbers in evaluation: the draws of a smaller network are others, and must not tell against it."""

from __future__ import annotations

import random
import warnings
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.distributions import Distribution, Normal
from torch.nn import functional as F

import parsinet as pn
from parsinet.draws import Place
from parsinet.errors import ParsinetWarning
from parsinet.methods import Gates, Pruner
from parsinet.structure.capture import capture
from parsinet.structure.in_training import used
from parsinet.structure.running import Call
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


# Numbers of Python's and NumPy's, of which the graph holds what came out

ENTROPY = np.random.default_rng()


class Tossing(nn.Module):
    """One hidden layer, and what a number drawn from elsewhere than torch does with it. toss: (x, hidden units) → x."""

    def __init__(self, toss: Callable[[Tensor, Tensor], Tensor]) -> None:
        super().__init__()
        self.a, self.b, self.toss = nn.Linear(6, 12), nn.Linear(12, 4), toss

    def forward(self, x: Tensor) -> Tensor:
        h = torch.relu(self.a(x))
        return self.toss(self.b(h), h)


TOSSES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "a coin": lambda y, _: y if random.random() < 0.5 else 2 * y,
    "a coin of NumPy's": lambda y, _: y if np.random.rand() < 0.5 else 2 * y,
    "a factor": lambda y, _: y * random.uniform(0.9, 1.1),
    "normal numbers": lambda y, _: y + random.gauss() + np.random.standard_normal(),
    "dropout at times": lambda y, _: F.dropout(y, 0.5, training=True) if random.random() < 0.5 else y,
}


@pytest.mark.parametrize("seed", [0, 1], ids=["tails", "heads"])
@pytest.mark.parametrize("toss", TOSSES.values(), ids=TOSSES)
def test_removals_are_tried_with_the_same_coins(toss: Callable[[Tensor, Tensor], Tensor], seed: int) -> None:
    random.seed(seed)
    before, state = Place.now(), torch.get_rng_state()
    model, x = Tossing(toss), torch.zeros(2, 6)
    torch.set_rng_state(state)
    structure = pn.trace(model, x)
    assert [(group.name, group.exact) for group in structure.removable()] == [("a", True)]
    assert before.moved(Place.now()) == []
    assert torch.equal(torch.get_rng_state(), state)


class Own:
    """A coin of a generator that the network keeps."""

    def __init__(self) -> None:
        self.rng = random.Random(0)

    def __call__(self, y: Tensor, h: Tensor) -> Tensor:
        return y * self.rng.random()


def test_a_generator_of_the_networks_own_is_copied_with_it() -> None:
    toss = Own()
    assert [(group.name, group.exact) for group in pn.trace(Tossing(toss), torch.randn(2, 6)).removable()] == [("a", True)]
    assert toss.rng.getstate() == Own().rng.getstate()


INCOMPARABLE: dict[str, tuple[Callable[[Tensor, Tensor], Tensor], str]] = {
    "NumPy's": (lambda y, h: y * np.random.rand(h.shape[1]).mean(), "forward draws other random numbers of NumPy's without some of"),
    "Python's": (
        lambda y, h: y * sum(random.random() for _ in range(h.shape[1])),
        "forward draws other random numbers of Python's without",
    ),
    "nobody's": (lambda y, _: y * float(ENTROPY.random()), "two passes differ (a random generator of its own, a state that forward keeps)"),
    "none": (lambda y, h: y * random.uniform(0.9, 1.1) / h.shape[1], "a size enters the computation"),
}


@pytest.mark.parametrize(("toss", "words"), INCOMPARABLE.values(), ids=INCOMPARABLE)
def test_what_cannot_be_compared_is_told(toss: Callable[[Tensor, Tensor], Tensor], words: str) -> None:
    group = pn.trace(Tossing(toss), torch.randn(2, 6)).group("a")
    assert (group.removable, group.exact) == (True, False)
    assert words in group.reason


class Skipping(nn.Module):
    """Some of its layers are skipped in evaluation too, and then stand in no graph."""

    def __init__(self, layers: int = 3) -> None:
        super().__init__()
        self.enter, self.leave = nn.Linear(6, 12), nn.Linear(12, 3)
        self.layers = nn.ModuleList(nn.Linear(12, 12) for _ in range(layers))

    def forward(self, x: Tensor) -> Tensor:
        h = self.enter(x)
        for layer in self.layers:
            if random.random() < 0.5:
                h = h + torch.relu(layer(h))
        return self.leave(h)


def test_what_another_coin_runs_keeps_its_units() -> None:
    """Of the layers that the graph lacks some run in another pass, and want the units."""
    random.seed(0)
    group = pn.trace(Skipping(), torch.randn(2, 6)).group("enter")
    assert not group.removable
    assert group.reason.startswith("where forward draws other random numbers of Python's or NumPy's, the network does not run without")


class Choosing(nn.Module):
    """One of eight layers, by a coin of eight sides; it minds marked numbers, so that it is exported twice."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(6, 3) for _ in range(8))
        self.sides, self.chosen = 8, -1

    def forward(self, x: Tensor) -> Tensor:
        self.chosen = random.randrange(self.sides)
        assert type(self.sides) is int
        return self.layers[self.chosen](x)


@pytest.mark.parametrize("seed", range(3))
def test_the_graph_is_that_of_the_passes_that_are_compared(seed: int) -> None:
    random.seed(seed)
    model, x = Choosing(), torch.randn(2, 6)
    Call.of(x).on(model)
    with pytest.warns(ParsinetWarning, match=r"numbers that modules of Choosing keep .* type\(self.sides\) is int"):
        captured = capture(model, x, {}, blocks=False)
    assert captured.coins
    assert used(captured.exported) == {f"layers.{model.chosen}.weight", f"layers.{model.chosen}.bias"}


def test_gates_train_a_network_with_coins() -> None:
    torch.manual_seed(0)
    model = Tossing(TOSSES["a coin"])
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    pruner = Pruner(model, optimizer, Gates(target="macs=50%", fall_steps=5), torch.randn(2, 6), steps=40)
    for _ in range(40):
        x = torch.randn(16, 6)
        F.mse_loss(model(x), x[:, :4]).backward()
        optimizer.step()
        optimizer.zero_grad()
        pruner.step(lambda x=x: F.mse_loss(model(x), x[:, :4]))
    assert pruner.finish().a.out_features == 6
