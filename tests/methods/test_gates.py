"""Gates at work: who falls, who stays, the guard, and the end of the gated phase."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from methods.toys import OPTIMIZERS, bank, network, points, start, train_step
from parsinet.errors import UsageError
from parsinet.gates import exact_flip
from parsinet.methods import Dense, Pruner
from parsinet.methods.openness import Openness


def flips(model: nn.Module, pruner: Pruner, x: Tensor, y: Tensor, draws: int) -> Tensor:
    """Usefulness by enumeration: the mean over draws ξ ~ Bern(0.9) of C(ξ_i = 0) − C(ξ_i = 1)."""
    theta, generator = bank(pruner).theta, torch.Generator().manual_seed(5)

    def loss(xi: Tensor) -> Tensor:
        theta.copy_(xi)
        return F.cross_entropy(model(x), y)

    total = torch.zeros(len(theta))
    for _ in range(draws):
        xi = (torch.rand(len(theta), generator=generator) < 0.9).float()
        total += torch.stack([-exact_flip(loss, xi, unit) for unit in range(len(theta))])
    return total / draws


@pytest.mark.parametrize("estimator", ["curvature", pytest.param("straight-through", marks=pytest.mark.slow)])
def test_usefulness_has_the_sign_and_the_order_of_exact_flips(estimator: str) -> None:
    """On a network trained under gates that do not move. The bound on the correlation: 0.90 and 0.91 were measured with more draws."""
    model, (x, y) = network(first=24, second=16), points(256, seed=1000)
    optimizer, pruner = start(model, fall_steps=10**9, interval=10**9, estimator=estimator)
    for k in range(600):
        train_step(model, optimizer, pruner, k)
    exact = flips(model, pruner, x, y, 20)
    usefulness = torch.zeros(40)
    for _ in range(150):
        bank(pruner).theta.fill_(0.9)
        F.cross_entropy(model(x), y).backward()
        usefulness -= torch.cat(list(bank(pruner).estimates().values())) / 150
    useful = exact > 0.02
    assert int(useful.sum()) >= 3
    assert bool((usefulness[useful] > 0).all())
    assert torch.corrcoef(torch.stack([exact, usefulness]))[0, 1] > 0.75


def test_a_useless_unit_falls_in_the_fall_time_and_leaves() -> None:
    """A unit nobody reads has no gradient; θ goes from 0.9 to 0 in 0.9·T_fall steps, and the next look removes it."""
    model = network()
    model.fc2.weight.data[:, 3] = 0
    optimizer, pruner = start(model, lambda groups: torch.optim.SGD(groups, lr=0.0), fall_steps=40, interval=4, price=1e-5)
    for k in range(35):
        train_step(model, optimizer, pruner, k)
        assert 3 in pruner.units("fc1")
        assert bank(pruner).theta[pruner.units("fc1").index(3)] == pytest.approx(0.9 - (k + 1) / 40, abs=1e-5)
    removal = train_step(model, optimizer, pruner, 35)
    assert removal is not None
    assert removal.step == 36
    assert 3 not in pruner.units("fc1")


def test_the_network_keeps_what_it_needs_and_loses_what_it_does_not() -> None:
    """Started six times as wide, the ring is still learned, and far fewer units remain."""
    model = network(first=72, second=48)
    optimizer, pruner = start(model, steps=500, fall_steps=60, interval=10, price=5e-3)
    for k in range(500):
        train_step(model, optimizer, pruner, k)
    assert pruner.settled
    x, y = points(500, seed=999)
    assert float((pruner.finish().eval()(x).argmax(1) == y).float().mean()) > 0.93
    assert sum(pruner.widths().values()) < 60


def test_a_group_never_closes_as_a_whole() -> None:
    model = network()
    optimizer, pruner = start(model, price=100.0, fall_steps=100, interval=7)
    for k in range(150):
        train_step(model, optimizer, pruner, k)
        assert all(float(theta.max()) >= 0.5 for _, theta, _ in bank(pruner).rows())
    assert pruner.widths() == {"fc1": 1, "fc2": 1}
    pruner.finish()
    assert pruner.widths() == {"fc1": 1, "fc2": 1}


def test_even_between_two_looks_of_the_guard_evaluation_leaves_a_unit_open() -> None:
    model = network()
    _, pruner = start(model)
    bank(pruner).theta.fill_(0.1)
    bank(pruner).usefulness[5] = 1
    model.eval()(points(3)[0])
    assert bank(pruner)._draw.xi["fc1"].nonzero().flatten().tolist() == [5]
    pruner.finish()
    assert pruner.widths() == {"fc1": 1, "fc2": 1}
    assert pruner.units("fc1") == [5]


@pytest.mark.parametrize("options", [{}, {"cost_price": 0.1}])
def test_a_loss_that_is_not_finite_moves_no_gate(options: dict[str, float]) -> None:
    """The loop may well skip the step; the gates have to outlive the batch."""
    model = network()
    optimizer, pruner = start(model, fall_steps=1000, interval=1000, **options)
    train_step(model, optimizer, pruner, 0)
    theta = bank(pruner).theta.clone()
    x, y = points()
    (F.cross_entropy(model(x), y) * float("inf")).backward()
    optimizer.zero_grad()
    pruner.step()
    assert torch.equal(bank(pruner).theta, theta)
    assert bool(bank(pruner).usefulness.isfinite().all())


def test_gates_that_never_learned_say_so() -> None:
    """Here the model was left in evaluation mode: no gate is drawn and nothing can be learned of one."""
    model = network().eval()
    optimizer, pruner = start(model, steps=10)
    for k in range(5):
        train_step(model, optimizer, pruner, k)
    with pytest.warns(UserWarning, match=r"Gates: in 6 steps no backward pass went through a gate.*model.train\(\)"):
        train_step(model, optimizer, pruner, 5)


def test_the_warm_up_removes_nothing() -> None:
    model = network()
    optimizer, pruner = start(model, price=10.0, steps=100, warmup=0.3, fall_steps=5, interval=5)
    steps = [k + 1 for k in range(60) if train_step(model, optimizer, pruner, k)]
    assert steps
    assert steps[0] == 35


def test_a_warm_up_that_outlasts_the_gates_is_refused() -> None:
    with pytest.raises(UsageError, match=r"with warmup=0.3 no unit could leave before gates cease to act, at gated=0.3 of the run"):
        start(network(), steps=100, warmup=0.3, gated=0.3)


@pytest.mark.parametrize("options", [{"target": "params=30%"}, {"cost_price": 1.0}])
def test_prices_follow_the_gates_through_a_warm_up(options: dict[str, Any]) -> None:
    model = network()
    optimizer, pruner = start(model, steps=100, warmup=0.35, fall_steps=20, interval=5, **options)
    told = []
    for k in range(34):
        assert train_step(model, optimizer, pruner, k) is None
        told.append(json.dumps(pruner.describe()["price"]))
    assert len(set(told)) >= 3, "several looks"


def test_the_usefulness_that_is_told_is_a_mean_from_the_first_step_on() -> None:
    """Of a network that does not move on one batch, with gates that are open: every estimate is the same."""
    model = network()
    optimizer, pruner = start(model, lambda groups: torch.optim.SGD(groups, lr=0.0), price=1e-3, theta=1.0, fall_steps=10**9)
    seen = []
    for _ in range(5):
        train_step(model, optimizer, pruner, 0)
        seen.append([facts["usefulness"] for facts in pruner.describe()["groups"].values()])
    assert seen[0] == pytest.approx(seen[-1], rel=1e-4)


@pytest.mark.parametrize("draws", ["batch", "example"])
def test_a_batch_without_examples_moves_no_gate(draws: str) -> None:
    model = network()
    optimizer, pruner = start(model, fall_steps=20, draws=draws)
    train_step(model, optimizer, pruner, 0)
    before = bank(pruner).theta.clone()
    (0 * model(points(4)[0][:0]).sum()).backward()
    pruner.step()
    assert torch.equal(bank(pruner).theta, before)
    x, y = points(8)
    for part in (x[:0], x):
        (F.cross_entropy(model(part), y[: len(part)], reduction="sum") / len(x)).backward()
    pruner.step()
    assert bool(bank(pruner).theta.isfinite().all())
    assert not torch.equal(bank(pruner).theta, before)


def test_the_gated_phase_ends_with_the_rounded_network() -> None:
    model = network()
    optimizer, pruner = start(model, steps=20, gated=0.5, price=1e-4, fall_steps=1000)
    for k in range(9):
        assert train_step(model, optimizer, pruner, k) is None
    assert not pruner.settled
    bank(pruner).theta.copy_(torch.tensor([0.2, 0.8] * 10))
    removal = train_step(model, optimizer, pruner, 9)
    assert removal is not None
    assert removal.groups == {"fc1": (12, 6), "fc2": (8, 4)}
    assert pruner.settled
    assert pruner.units("fc1") == [1, 3, 5, 7, 9, 11]
    assert not any(module._forward_pre_hooks for module in model.modules())
    assert all(train_step(model, optimizer, pruner, k) is None for k in range(10, 30))
    assert pruner.describe() == {"price": 1e-4, "risen": 1.0, "gated": 0.5, "doubt": 0.0, "settled": True, "groups": {}}


def test_finish_settles_once_and_may_be_called_again() -> None:
    model = network()
    optimizer, pruner = start(model, fall_steps=1000)
    train_step(model, optimizer, pruner, 0)
    bank(pruner).theta[:4] = 0
    assert pruner.finish() is model
    state = copy.deepcopy(model.state_dict())
    assert pruner.widths() == {"fc1": 8, "fc2": 8}
    assert pruner.finish() is model
    assert all(torch.equal(state[key], value) for key, value in model.state_dict().items())
    assert pruner.step() is None


def test_what_is_told_of_the_gates_is_json() -> None:
    model = network()
    optimizer, pruner = start(model, price=2e-3)
    train_step(model, optimizer, pruner, 0)
    told = json.loads(json.dumps(pruner.describe()))
    assert told["price"] == 2e-3
    assert told["settled"] is False
    group = told["groups"]["fc1"]
    assert len(group["theta"]) == 12
    assert group["sum"] == pytest.approx(sum(group["theta"]), abs=1e-3)
    assert 0 <= group["interior"] <= 1


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_widths_are_multiples_and_the_best_of_the_leaving_stay(optimizer: str) -> None:
    model = network(first=22, second=16)
    built, pruner = start(model, OPTIMIZERS[optimizer], steps=120, price=0.02)
    pruner.round_to = 8
    for k in range(120):
        train_step(model, built, pruner, k)
        assert pruner.widths()["fc1"] in (8, 16, 22)
        assert pruner.widths()["fc2"] in (8, 16)
        assert {"fc1": len(model.fc1.bias), "fc2": len(model.fc2.bias)} == pruner.widths()
    assert pruner.widths() != {"fc1": 22, "fc2": 16}


def test_scores_put_open_gates_first_and_useful_ones_among_equals() -> None:
    _, pruner = start(network())
    bank(pruner).theta[:4] = torch.tensor([0.0, 0.0, 1.0, 0.3])
    bank(pruner).usefulness[:4] = torch.tensor([-1.0, 1e-3, -1.0, -1.0])
    assert pruner.method.scores()["fc1"][:4].argsort(descending=True).tolist() == [2, 3, 1, 0]


def test_the_price_acts_on_the_gates_and_not_on_the_loss() -> None:
    _, pruner = start(network())
    assert pruner.penalty() == 0.0


def test_weights_decay_and_vectors_do_not() -> None:
    groups = Dense().param_groups(network(batch_norm=True))
    assert [parameter.dim() for parameter in groups[0]["params"]] == [2, 2, 2]
    assert {parameter.dim() for parameter in groups[1]["params"]} == {1}
    assert groups[1]["weight_decay"] == 0.0


def test_two_networks_in_one_process_do_not_share_draws() -> None:
    """The draws come from the method's own generator: another method, or the user's own random numbers, change nothing."""
    thetas = []
    for disturb in (False, True):
        model = network()
        optimizer, pruner = start(model)
        for k in range(5):
            if disturb:
                torch.rand(3)
            train_step(model, optimizer, pruner, k)
        thetas.append(bank(pruner).theta.clone())
    assert torch.equal(*thetas)


def test_another_method_s_name_is_refused_on_resume() -> None:
    model = network()
    pruner = Pruner(model, torch.optim.SGD(model.parameters()), Dense(), points(4)[0])
    with pytest.raises(UsageError, match="is of method 'dense', this pruner runs 'gates'"):
        start(network())[1].load_state_dict(pruner.state_dict())


def test_gates_can_start_spread_between_two_ends_and_blocks_at_the_upper() -> None:
    """Uniform per unit, the same for the same seed, other for another; one number draws nothing."""
    sizes = {"a": 4000, "b.block": 1, "c": 10}
    first, again, other = (
        Openness.given((0.2, 1.0)).row(sizes, {"b.block"}, torch.Generator().manual_seed(s), doubts=False) for s in (3, 3, 4)
    )
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert first[4000] == 1.0
    assert 0.2 <= float(first.min()) < 0.21
    assert 0.99 < float(first[:4000].max()) <= 1.0
    assert float(first[:4000].mean()) == pytest.approx(0.6, abs=0.02)
    random = torch.Generator().manual_seed(3)
    before = random.get_state()
    assert Openness.given(0.9).row(sizes, set(), random, doubts=True).eq(0.9).all()
    assert torch.equal(random.get_state(), before)


def test_spread_gates_leave_one_after_another() -> None:
    """Units that nobody reads, from 0 to 1: after half of the fall time about half are gone; all alike, none is."""
    gone = {}
    for theta in (1.0, (0.0, 1.0)):
        model = network(first=200)
        model.fc2.weight.data.zero_()
        optimizer, pruner = start(
            model, lambda groups: torch.optim.SGD(groups, lr=0.0), fall_steps=40, interval=4, price=1e-5, theta=theta, groups=["fc1"]
        )
        for k in range(20):
            train_step(model, optimizer, pruner, k)
        gone[theta] = 200 - len(pruner.units("fc1"))
    assert gone[1.0] == 0
    assert 80 <= gone[(0.0, 1.0)] <= 120
