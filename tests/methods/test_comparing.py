"""Estimates of pairs of losses in training: unbiased through the whole network, paired, without a trace; the closure they need."""

from __future__ import annotations

import copy
import itertools
import random
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import parsinet as pn
from gates.toys import check_mean
from methods.runs import same
from methods.toys import OPTIMIZERS, bank, network, points, start
from parsinet.draws import Place
from parsinet.errors import UsageError
from parsinet.gates import PAIR_ESTIMATORS
from parsinet.methods import Gates, Pruner, comparing

KINDS = pytest.mark.parametrize("estimator", PAIR_ESTIMATORS)


def recurrent() -> nn.Module:
    """Its hidden units are gated in the weights that read them."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return pn.models.build("lstm", (3, 2), 2, hidden=2, layers=1)


def batch(model: nn.Module, n: int = 24) -> tuple[Tensor, Tensor]:
    x, y = points(n)
    return (x.unsqueeze(1).expand(-1, 3, -1).contiguous(), y) if hasattr(model, "lstm") else (x, y)


def started(model: nn.Module, **options: Any) -> Pruner:
    method = Gates(**{"fall_steps": 20, "interval": 5, **options})
    return Pruner(model, OPTIMIZERS["adam"](method.param_groups(model)), method, batch(model, 4)[0])


def exact(loss: Any, theta: Tensor) -> Tensor:
    """∂/∂θ_i of the expected loss over all masks."""
    gradient = torch.zeros_like(theta)
    for mask in itertools.product((0.0, 1.0), repeat=len(theta)):
        xi = torch.tensor(mask, dtype=theta.dtype)
        chance = torch.where(xi > 0, theta, 1 - theta)
        gradient += (2 * xi - 1) * chance.prod() / chance * loss(xi)
    return gradient


def gap(build: Any, estimator: str, times: int) -> tuple[Tensor, Tensor]:
    """Estimates of many steps, with a gate at 1, and the gradient by enumeration at θ held off the ends."""
    model = build()
    pruner = started(model, estimator=estimator)
    held, (x, y) = bank(pruner), batch(model)
    held.theta.copy_(torch.linspace(0.4, 1.0, len(held.theta)))
    loss, pairs, found = lambda: F.cross_entropy(model(x), y), pruner.method._estimating._asking, []  # type: ignore[attr-defined]
    for _ in range(times):
        pairs.compare(loss, model, held)
        found.append(pairs.take())
    theta = held.theta.clamp(comparing.EDGE, 1 - comparing.EDGE)
    return torch.stack(found).double(), exact(comparing.under_gates(loss, model, held), theta).double()


@KINDS
@pytest.mark.parametrize("build", [lambda: network(first=2, second=2), recurrent], ids=["linear", "recurrent"])
def test_estimates_of_a_network_average_to_the_enumerated_gradient(build: Any, estimator: str) -> None:
    found, expected = gap(build, estimator, 400)
    assert expected.abs().max() > 1e-3
    check_mean(found, expected)


def test_the_law_objects_to_gates_that_are_left_at_their_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    """Instead of at the edge they are drawn at 0.6 and 0.4: other gates than θ's, another gradient."""
    whole = comparing.EDGE
    monkeypatch.setattr(comparing, "EDGE", 0.4)
    found, _ = gap(lambda: network(first=2, second=2), "disarm", 400)
    monkeypatch.setattr(comparing, "EDGE", whole)
    _, expected = gap(lambda: network(first=2, second=2), "disarm", 1)
    with pytest.raises(AssertionError):
        check_mean(found, expected)


@KINDS
def test_a_gate_at_1_closes_when_its_unit_is_worth_nothing_and_one_at_0_comes_back(estimator: str) -> None:
    """A unit nobody reads falls with the price; one that halves the loss opens again before it leaves."""
    model = network(first=2, second=2)
    model.fc2.weight.data[:, 1] = 0
    options: dict[str, Any] = {"theta": 1.0, "fall_steps": 60, "interval": 10**6, "clamp": None, "price": 0.5}
    optimizer, pruner = start(model, lambda groups: torch.optim.SGD(groups, lr=0.0), estimator=estimator, **options)
    held, (x, y) = bank(pruner), points()

    def loss() -> Tensor:
        """Unit 2 (the first of fc2) is worth 1, all others nothing."""
        model(x)
        return 1.5 - held._draw.xi["fc2"][0]

    held.theta[2] = 0
    for _ in range(60):
        F.cross_entropy(model(x), y).backward()
        optimizer.zero_grad()
        pruner.step(loss)
    assert held.theta[2] > 0.5
    assert held.theta[[0, 1, 3]].mean() < 0.6


class Noisy(nn.Module):
    """Dropout and running statistics: everything an evaluation could disturb."""

    def __init__(self) -> None:
        super().__init__()
        self.fc1, self.norm, self.drop = nn.Linear(2, 12), nn.BatchNorm1d(12), nn.Dropout(0.5)
        self.fc2, self.out = nn.Linear(12, 8), nn.Linear(8, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(torch.relu(self.fc2(self.drop(torch.relu(self.norm(self.fc1(x)))))))


class Head(nn.Module):
    """What is behind a backbone that a pruner was given alone."""

    def __init__(self, *, lazy: bool = False) -> None:
        super().__init__()
        self.norm, self.out = nn.BatchNorm1d(8), nn.Linear(8, 2)
        self.register_buffer("seen", None if lazy else torch.zeros(8))

    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            self.seen = x.detach().mean(0)
        return self.out(self.norm(x))


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")  # torch.compile's own look
@pytest.mark.parametrize("form", ["a part", "apart", "compiled", "lazy"])
def test_what_runs_around_the_network_is_left_as_it_was_too(form: str) -> None:
    backbone, head = nn.Sequential(nn.Linear(2, 12), nn.BatchNorm1d(12), nn.ReLU(), nn.Linear(12, 8)), Head(lazy=form == "lazy")
    joined = nn.Sequential(backbone, head)
    whole: Callable[[Tensor], Tensor] = {
        "apart": lambda x: head(backbone(x)),
        "compiled": torch.compile(joined, backend="eager") if form == "compiled" else joined,
    }.get(form, joined)
    optimizer = torch.optim.Adam([*backbone.parameters(), *head.parameters()], lr=0.01)
    pruner = Pruner(backbone, optimizer, Gates(estimator="disarm", interval=5, fall_steps=20), points(4)[0], steps=40)
    for k in range(3):
        x, y = points(seed=k)
        if form != "lazy":
            F.cross_entropy(whole(x), y).backward()
            optimizer.step()
            optimizer.zero_grad()
        before = copy.deepcopy((head.state_dict(), head.seen, backbone.state_dict()))
        pruner.method.probe(lambda x=x, y=y: F.cross_entropy(whole(x), y))  # type: ignore[attr-defined]
        assert same((head.state_dict(), head.seen, backbone.state_dict()), before)


def test_a_comparison_leaves_no_trace_and_backward_passes_are_not_listened_to() -> None:
    model = Noisy()
    _, pruner = start(model, estimator="disarm")
    x, y = points()
    model(x)
    assert not bank(pruner).hearing.pending
    before, numbers = copy.deepcopy(model.state_dict()), torch.get_rng_state()
    pruner.method.probe(lambda: F.cross_entropy(model(x), y))  # type: ignore[attr-defined]
    assert same(model.state_dict(), before)
    assert torch.equal(torch.get_rng_state(), numbers)
    assert all(parameter.grad is None for parameter in model.parameters())


@pytest.mark.parametrize("estimator", [*PAIR_ESTIMATORS, "drawn-labels"])
def test_what_is_compared_sees_the_same_coins_and_uses_none_up(estimator: str) -> None:
    """Layers skipped by Python, words masked by NumPy."""
    model = Noisy()
    _, pruner = start(model, estimator=estimator)
    seen: list[tuple[float, ...]] = []
    x, y = points()

    def loss() -> Tensor:
        seen.append((random.random(), float(np.random.standard_normal()), float(torch.rand(()))))
        return F.cross_entropy(model(x), y)

    before = Place.now()
    for _ in range(2):
        pruner.method.probe(loss)  # type: ignore[attr-defined]
    assert len(seen) >= 2
    assert len(set(seen)) == 1
    assert before.moved(Place.now()) == []


@KINDS
def test_without_a_closure_the_step_is_refused_and_nothing_has_changed(estimator: str) -> None:
    model = network()
    optimizer, pruner = start(model, estimator=estimator, steps=4, gated=0.5)
    before = copy.deepcopy(pruner.state_dict())
    words = rf'gates with estimator="{estimator}" learns by evaluating the loss again.*pruner.step\(lambda: loss_fn'
    with pytest.raises(UsageError, match=words):
        pruner.step()
    assert same(pruner.state_dict(), before)
    x, y = points()
    for _ in range(2):
        F.cross_entropy(model(x), y).backward()
        optimizer.zero_grad()
        pruner.step(lambda: F.cross_entropy(model(x), y))
    assert pruner.settled
    assert pruner.step() is None, "a fixed structure needs no closure"


def test_a_loss_that_is_not_finite_moves_no_gate() -> None:
    model = network()
    _, pruner = start(model, estimator="disarm")
    theta = bank(pruner).theta.clone()
    pruner.step(lambda: torch.tensor(float("nan")))
    assert torch.equal(bank(pruner).theta, theta)
    assert bool(bank(pruner).usefulness.isfinite().all())


class Remembering(nn.Module):
    """Keeps its last state, counts its calls, and makes a table when it first needs one."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.cell, self.head = nn.Linear(3, 8), nn.RNN(8, 6, batch_first=True), nn.Linear(6, 2)
        self.hidden: Tensor | None = None
        self.calls = 0

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        if not self.training:
            self.table = torch.arange(3)
        y, hidden = self.cell(self.first(x).relu(), self.hidden)
        self.hidden = hidden.detach()
        return self.head(y[:, -1])


@pytest.mark.parametrize("options", [{"estimator": "disarm"}, {"estimator": "drawn-labels"}, {}])
def test_a_state_in_plain_attributes_is_left_as_it_was(options: dict[str, Any]) -> None:
    torch.manual_seed(0)
    model, x, y = Remembering(), torch.randn(4, 5, 3), torch.tensor([0, 1, 1, 0])
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    pruner = Pruner(model, optimizer, Gates(**options), x, steps=40, ignored_layers=["cell"])
    model.hidden, model.calls, asked = None, 0, 0

    def loss() -> Tensor:
        nonlocal asked
        asked += 1
        return F.cross_entropy(model(x), y)

    for step in range(1, 21):
        optimizer.zero_grad()
        F.cross_entropy(model(x), y).backward()
        optimizer.step()
        hidden = model.hidden
        pruner.step(loss)
        assert model.hidden is hidden
        assert model.calls == step
    assert asked
