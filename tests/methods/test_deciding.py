"""The end of the gated phase: gates stand at 0 or 1 before it is over, and exact comparisons leave no trace but their verdicts."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from methods import runs
from methods.runs import same
from methods.toys import OPTIMIZERS, bank, network, points, start
from parsinet.data import Batches, Split
from parsinet.errors import UsageError
from parsinet.methods import Gates, deciding
from parsinet.training.loop import fit

STEPS = 240
OPTIONS: dict[str, Any] = {"gated": 0.9, "price": 2e-2, "fall_steps": 40, "interval": 10}


class Run(runs.Run):
    """A short gated run whose pruner gets a closure."""

    def __init__(self, *, closure: bool = True, units: tuple[int, int] = (24, 16), **options: Any) -> None:
        self.closure = closure
        model = network(first=units[0], second=units[1], batch_norm=True)
        super().__init__(model, Gates(**{**OPTIONS, **options}), OPTIMIZERS["adam"], points(4)[0], steps=STEPS, examples=64)

    def step(self, k: int) -> Any:
        x, y = self.batch(k)
        F.cross_entropy(self.model(x), y).backward()
        self.optimizer.step()
        self.optimizer.zero_grad()
        return self.pruner.step(self.loss(x, y) if self.closure else None)

    def loss(self, x: Tensor, y: Tensor) -> Callable[[], Tensor]:
        return lambda: F.cross_entropy(self.model(x), y)

    @property
    def end(self) -> int:
        return round(OPTIONS["gated"] * STEPS) - 1


def interior(run: Run) -> float:
    theta = bank(run.pruner).theta
    return float(((theta > 0.02) & (theta < 0.98)).float().mean())


def trials(run: Run) -> Tensor:
    return run.pruner.method._deciding.trials.rows  # type: ignore[attr-defined,no-any-return]


@pytest.mark.parametrize("closure", [True, False])
def test_nothing_is_undecided_when_the_gated_phase_ends(closure: bool) -> None:
    run = Run(closure=closure)
    run.advance(0, run.end)
    assert not run.pruner.settled
    assert interior(run) == 0
    assert bool((trials(run)[0] > 0).any()) == closure
    loss, (x, y) = run.loss(*points(300, seed=7)), points(1, seed=run.end)
    run.model.eval()
    before, widths = loss(), run.pruner.widths()
    run.model.train()
    F.cross_entropy(run.model(torch.cat([x, x])), torch.cat([y, y])).backward()
    run.pruner.step()
    run.model.eval()
    assert run.pruner.settled
    assert run.pruner.widths() == widths or torch.allclose(loss(), before, atol=1e-5), "rounding has nothing to do"


def test_rounding_leaves_gates_undecided() -> None:
    """The law above can fail."""
    run = Run(decide="round")
    run.advance(0, run.end)
    assert interior(run) > 0.05
    assert not trials(run).any()


def exact(run: Run, batches: int = 30) -> dict[str, Tensor]:
    """Usefulness of every unit by switching it off in the settled network."""
    held = bank(run.pruner)
    run.model.train()
    total = torch.zeros(len(held.theta), dtype=torch.float64)
    for k in range(batches):
        x, y = points(256, seed=10_000 + k)
        held.theta.copy_(held.theta.round())
        total += deciding.gains(run.loss(x, y), run.model, held, list(range(len(total))))
    return held.split(total / batches)  # type: ignore[no-any-return]


def test_survivors_are_worth_their_price() -> None:
    run = Run(fall_steps=120)
    run.advance(0, run.end)
    gains, theta = torch.cat(list(exact(run).values())), bank(run.pruner).theta
    assert int(theta.sum()) > 4
    assert float((gains[theta == 1] > OPTIONS["price"]).float().mean()) >= 0.8


class Noisy(nn.Module):
    """Dropout and running statistics: everything an evaluation could disturb."""

    def __init__(self) -> None:
        super().__init__()
        self.fc1, self.norm, self.drop = nn.Linear(2, 12), nn.BatchNorm1d(12), nn.Dropout(0.5)
        self.fc2, self.out = nn.Linear(12, 8), nn.Linear(8, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(torch.relu(self.fc2(self.drop(torch.relu(self.norm(self.fc1(x)))))))


def test_comparisons_are_paired_and_leave_no_trace() -> None:
    model = Noisy()
    _, pruner = start(model, theta=1.0)
    x, y = points()
    before, random = copy.deepcopy(model.state_dict()), torch.get_rng_state()
    loss = lambda: F.cross_entropy(model(x), y)  # noqa: E731
    gains = deciding.gains(loss, model, bank(pruner), [0, 1, 2, 0])
    assert gains[0] == gains[3], "same dropout, same statistics"
    assert torch.equal(torch.get_rng_state(), random)
    assert all(torch.equal(before[key], value) for key, value in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())
    assert not bank(pruner).hearing.pending
    model.fc2.weight.data[:, 1] = 0
    assert deciding.gains(loss, model, bank(pruner), [1]) == 0, "a unit nobody reads gains nothing"


class Counting(nn.Module):
    """Puts a new tensor in the place of a buffer in every pass."""

    def __init__(self) -> None:
        super().__init__()
        self.fc1, self.out = nn.Linear(2, 6), nn.Linear(6, 2)
        self.register_buffer("passes", torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        self.passes = self.passes + 1
        return self.out(torch.relu(self.fc1(x)))


@pytest.mark.parametrize("kind", [Noisy, Counting])
def test_an_evaluation_that_fails_leaves_no_trace_either(kind: type[nn.Module]) -> None:
    model = kind()
    _, pruner = start(model, theta=1.0)
    before = copy.deepcopy(model.state_dict())

    def fails() -> Tensor:
        raise MemoryError(model(points()[0]).shape)

    with pytest.raises(MemoryError):
        deciding.gains(fails, model, bank(pruner), [0])
    assert same(model.state_dict(), before)
    deciding.gains(lambda: F.cross_entropy(model(points()[0]), points()[1]), model, bank(pruner), [0])
    assert same(model.state_dict(), before)


def test_a_batch_whose_loss_is_not_finite_says_nothing() -> None:
    run = Run(deciding=1.0)
    for k in range(8):
        F.cross_entropy(run.model(points(seed=k)[0]), points(seed=k)[1]).backward()
        run.pruner.step(lambda: torch.tensor(float("nan")))
    assert not trials(run).any()


def test_gains_are_what_closing_the_unit_costs() -> None:
    model = network().double()
    _, pruner = start(model, theta=1.0)
    x, y = points()
    x = x.double()
    found = deciding.gains(lambda: F.cross_entropy(model(x), y), model, bank(pruner), [3, 14])
    closed = []
    for layer, unit in (("fc2", 3), ("out", 2)):
        twin = copy.deepcopy(network().double())
        twin.get_parameter(f"{layer}.weight").data[:, unit] = 0
        with torch.no_grad():
            closed.append(float(F.cross_entropy(twin(x), y) - F.cross_entropy(network().double()(x), y)))
    assert found.tolist() == pytest.approx(closed, abs=2e-7), "losses are compared in float32"


@pytest.mark.slow
def test_flips_without_a_closure_are_absorbing_ends() -> None:
    states = []
    for kind in ("flips", "absorb"):
        run = Run(closure=False, decide=kind)
        run.advance(0, run.end)
        states.append(bank(run.pruner).theta.clone())
    assert torch.equal(*states)


def test_no_group_loses_its_last_open_unit() -> None:
    """Here only trials can close anything, and every unit costs more than it is worth."""
    run = Run(price=50.0, fall_steps=10**6, gated=1.0, deciding=1.0, units=(4, 3))
    run.advance(0, STEPS)
    assert run.pruner.widths() == {"fc1": 1, "fc2": 1}


@pytest.mark.parametrize("lost", [None, "trials"])
def test_resume_amid_trials_is_bitwise(lost: str | None) -> None:
    run = Run(fall_steps=120)
    run.advance(0, 150)
    saved = run.state()
    assert bool((trials(run)[2] > 0).any()), "a trial is running"
    twin = Run(fall_steps=120)
    if lost:
        saved["pruner"]["method"]["state"][lost].zero_()
    twin.load(saved)
    run.advance(150, STEPS)
    twin.advance(150, STEPS)
    assert same(run.state(), twin.state()) == (lost is None)


def test_the_phase_is_the_last_share_of_the_gated_one() -> None:
    phase = deciding.Deciding("absorb", 0.4)
    phase.attach(3, 100)
    assert [step for step in range(1, 101) if phase.begun(step)] == list(range(61, 101))
    phase.attach(3, 0)
    assert not any(phase.begun(step) for step in range(1, 1000)), "without the length of the run there is no last part"


@pytest.mark.parametrize("patient", [False, True])
def test_trials_shorten_until_every_undecided_unit_has_one(patient: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Gates that only trials can move, more of them than there is time to try at length."""
    if patient:
        monkeypatch.setattr(deciding.Deciding, "_most", lambda self, theta, step: deciding.MOST)
    run = Run(theta=0.5, fall_steps=10**9)
    run.advance(0, run.end)
    assert interior(run) > 0.5 if patient else interior(run) < 0.2


def test_the_loop_offers_its_loss() -> None:
    model = network(first=24, second=16)
    optimizer, pruner = start(model, steps=60, gated=1.0, fall_steps=1000)
    seen = []
    pruner.method.probe = lambda loss: seen.append(float(loss().detach()))  # type: ignore[attr-defined]
    fit(model, optimizer, Batches(Split(*points(120)), 40, seed=0), epochs=2, pruner=pruner)
    assert len(seen) == 6
    assert all(0 < loss < 5 for loss in seen)


def test_a_closure_that_returns_no_loss_is_refused() -> None:
    model = network()
    _, pruner = start(model, theta=1.0)
    with pytest.raises(UsageError, match="closure given to step must return the batch's mean loss"):
        deciding.gains(lambda: model(points()[0]), model, bank(pruner), [0])
