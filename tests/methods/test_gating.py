"""Gates in a network: a closed gate is an absent unit, draws are per forward pass, and every backward pass is heard once."""

from __future__ import annotations

import copy
import warnings
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from methods.toys import bank, network, points, start, train_step
from networks import make
from parsinet.errors import ParsinetWarning, RunError, UsageError
from parsinet.methods import Gates, Pruner, gating

EXACT = 1e-10
"""float64: sums over fewer terms differ in the last digits only."""
GATED = ["mlp-batch-norm", "lenet-5-caffe", "resnet-20", "branches", "densenet", "tiny-vit", "char-gpt", "twice"]


def output(model: nn.Module, x: Tensor) -> Tensor:
    with torch.no_grad():
        return model(x).detach()


def gap_between_closed_and_removed(name: str, *, training: bool = False) -> float:
    """Close a random half of all gates, compare the logits with those after the closed units have left."""
    model, x = make(name)
    model, x = model.double().train(training), x.double() if x.is_floating_point() else x
    untouched = output(model, x)
    pruner = Pruner(model, torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.1), Gates(), x)
    generator = torch.Generator().manual_seed(1)
    for _, theta, _ in bank(pruner).rows():
        theta.copy_((torch.rand(theta.shape, generator=generator) < 0.5).float())
        theta[torch.randint(len(theta), (1,), generator=generator)] = 1
    before, closed = pruner.widths(), output(model, x)
    assert not torch.allclose(closed, untouched), "closing half of the units must show"
    pruner.finish()
    assert sum(pruner.widths().values()) < sum(before.values())
    return float((output(model, x) - closed).abs().max() / closed.abs().max().clamp(min=1))


@pytest.mark.parametrize("name", GATED)
def test_a_closed_gate_is_an_absent_unit(name: str) -> None:
    assert gap_between_closed_and_removed(name) < EXACT


@pytest.mark.parametrize("name", ["mlp-batch-norm", "branches"])
def test_also_with_the_statistics_of_the_batch(name: str) -> None:
    assert gap_between_closed_and_removed(name, training=True) < EXACT


def test_the_law_objects_to_a_reader_without_its_gate(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = gating.GateBank.multiply
    fault = lambda self, h, group, axis, owner: h if h.dim() == 2 else whole(self, h, group, axis, owner)  # noqa: E731
    monkeypatch.setattr(gating.GateBank, "multiply", fault)
    assert gap_between_closed_and_removed("branches") > 1e-6


def test_the_law_objects_to_gates_on_the_wrong_units(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gating, "gate", lambda h, xi, axis, sink, owner: gating_gate(h, xi.flip(0), axis, sink, owner))
    assert gap_between_closed_and_removed("mlp-batch-norm") > 1e-6


gating_gate = gating.gate


def test_gates_are_drawn_for_every_forward_pass_in_training_and_rounded_in_evaluation() -> None:
    model = network()
    _, pruner = start(model, theta=0.6)
    x = points(5)[0]
    draws = []
    for _ in range(3):
        model(x)
        draws.append(torch.cat(list(bank(pruner)._draw.xi.values())))
    assert not torch.equal(draws[0], draws[1])
    assert not torch.equal(draws[1], draws[2])
    assert all(set(draw.tolist()) <= {0.0, 1.0} for draw in draws)
    bank(pruner).theta[:3] = 0.49
    before = bank(pruner)._random.get_state()
    first, second = output(model.eval(), x), output(model.eval(), x)
    assert torch.equal(first, second)
    assert torch.cat(list(bank(pruner)._draw.xi.values())).tolist() == [0.0] * 3 + [1.0] * 17
    assert torch.equal(before, bank(pruner)._random.get_state()), "evaluation draws nothing"


def test_the_share_of_open_gates_is_theta() -> None:
    model = network()
    _, pruner = start(model)
    bank(pruner).theta.copy_(torch.linspace(0, 1, 20))
    total = torch.zeros(20)
    for _ in range(400):
        model(points(2)[0])
        total += torch.cat(list(bank(pruner)._draw.xi.values()))
    assert torch.allclose(total / 400, bank(pruner).theta, atol=4 * 0.5 / 20), "four standard errors"
    assert total[0] == 0
    assert total[-1] == 400


def estimates(model: nn.Module, pruner: Pruner, *parts: Tensor, divide: bool = True) -> dict[str, Tensor]:
    x, y = points()
    for part in parts:
        (F.cross_entropy(model(x[part]), y[part]) / (len(parts) if divide else 1)).backward()
    return bank(pruner).estimates()


@pytest.mark.parametrize("estimator", ["curvature", "straight-through"])
@pytest.mark.parametrize("pieces", [2, 4])
def test_accumulated_gradients_tell_what_one_batch_tells(estimator: str, pieces: int) -> None:
    """k micro-batches with their losses divided by k are one batch, for the optimizer and for the gates. θ = 1: nothing is random."""
    model = network()
    _, pruner = start(model, theta=1.0, estimator=estimator)
    rows = torch.arange(64)
    whole, parts = estimates(model, pruner, rows), estimates(model, pruner, *rows.chunk(pieces))
    assert whole.keys() == parts.keys() == {"fc1", "fc2"}
    for group, estimate in whole.items():
        assert torch.allclose(parts[group], estimate, rtol=1e-4, atol=1e-7)
        assert estimate.abs().max() > 1e-4
    undivided = estimates(model, pruner, *rows.chunk(pieces), divide=False)
    assert not torch.allclose(undivided["fc1"], whole["fc1"], rtol=1e-2), "the comparison can fail"


def test_several_forward_passes_before_one_backward_are_heard_with_their_own_draws() -> None:
    model = network()
    _, pruner = start(model, theta=1.0)
    x, y = points()
    losses = [F.cross_entropy(model(part), target) for part, target in zip(x.chunk(2), y.chunk(2), strict=True)]
    (sum(losses) / 2).backward()
    together = bank(pruner).estimates()
    for group, estimate in estimates(model, pruner, torch.arange(64)).items():
        assert torch.allclose(together[group], estimate, rtol=1e-4, atol=1e-7)
    assert not bank(pruner).hearing.pending


def test_a_forward_pass_that_is_never_differentiated_teaches_nothing() -> None:
    model = network()
    _, pruner = start(model, theta=1.0)
    x, y = points()
    with torch.no_grad():
        model(x)
    assert not bank(pruner).hearing.pending
    model(x)
    F.cross_entropy(model(x), y).backward()
    alone = bank(pruner).estimates()
    for group, estimate in estimates(model, pruner, torch.arange(64)).items():
        assert torch.equal(alone[group], estimate)
    theta = bank(pruner).theta.clone()
    pruner.step()
    assert torch.equal(theta, bank(pruner).theta), "no pass, no step"


def test_batches_may_change_their_size() -> None:
    model = network()
    _, pruner = start(model)
    for size in (64, 7, 1, 30):
        x, y = points(size)
        F.cross_entropy(model(x), y).backward()
        pruner.step()
        assert torch.isfinite(bank(pruner).usefulness).all()


def test_a_loss_that_is_not_a_number_does_not_hide_behind_the_gates() -> None:
    """Whoever watches the loss sees it: the gates do not raise first."""
    model = network()
    _, pruner = start(model)
    x, y = points()
    for _ in range(12):
        (F.cross_entropy(model(x), y) * float("nan")).backward()
        pruner.step()
    assert torch.isfinite(model(x)).all()


class TwoHeads(nn.Module):
    """A trunk with two branches, of which a loss may use one."""

    def __init__(self) -> None:
        super().__init__()
        self.trunk = nn.Linear(2, 6)
        self.left, self.right = nn.Linear(6, 5), nn.Linear(6, 4)
        self.left_out, self.right_out = nn.Linear(5, 2), nn.Linear(4, 2)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        h = torch.tanh(self.trunk(x))
        return self.left_out(torch.relu(self.left(h))), self.right_out(torch.relu(self.right(h)))


def test_groups_no_gradient_reaches_stay_where_they_are() -> None:
    model = TwoHeads()
    _, pruner = start(model)
    x, y = points()
    F.cross_entropy(model(x)[0], y).backward()
    pruner.step()
    moved = {name: bool((theta != 0.9).any()) for name, theta, _ in bank(pruner).rows()}
    assert moved == {"trunk": True, "left": True, "right": False}


def test_two_losses_on_two_branches_are_one_sum() -> None:
    model = TwoHeads()
    _, pruner = start(model, theta=1.0, estimator="straight-through")
    x, y = points()
    left, right = model(x)
    (F.cross_entropy(left, y) + F.cross_entropy(right, y)).backward()
    both = bank(pruner).estimates()
    apart = []
    for branch in (0, 1):
        F.cross_entropy(model(x)[branch], y).backward()
        apart.append(bank(pruner).estimates()["trunk"])
    assert torch.allclose(both["trunk"], apart[0] + apart[1], atol=1e-6)


def test_a_deep_copy_in_mid_training_is_whole_and_independent() -> None:
    """Averages of weights and the best model so far are kept as deep copies."""
    model = network()
    optimizer, pruner = start(model, price=0.05)
    for k in range(8):
        train_step(model, optimizer, pruner, k)
    x = points(5)[0]
    model.train()
    model(x)
    twin = copy.deepcopy(model).eval()
    expected = output(model.eval(), x)
    assert torch.equal(output(twin, x), expected)
    model.train()
    removals = [train_step(model, optimizer, pruner, k) for k in range(8, 60)]
    assert any(removals)
    assert torch.equal(output(twin, x), expected), "the copy follows nothing of the original"


def test_a_reader_called_without_its_input_first_is_refused() -> None:
    model = network()
    start(model)
    with pytest.raises(RunError, match="gates of fc1 cannot find the input of Linear"):
        model.fc2(other=points(2)[0])


@pytest.mark.parametrize("estimator", ["curvature", "disarm"])
def test_derivatives_of_every_example_by_torch_func(estimator: str) -> None:
    """Nothing hears what a transform differentiates; estimators that compare losses need not."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 12), nn.ReLU(), nn.Linear(12, 2))
    x, y = torch.randn(8, 6), torch.randint(2, (8,))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    pruner = Pruner(model, optimizer, Gates(estimator=estimator, decide="absorb", fall_steps=5), x, steps=20)

    def loss(weights: dict[str, Tensor], x: Tensor, y: Tensor) -> Tensor:
        return F.cross_entropy(functional_call(model, weights, (x[None],)), y[None])

    def derivatives() -> dict[str, Tensor]:
        weights = {name: parameter.detach() for name, parameter in model.named_parameters()}
        found: dict[str, Tensor] = vmap(grad(loss), in_dims=(None, 0, 0), randomness="same")(weights, x, y)
        return found

    if estimator == "curvature":
        with pytest.raises(RunError, match="keep derivatives to themselves"):
            derivatives()
        return
    for _ in range(20):
        found = derivatives()
        for name, parameter in model.named_parameters():
            parameter.grad = found[name].mean(0)
        optimizer.step()
        pruner.step(lambda: F.cross_entropy(model(x), y))
    assert pruner.finish()(x).shape == (8, 2)


def residual(model: nn.Module, x: Tensor) -> Tensor:
    """A loss that holds second derivatives of the network, as that of an equation."""
    x = x.clone().requires_grad_()
    first = torch.autograd.grad(model(x).sum(), x, create_graph=True)[0]
    second = torch.autograd.grad(first.sum(), x, create_graph=True)[0]
    return (second + x.sin()).square().mean() + model(x).square().mean()


def solver(**options: Any) -> tuple[nn.Module, Any, Pruner, Tensor]:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(1, 12), nn.Tanh(), nn.Linear(12, 9), nn.Tanh(), nn.Linear(9, 1)).double()
    x, optimizer = torch.rand(16, 1, dtype=torch.double), torch.optim.Adam(model.parameters(), lr=1e-2)
    return model, optimizer, Pruner(model, optimizer, Gates(theta=0.7, **options), x, steps=40), x


@pytest.mark.parametrize("draws", ["batch", "example"])
def test_a_loss_of_the_networks_own_derivatives_is_differentiated_whole(draws: str) -> None:
    model, _, pruner, x = solver(draws=draws)
    gates = pruner.method._bank
    with pytest.warns(ParsinetWarning, match="differentiated again"):
        residual(model, x).backward()
    assert not gates.estimates(), "what the inner passes told is no derivative of the loss"
    with torch.no_grad():
        gates.theta.fill_(1)  # every draw is the same, so that both forward passes of the loss have one
    residual(model, x).backward()
    estimates = gates.estimates()
    found = torch.cat([estimates[name] for name in gates.sizes])
    for k in range(0, 21, 4):
        moved = [torch.ones(21, dtype=torch.double).index_add(0, torch.tensor([k]), torch.tensor([e]).double()) for e in (1e-4, -1e-4)]
        losses = []
        for xi in moved:
            with gates.holding(xi):
                losses.append(float(residual(model, x).detach()))
        assert float(found[k]) == pytest.approx((losses[0] - losses[1]) / 2e-4, rel=1e-4, abs=1e-7)


@pytest.mark.parametrize("options", [{}, {"estimator": "disarm"}, {"target": "params=50%"}])
def test_such_a_loss_trains_with_comparisons_too_and_resumes_bitwise(options: dict[str, Any]) -> None:
    def run(model: nn.Module, optimizer: Any, pruner: Pruner, x: Tensor, steps: int) -> None:
        for _ in range(steps):
            residual(model, x).backward()
            optimizer.step()
            optimizer.zero_grad()
            pruner.step(lambda: residual(model, x))

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ParsinetWarning)
        warnings.simplefilter("ignore", UserWarning)
        first = solver(fall_steps=8, **options)
        run(*first, 25)
        state = copy.deepcopy((first[2].state_dict(), first[0].state_dict(), first[1].state_dict(), torch.get_rng_state()))
        run(*first, 15)
        again = solver(fall_steps=8, **options)
        again[2].load_state_dict(state[0])
        again[0].load_state_dict(state[1])
        again[1].load_state_dict(state[2])
        torch.set_rng_state(state[3])
        run(*again, 15)
    x = first[3]
    assert torch.equal(first[2].finish()(x), again[2].finish()(x))


def test_a_closure_that_goes_backward_is_refused_and_leaves_no_gradient() -> None:
    model, optimizer, pruner, x = solver(estimator="disarm")
    residual(model, x).backward()
    optimizer.step()
    optimizer.zero_grad()

    def backward() -> Tensor:
        loss = model(x).square().mean()
        loss.backward()
        return loss

    with pytest.raises(UsageError, match="must not call backward"):
        pruner.step(backward)
    assert all(parameter.grad is None for parameter in model.parameters())


class Again(nn.Module):
    """A part of it runs again in the backward pass."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.rest = nn.Linear(1, 12), nn.Sequential(nn.Tanh(), nn.Linear(12, 9), nn.Tanh(), nn.Linear(9, 1))

    def forward(self, x: Tensor) -> Tensor:
        return checkpoint(self.rest, self.first(x), use_reentrant=True) if self.training else self.rest(self.first(x))


def test_reentrant_checkpointing_of_such_a_loss_is_refused() -> None:
    model = Again()
    optimizer, x = torch.optim.SGD(model.parameters(), lr=0.1), torch.rand(4, 1)
    pruner = Pruner(model, optimizer, Gates(), x, steps=40)
    pruner.method._bank.hearing.differentiated = True
    with pytest.raises(RunError, match="use_reentrant=True"):
        model(x)
