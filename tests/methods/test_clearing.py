"""Losses of others that go through a network, a discriminator's say: what they leave in its weights is cleared, and not learned from."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from methods.runs import same
from methods.toys import bank, network, points, start
from parsinet.baselines import VIB
from parsinet.methods import Gates, Method, Pruner
from parsinet.methods.clearing import Clearing

STEPS = 30
METHODS: dict[str, Callable[[], Method]] = {
    "gates": lambda: Gates(price=0.02, fall_steps=10, interval=5, rise=1),
    "per example": lambda: Gates(price=0.02, fall_steps=10, interval=5, rise=1, draws="example"),
    "vib": lambda: VIB(kl=0.01, rate=0.05, interval=5),
}


def own(logits: Tensor, label: float) -> Tensor:
    return F.binary_cross_entropy_with_logits(logits, torch.full_like(logits, label))


class Game:
    """A discriminator that is pruned, and what a generator gives it. order: of the discriminator's step."""

    def __init__(self, method: Method, order: str) -> None:
        torch.manual_seed(0)
        self.model = nn.Sequential(nn.Linear(2, 24), nn.LeakyReLU(), nn.Linear(24, 16), nn.LeakyReLU(), nn.Linear(16, 1))
        self.optimizer = torch.optim.Adam(method.param_groups(self.model), lr=0.01)
        self.pruner = Pruner(self.model, self.optimizer, method, points(4)[0], steps=STEPS, examples=64)
        self.order = order

    def step(self, k: int) -> None:
        real, fake = points(seed=k)[0], 1 + points(seed=1000 + k)[0]
        if self.order == "cleared, forward, backward":
            self.optimizer.zero_grad()
        if self.order == "two passes":
            self.optimizer.zero_grad()
            own(self.model(real), 1).backward()
            (own(self.model(fake), 0) + self.pruner.penalty()).backward()
        else:
            loss = own(self.model(real), 1) + own(self.model(fake), 0) + self.pruner.penalty()
            if self.order == "forward, cleared, backward":
                self.optimizer.zero_grad()
            loss.backward()
        self.optimizer.step()
        if self.order == "cleared at the end":
            self.optimizer.zero_grad()
        self.pruner.step()

    def other(self, k: int, *, backward: bool) -> None:
        """The generator's step, whose draws are made in any case."""
        loss = own(self.model(points(seed=2000 + k)[0].requires_grad_()), 1)
        if backward:
            loss.backward()
            if self.order == "cleared at the end":
                self.optimizer.zero_grad()


ORDERS = ["cleared, forward, backward", "forward, cleared, backward", "two passes", "cleared at the end"]


@pytest.mark.parametrize("method", METHODS.values(), ids=METHODS)
@pytest.mark.parametrize("order", ORDERS)
def test_a_discriminator_does_not_learn_from_the_generators_loss(order: str, method: Callable[[], Method]) -> None:
    states = []
    for backward in (False, True):
        game = Game(method(), order)
        for k in range(STEPS):
            game.step(k)
            game.other(k, backward=backward)
        states.append((game.pruner.method.state_dict(), dict(game.model.state_dict())))
    assert same(*states)


@pytest.mark.parametrize("method", METHODS.values(), ids=METHODS)
def test_the_law_objects_to_gates_that_hear_everything(method: Callable[[], Method], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Clearing, "watch", lambda *_: None)
    with pytest.raises(AssertionError):
        test_a_discriminator_does_not_learn_from_the_generators_loss("two passes", method)


def test_both_passes_of_a_step_are_heard() -> None:
    """Micro-batches: nothing is cleared between them."""
    game = Game(METHODS["gates"](), "two passes")
    seen: list[int] = []
    game.optimizer.register_step_post_hook(lambda *_: seen.append(len(bank(game.pruner).hearing.pending)))
    for k in range(3):
        game.step(k)
        game.other(k, backward=True)
    assert seen == [2, 2, 2]


@pytest.mark.parametrize("passes", [2, 3])
@pytest.mark.parametrize("method", METHODS.values(), ids=METHODS)
def test_passes_are_heard_whose_gradients_are_put_elsewhere(method: Callable[[], Method], passes: int) -> None:
    """DDP puts gradients of its own in the place of what was accumulated, at the end of the pass in which processes meet."""
    states = []
    for moved in (False, True):
        model = network()
        optimizer, used = torch.optim.SGD(model.parameters(), lr=0.1), method()
        pruner = Pruner(model, optimizer, used, points(4)[0], steps=STEPS, examples=100)
        for k in range(4):
            for part in range(passes):
                x, y = points(seed=10 * k + part)
                (F.cross_entropy(model(x), y) / passes + pruner.penalty() / passes).backward()
            for parameter in model.parameters():
                if moved and parameter.grad is not None:
                    parameter.grad = parameter.grad.clone()
            optimizer.step()
            optimizer.zero_grad()
            pruner.step()
        states.append((used.state_dict(), dict(model.state_dict())))
    assert same(*states)


def test_what_passes_have_added_up_is_thrown_away_together() -> None:
    model = network()
    optimizer, pruner = start(model)
    x, y = points()
    for _ in range(2):
        F.cross_entropy(model(x), y).backward()
    optimizer.zero_grad()
    F.cross_entropy(model(x), y).backward()
    optimizer.step()
    assert len(bank(pruner).hearing.pending) == 1


def test_of_sams_passes_the_second_is_heard() -> None:
    model = network()
    optimizer, pruner = start(model)
    x, y = points()
    for _ in range(2):
        F.cross_entropy(model(x), y).backward()
        with torch.no_grad():
            moves = [0.05 * parameter.grad for parameter in model.parameters()]  # type: ignore[operator]
            for parameter, move in zip(model.parameters(), moves, strict=True):
                parameter += move
        optimizer.zero_grad()
        F.cross_entropy(model(x), y).backward()
        with torch.no_grad():
            for parameter, move in zip(model.parameters(), moves, strict=True):
                parameter -= move
        optimizer.step()
        assert len(bank(pruner).hearing.pending) == 1
        pruner.step()


def test_frozen_weights_leave_no_gradient_and_are_not_missed() -> None:
    """Where only gates and the last layer train, what is heard of them counts."""
    model = network()
    for parameter in [*model.fc1.parameters(), *model.fc2.parameters()]:
        parameter.requires_grad_(requires_grad=False)
    optimizer = torch.optim.SGD(model.out.parameters(), lr=0.1)
    pruner = Pruner(model, optimizer, Gates(), points(4)[0], steps=STEPS)
    x, y = points()
    F.cross_entropy(model(x), y).backward()
    optimizer.step()
    assert len(bank(pruner).hearing.pending) == 1


@pytest.mark.parametrize("method", METHODS.values(), ids=METHODS)
def test_the_optimizer_keeps_no_hook(method: Callable[[], Method]) -> None:
    game: Any = Game(method(), "two passes")
    assert game.optimizer._optimizer_step_pre_hooks
    game.step(0)
    game.pruner.finish()
    assert not game.optimizer._optimizer_step_pre_hooks
