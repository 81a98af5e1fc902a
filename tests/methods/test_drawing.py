"""A gate sample per example: each example is alone with its own gates, the factor ½ − ξ stays inside the mean; and where it cannot be."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils._pytree import tree_map

import parsinet as pn
from architectures import residual
from gates.toys import check_mean
from methods.toys import OPTIMIZERS, bank, network, points, start
from networks import call, make
from parsinet.errors import RunError, UsageError
from parsinet.methods import Gates, Pruner, gating
from parsinet.methods.drawing import examples_in

EXACT = 1e-9
"""float64: batches of one are summed in another order."""


def built(name: str) -> tuple[nn.Module, Any, dict[str, Any]]:
    """A network in float64 that treats its examples apart: no batch statistics, no dropout. With what its gates are asked for."""
    if name == "blocks":
        with torch.random.fork_rng():
            torch.manual_seed(0)
            model, x = residual.ResidualMLP(), torch.randn(4, 6)
    elif name == "inputs":
        model, x = network(), points(4)[0]
    else:
        model, x = make(name)
    model = model.double().train()
    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm | nn.Dropout | nn.MultiheadAttention):
            module.eval()
    x = tree_map(lambda leaf: leaf.double() if leaf.is_floating_point() else leaf, x)
    return model, x, {"blocks": {"groups": [], "blocks": True}, "inputs": {"inputs": True}}.get(name, {})


def loss_of(result: Any) -> Tensor:
    """A curved loss, the mean over examples of what each has by itself."""
    result = result[0] if isinstance(result, tuple) else result
    return (torch.sin(3 * result) + result.square()).flatten(1).mean(1).mean()


def gap_to_examples_alone(name: str, monkeypatch: pytest.MonkeyPatch) -> float:
    """The distance of ĝ of a batch with a row of gates per example from the same by hand, from every example in a batch of its own."""
    model, x, options = built(name)
    pruner = Pruner(model, torch.optim.SGD(model.parameters(), lr=0.1), Gates(draws="example", **options), x)
    held = bank(pruner)
    held.theta = held.theta.double()
    count = examples_in((x,), {})
    xi = (torch.rand(count, len(held.theta), generator=torch.Generator().manual_seed(4)) < 0.6).double()
    alone = []
    for n in range(count):
        monkeypatch.setattr(held, "draw", lambda examples, n=n: xi[n : n + 1])
        loss_of(call(model, tree_map(lambda leaf, n=n: leaf[n : n + 1], x))).backward()
        (heard,) = held.hearing.pending
        alone.append(dict(heard.examples))
        held.estimates()
    monkeypatch.setattr(held, "draw", lambda examples: xi)
    loss_of(call(model, x)).backward()
    found, gates = held.estimates(), held.split(xi)
    assert found.keys() == gates.keys()
    gaps = [0.0]
    for group, estimate in found.items():
        q = torch.cat([each[group] for each in alone])
        by_hand = sum(q[n] + (0.5 - gates[group][n]) * q[n] ** 2 for n in range(count)) / count
        gaps.append(float((estimate - by_hand).abs().max() / by_hand.abs().max().clamp(min=1e-6)))
    return max(gaps)


@pytest.mark.parametrize("name", ["mlp-batch-norm", "lenet-5-caffe", "resnet-20", "tiny-vit", "char-gpt", "blocks", "inputs"])
def test_every_example_has_its_own_gates_and_its_own_curvature(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert gap_to_examples_alone(name, monkeypatch) < EXACT


def test_the_law_objects_to_the_factor_outside_the_mean_and_to_another_examples_gates(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = gating.gate
    monkeypatch.setattr(gating, "gate", lambda h, xi, *rest: whole(h, xi.flip(0), *rest))
    assert gap_to_examples_alone("mlp-batch-norm", monkeypatch) > 1e-4
    monkeypatch.undo()
    outside = lambda q, xi: q.mean(0) + (0.5 - xi.mean(0)) * q.square().mean(0)  # noqa: E731
    monkeypatch.setattr("parsinet.methods.estimating.ESTIMATORS", {"curvature": outside})
    assert gap_to_examples_alone("mlp-batch-norm", monkeypatch) > 1e-6


class Three(nn.Module):
    """Three gated units."""

    def __init__(self) -> None:
        super().__init__()
        self.fc, self.out = nn.Linear(2, 3), nn.Linear(3, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(torch.relu(self.fc(x)))


def samples(draws: str, times: int) -> tuple[Tensor, Tensor]:
    """Estimates of many passes, and their expectation over all masks."""
    with torch.random.fork_rng():
        torch.manual_seed(3)
        model = Three()
    _, pruner = start(model, draws=draws, seed=1)
    held, (x, y) = bank(pruner), points(24)
    held.theta.copy_(torch.tensor([0.3, 0.8, 0.55]))
    found = []
    for _ in range(times):
        F.cross_entropy(model(x), y).backward()
        found.append(held.estimates()["fc"].double())
    expected, theta = torch.zeros(3, dtype=torch.float64), held.theta.double()
    for mask in itertools.product((0.0, 1.0), repeat=3):
        xi = torch.tensor(mask)
        held.draw = lambda *count, xi=xi: xi.expand(*count, -1) if count else xi
        F.cross_entropy(model(x), y).backward()
        expected += held.estimates()["fc"] * torch.where(xi > 0, theta, 1 - theta).prod()
    return torch.stack(found), expected


def test_both_draws_average_to_the_same_expectation_one_with_less_noise() -> None:
    """By enumeration of all masks; C and the estimate are means over examples, which do not see whether gates are shared."""
    each, expected = samples("example", 300)
    shared, same = samples("batch", 300)
    assert torch.allclose(expected, same, atol=1e-6)
    check_mean(each, expected)
    check_mean(shared, expected)
    assert bool((each.std(0) < 0.7 * shared.std(0)).all())
    with pytest.raises(AssertionError):
        check_mean(each * 1.2, expected)


def test_micro_batches_tell_what_one_batch_tells() -> None:
    model, (x, y) = network(), points()
    _, pruner = start(model, draws="example")
    xi = (torch.rand(64, 20, generator=torch.Generator().manual_seed(4)) < 0.6).float()
    told = []
    for parts in (1, 4):
        rows = iter(xi.chunk(parts))
        bank(pruner).draw = lambda examples, rows=rows: next(rows)
        for inputs, targets in zip(x.chunk(parts), y.chunk(parts), strict=True):
            (F.cross_entropy(model(inputs), targets) / parts).backward()
        told.append(bank(pruner).estimates())
    for group, estimate in told[0].items():
        assert torch.allclose(told[1][group], estimate, rtol=1e-4, atol=1e-7)
        assert estimate.abs().max() > 1e-4


def test_gates_stand_open_as_often_as_theta_says_and_evaluation_draws_nothing() -> None:
    model = network()
    _, pruner = start(model, draws="example")
    bank(pruner).theta.copy_(torch.linspace(0, 1, 20))
    x = points(2000)[0]
    model(x)
    xi = torch.cat(list(bank(pruner)._draw.xi.values()), 1)
    assert xi.shape == (2000, 20)
    assert torch.allclose(xi.mean(0), bank(pruner).theta, atol=4 * 0.5 / 2000**0.5), "four standard errors"
    before = bank(pruner)._random.get_state()
    model.eval()(x)
    assert torch.equal(before, bank(pruner)._random.get_state())


class Keys(nn.Module):
    """Scores of learned keys: a hidden layer that no example goes through."""

    def __init__(self) -> None:
        super().__init__()
        self.tokens = nn.Parameter(torch.randn(7, 4))
        self.up, self.down, self.lift = nn.Linear(4, 10), nn.Linear(10, 6), nn.Linear(2, 6)

    def forward(self, x: Tensor) -> Tensor:
        return self.lift(x) @ self.down(torch.relu(self.up(self.tokens))).T


def test_a_gated_tensor_without_examples_is_refused_in_words() -> None:
    model = Keys()
    _, pruner = start(model, draws="example", groups=["up"])
    with pytest.raises(RunError, match=r"examples first wherever up is read; the batch has 64, the tensor read there is \[7, 10\]"):
        model(points()[0])
    model.eval()(points()[0])
    start(model := Keys(), groups=["up"])
    model(points()[0])
    assert pruner.widths()["up"] == 10


def test_recurrent_units_are_refused_before_anything_is_placed() -> None:
    model = pn.models.build("lstm", (3, 2), 2, hidden=6)
    x = torch.randn(4, 3, 2)
    with pytest.raises(UsageError, match=r'draws="example" cannot be had for lstm: .*Use draws="batch"'):
        Pruner(model, OPTIMIZERS["sgd"](model.parameters()), Gates(draws="example"), x)
    assert not any(module._forward_pre_hooks for module in model.modules())
    Pruner(model, OPTIMIZERS["sgd"](model.parameters()), Gates(), x)


@pytest.mark.parametrize(("args", "kwargs", "count"), [((torch.ones(5, 2),), {}, 5), ((), {"x": [None, torch.ones(3)]}, 3)])
def test_the_first_tensor_says_how_many_examples_there_are(args: Any, kwargs: Any, count: int) -> None:
    assert examples_in(args, kwargs) == count
    with pytest.raises(RunError, match="a tensor with the examples first"):
        examples_in((), {"scale": torch.tensor(2.0), "name": "x"})
