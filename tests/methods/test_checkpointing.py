"""Gradient checkpointing: parts of the network run again in the backward pass, with the gates they had or not at all."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from parsinet.baselines import L0, SBP, VIB, NormalJeffreys
from parsinet.errors import RunError
from parsinet.methods import Gates, Method, Pruner

KINDS = pytest.mark.parametrize("reentrant", [False, True])


class Stream(nn.Module):
    """A residual stream that three blocks read and add to; in training they are run again in the backward pass."""

    def __init__(self, reentrant: bool | None) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.reentrant = reentrant
        self.stem, self.head = nn.Linear(6, 8), nn.Linear(8, 3)
        self.blocks = nn.ModuleList(nn.Sequential(nn.Linear(8, 5), nn.Tanh(), nn.Linear(5, 8)) for _ in range(3))

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        for block in self.blocks:
            again = self.training and self.reentrant is not None
            x = x + (checkpoint(block, x, use_reentrant=self.reentrant) if again else block(x))
        return self.head(x)


class Recurrent(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.lstm, self.head = nn.LSTM(2, 9, batch_first=True), nn.Linear(9, 3)
        self.again = True

    def forward(self, x: Tensor) -> Tensor:
        read = lambda x: self.lstm(x)[0][:, -1]  # noqa: E731
        return self.head(checkpoint(read, x, use_reentrant=False) if self.again else read(x))


def points(n: int = 16) -> tuple[Tensor, Tensor]:
    x = torch.randn(n, 6, generator=torch.Generator().manual_seed(1))
    return x, (x[:, 0] > 0).long()


def gated(model: nn.Module, x: Tensor, **options: Any) -> tuple[Any, Pruner]:
    method = Gates(**{"theta": 0.7, "fall_steps": 10, **options})
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    return optimizer, Pruner(model, optimizer, method, x, steps=40)


def heard(model: nn.Module, *parts: Tensor) -> tuple[dict[str, Tensor], list[Tensor]]:
    """What the gates hear of passes over the parts, each with its backward pass, and the gradients."""
    x, y = points()
    _, pruner = gated(model, x)
    for part in parts:
        F.cross_entropy(model(x[part]), y[part]).backward()
    return pruner.method._bank.estimates(), [parameter.grad for parameter in model.parameters()]


@KINDS
def test_what_runs_again_has_the_gates_it_had(reentrant: bool) -> None:
    """Derivatives of a gate that is read in all blocks are summed before anything is squared, also where each block comes by itself."""
    rows = torch.arange(16)
    for parts in ([rows], rows.split(8)):
        plain, gradients = heard(Stream(None), *parts)
        again, others = heard(Stream(reentrant), *parts)
        assert plain.keys() == again.keys() == {"stem", "blocks.0.0", "blocks.1.0", "blocks.2.0"}
        for group, estimate in plain.items():
            torch.testing.assert_close(again[group], estimate)
            assert estimate.abs().max() > 1e-5
        torch.testing.assert_close(others, gradients)


@KINDS
def test_units_leave_beside_it(reentrant: bool) -> None:
    x, y = points()
    model = Stream(reentrant)
    optimizer, pruner = gated(model, x, price=0.02)
    for _ in range(40):
        F.cross_entropy(model(x), y).backward()
        optimizer.step()
        optimizer.zero_grad()
        pruner.step()
    pruner.finish()
    assert sum(pruner.widths().values()) < 20


@KINDS
def test_two_passes_before_one_backward_cannot_be_told_apart(reentrant: bool) -> None:
    """Each has gates of its own, and what runs again could be of either."""
    x, y = points()
    model = Stream(reentrant)
    gated(model, x)
    loss = F.cross_entropy(model(x), y) + F.cross_entropy(model(-x), y)
    with pytest.raises(
        RunError, match=r"which of several forward passes that is cannot be told.* Call backward\(\) after every forward pass"
    ):
        loss.backward()


def test_a_validation_pass_before_the_backward_pass_is_told() -> None:
    x, y = points()
    model = Stream(False)
    gated(model, x)
    loss = F.cross_entropy(model(x), y)
    with torch.no_grad():
        model.eval()(x)
    with pytest.raises(RunError, match="cannot be told"):
        loss.backward()


def test_gates_in_weights_do_not_run_again() -> None:
    """The weights are whole by then: the gradients would be those of another network."""
    x, y = points()
    model = Recurrent()
    optimizer, pruner = gated(model, x.view(16, 3, 2))
    with pytest.raises(RunError, match=r"a LSTM runs again in the backward pass .* its gated weights are whole again"):
        F.cross_entropy(model(x.view(16, 3, 2)), y).backward()
    model.again = False
    optimizer.zero_grad()
    F.cross_entropy(model(x.view(16, 3, 2)), y).backward()
    pruner.step()
    assert all(type(parameter) is nn.Parameter for parameter in model.lstm._parameters.values())


NOISY = pytest.mark.parametrize("kind", [L0, VIB, SBP, NormalJeffreys])


def drawn(kind: type[Method], reentrant: bool | None) -> tuple[Stream, Any, Pruner]:
    model = Stream(reentrant)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    pruner = Pruner(model, optimizer, kind(), points()[0], steps=40, examples=16)
    pruner.penalty()  # no part of the losses here
    return model, optimizer, pruner


@KINDS
@NOISY
def test_factors_that_run_again_are_the_same_and_learn(kind: type[Method], reentrant: bool) -> None:
    x, y = points()
    found = []
    for way in (None, reentrant):
        model, _, pruner = drawn(kind, way)
        for part in torch.arange(16).split(8):
            F.cross_entropy(model(x[part]), y[part]).backward()
        before = {name: row.detach().clone() for name, row in pruner.method.rows.values.items()}
        gradients = [parameter.grad for parameter in model.parameters()]
        pruner.step()
        found.append(({name: row.detach() - before[name] for name, row in pruner.method.rows.values.items()}, gradients))
    torch.testing.assert_close(found[1], found[0])
    assert all(move.abs().min() > 0 for move in found[0][0].values())


def test_a_copy_between_forward_and_backward_pass_is_in_neither() -> None:
    """As weight averages are made: the copy has factors of its own, and nothing of the pass."""
    x, y = points()
    model, _, pruner = drawn(L0, None)
    loss = F.cross_entropy(model(x), y)
    other = copy.deepcopy(model)
    loss.backward()
    pruner.step()
    F.cross_entropy(other(x), y).backward()
    assert any(parameter.grad is not None and parameter.grad.abs().max() > 0 for parameter in other.parameters())


def test_factors_of_two_passes_cannot_be_told_apart() -> None:
    x, y = points()
    model, optimizer, pruner = drawn(L0, False)
    loss = F.cross_entropy(model(x), y) + F.cross_entropy(model(-x), y)
    with pytest.raises(RunError, match=r"which of several forward passes that is cannot be told.* Call backward\(\) after every"):
        loss.backward()
    optimizer.zero_grad()
    pruner.step()
    for part in torch.arange(16).split(8):
        F.cross_entropy(model(x[part]), y[part]).backward()


def test_test_values_run_again_unasked() -> None:
    """In evaluation all forward passes have the same factors, and a map of sensitivities is a usual wish."""
    x, _ = points()
    model, _, _ = drawn(L0, False)
    x.requires_grad_()
    model.eval()
    model(x)
    model(x).sum().backward()
    assert x.grad.abs().max() > 0


@KINDS
@pytest.mark.parametrize("build", [lambda: Gates(price=1e-3, theta=0.5), lambda: L0(lam=0.1)], ids=["gates", "l0"])
def test_a_whole_network_that_runs_again_is_refused(build: Any, reentrant: bool) -> None:
    """Its second forward pass would draw anew, and gradients would belong to other gates than the loss."""
    torch.manual_seed(0)
    stem, body = nn.Linear(6, 6), nn.Sequential(nn.Linear(6, 8), nn.Sigmoid(), nn.Linear(8, 3))
    method, x = build(), torch.randn(16, 6)
    optimizer = torch.optim.SGD([*stem.parameters(), *body.parameters()], lr=0.1)
    Pruner(body, optimizer, method, stem(x[:2]).detach(), steps=100, examples=16)
    out = checkpoint(body, stem(x), use_reentrant=reentrant)
    with pytest.raises(RunError, match=r"the whole network runs again in the backward pass.* Checkpoint parts of it"):
        F.cross_entropy(out, torch.randint(3, (16,))).backward()
