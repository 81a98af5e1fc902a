"""The loop against one written by hand, bit for bit, and what it does when things go wrong."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from parsinet.data import Batches, Split
from parsinet.errors import ArgumentTypeError, RunError, UsageError
from parsinet.methods import Removal
from parsinet.training import Callback, EpochResult, LoopState, NotFiniteError, fit

N, BATCH = 50, 16


def split(dtype: torch.dtype = torch.float32) -> Split:
    generator = torch.Generator().manual_seed(3)
    inputs = torch.randn(N, 6, generator=generator, dtype=dtype)
    return Split(inputs, (inputs.sum(1) > 0).long() + (inputs[:, 0] > 0.5).long())


def network() -> nn.Sequential:
    with torch.random.fork_rng():
        torch.manual_seed(1)
        return nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 3))


def tensors(model: nn.Module) -> list[Tensor]:
    return [value.clone() for value in model.state_dict().values()]


def same(one: nn.Module, other: nn.Module) -> bool:
    return all(torch.equal(a, b) for a, b in zip(tensors(one), tensors(other), strict=True))


class FakePruner:
    """Removes nothing, but penalises, reports a removal at step 2 and settles at step 3."""

    def __init__(self, model: nn.Module) -> None:
        self.model, self.steps = model, 0

    @property
    def settled(self) -> bool:
        return self.steps >= 3

    def penalty(self) -> Tensor:
        return 0.01 * self.model.get_parameter("0.weight").square().sum()

    def step(self, closure: Callable[[], Tensor] | None = None) -> Removal | None:
        self.steps += 1
        return Removal(self.steps, {"0": (8, 7)}) if self.steps == 2 else None


def by_hand(
    model: nn.Module, optimizer: torch.optim.Optimizer, epochs: int, penalty: Callable[[], Any] = lambda: 0.0, clip: float | None = None
) -> None:
    batches = Batches(split(), BATCH, seed=5)
    model.train()
    for _ in range(epochs):
        for x, y in batches:
            loss = functional.cross_entropy(model(x), y) + penalty()
            loss.backward()  # type: ignore[no-untyped-call]
            if clip:
                nn.utils.clip_grad_norm_(model.parameters(), clip)
            optimizer.step()
            optimizer.zero_grad()


OPTIMIZERS: dict[str, Callable[[Any], torch.optim.Optimizer]] = {
    "sgd": lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9),
    "adam": lambda p: torch.optim.Adam(p, lr=1e-2),
    "adamw-fused": lambda p: torch.optim.AdamW(p, lr=1e-2, fused=True),
}


@pytest.mark.parametrize("kind", OPTIMIZERS)
@pytest.mark.parametrize("clip", [None, 0.1])
def test_equals_a_hand_written_loop_bitwise(kind: str, clip: float | None) -> None:
    ours, theirs = network(), network()
    fit(ours, OPTIMIZERS[kind](ours.parameters()), Batches(split(), BATCH, seed=5), epochs=3, gradient_clip=clip)
    by_hand(theirs, OPTIMIZERS[kind](theirs.parameters()), 3, clip=clip)
    assert same(ours, theirs)
    assert not same(ours, network())


def test_the_comparison_sees_one_step_too_many() -> None:
    ours, theirs = network(), network()
    fit(ours, OPTIMIZERS["sgd"](ours.parameters()), Batches(split(), BATCH, seed=5), epochs=2)
    by_hand(theirs, OPTIMIZERS["sgd"](theirs.parameters()), 3)
    assert not same(ours, theirs)


def test_penalty_enters_the_gradient_and_not_the_reported_loss() -> None:
    ours, theirs = network(), network()
    seen = Witness()
    pruner: Any = FakePruner(ours)
    fit(ours, OPTIMIZERS["sgd"](ours.parameters()), Batches(split(), BATCH, seed=5), epochs=1, pruner=pruner, callbacks=[seen])
    by_hand(theirs, OPTIMIZERS["sgd"](theirs.parameters()), 1, FakePruner(theirs).penalty)
    assert same(ours, theirs)
    plain = Witness()
    without = network()
    fit(without, OPTIMIZERS["sgd"](without.parameters()), Batches(split(), N, seed=5), epochs=1, callbacks=[plain])
    whole = network().train()
    x, y = next(iter(Batches(split(), N, seed=5)))
    assert plain.results[0].loss == pytest.approx(functional.cross_entropy(whole(x), y).item(), rel=1e-6)


class Witness(Callback):
    """Writes down every call."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.results: list[EpochResult] = []
        self.rates: list[list[float]] = []

    def on_start(self, state: LoopState) -> None:
        self.calls.append("start")

    def on_step(self, state: LoopState) -> None:
        self.calls.append(f"step {state.step}")
        self.rates.append([group["lr"] for group in state.optimizer.param_groups])

    def on_removal(self, state: LoopState, removal: Removal) -> None:
        self.calls.append(f"removal {removal.step} in epoch {state.epoch}")

    def on_settled(self, state: LoopState) -> None:
        self.calls.append("settled")

    def on_epoch(self, state: LoopState, result: EpochResult) -> None:
        self.calls.append(f"epoch {result.epoch}")
        self.results.append(result)

    def on_end(self, state: LoopState) -> None:
        self.calls.append("end")


def test_callbacks_come_in_order() -> None:
    model, seen = network(), Witness()
    pruner: Any = FakePruner(model)
    fit(model, OPTIMIZERS["sgd"](model.parameters()), Batches(split(), 25), epochs=2, pruner=pruner, callbacks=[seen])
    assert seen.calls == [
        "start", "step 1", "removal 2 in epoch 1", "step 2", "epoch 1", "settled", "step 3", "step 4", "epoch 2", "end",
    ]  # fmt: skip


def test_reported_loss_and_error_are_means_over_examples_whatever_the_batches() -> None:
    """Zero learning rate: the network stays, so the epoch's numbers are those of one pass in training mode per batch."""
    seen = Witness()
    model = nn.Sequential(nn.Linear(6, 3))
    fit(model, torch.optim.SGD(model.parameters(), lr=0.0), Batches(split(), BATCH), epochs=1, callbacks=[seen], check_every=2)
    logits, y = model(split().inputs), split().targets
    assert seen.results[0].loss == pytest.approx(functional.cross_entropy(logits, y).item(), rel=1e-6)
    assert seen.results[0].error == (logits.argmax(1) != y).sum().item() / N


def test_learning_rate_is_set_by_step_and_groups_keep_their_ratio() -> None:
    model, seen = network(), Witness()
    groups = [{"params": list(model[0].parameters())}, {"params": list(model[3].parameters()), "lr": 0.2}]
    optimizer = torch.optim.SGD(groups, lr=0.1)
    fit(model, optimizer, Batches(split(), 25), epochs=2, learning_rate=lambda step: 0.1 / (step + 1), callbacks=[seen])
    assert seen.rates == [[pytest.approx(0.1 / k), pytest.approx(0.2 / k)] for k in (1, 2, 3, 4)]


@dataclass
class Poisoned:
    """Batches whose inputs are NaN from global step `bad` on."""

    bad: int
    epoch: int = 0
    given: int = 0

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        for _ in range(10):
            self.given += 1
            x = torch.zeros(4, 6) if self.given < self.bad else torch.full((4, 6), torch.nan)
            yield x, torch.zeros(4, dtype=torch.int64)
        self.epoch += 1


@pytest.mark.parametrize(("bad", "epoch"), [(1, 1), (7, 1), (10, 1), (11, 2), (14, 2)])
@pytest.mark.parametrize("check_every", [1, 3, 25])
def test_a_loss_that_is_not_finite_stops_with_its_step(bad: int, epoch: int, check_every: int) -> None:
    model = nn.Linear(6, 3)
    with pytest.raises(NotFiniteError, match=f"epoch {epoch}, step {bad}") as caught:
        fit(model, torch.optim.SGD(model.parameters(), lr=0.1), Poisoned(bad), epochs=3, check_every=check_every)
    assert (caught.value.epoch, caught.value.step) == (epoch, bad)
    assert isinstance(caught.value, RunError)


def test_a_weight_that_is_not_finite_stops_before_the_epoch_is_called_good() -> None:
    model, seen = nn.Linear(6, 3), Witness()

    def overflowing(logits: Tensor, targets: Tensor) -> Tensor:
        return 1e30 * logits.sum()

    with pytest.raises(NotFiniteError, match="weight"):
        fit(model, torch.optim.SGD(model.parameters(), lr=1e30), Batches(split(), N), epochs=1, objective=overflowing, callbacks=[seen])
    assert "epoch 1" not in seen.calls


class Stopper(Callback):
    """Asks for the end at a step."""

    def __init__(self, step: int) -> None:
        self.step = step

    def on_step(self, state: LoopState) -> None:
        state.stop = state.step == self.step


@pytest.mark.parametrize("step", [1, 4, 5, 8])
def test_stopped_and_continued_equals_uninterrupted(step: int) -> None:
    whole, parts = network(), network()
    seen, first, second = Witness(), Witness(), Witness()
    fit(whole, OPTIMIZERS["adam"](whole.parameters()), Batches(split(), BATCH, seed=5), epochs=3, callbacks=[seen])
    optimizer, batches = OPTIMIZERS["adam"](parts.parameters()), Batches(split(), BATCH, seed=5)
    state = fit(parts, optimizer, batches, epochs=3, callbacks=[first, Stopper(step)])
    assert state.step == step
    again = LoopState(parts, optimizer, batches, 3)
    again.load_state_dict(state.state_dict())
    fit(parts, optimizer, batches, epochs=3, callbacks=[second], state=again)
    assert same(whole, parts)
    assert first.results + second.results == seen.results


@pytest.mark.parametrize("wrong", [{"epochs": 0}, {"epochs": 1, "check_every": 0}])
def test_counts_below_one_are_refused(wrong: dict[str, int]) -> None:
    model = network()
    with pytest.raises(UsageError, match="must be a whole number ≥ 1"):
        fit(model, OPTIMIZERS["sgd"](model.parameters()), Batches(split(), BATCH), **wrong)


@pytest.mark.parametrize("clip", [-1.0, 0.0, float("nan"), "1"])
def test_a_largest_norm_that_is_none_is_refused(clip: Any) -> None:
    model = network()
    with pytest.raises(UsageError, match="fit: gradient_clip must be"):
        fit(model, OPTIMIZERS["sgd"](model.parameters()), Batches(split(), BATCH), epochs=1, gradient_clip=clip)


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"objective": "ce"}, "objective must be a function"),
        ({"learning_rate": 0.1}, "learning_rate must be a function"),
        ({"precision": "bfloat16"}, r"precision must be a parsinet\.training\.Precision"),
        ({"average": 0.9}, r"average must be a parsinet\.training\.Average"),
        ({"teacher": 3}, r"teacher must be a parsinet\.training\.Teacher"),
        ({"compiled": True}, r"compiled must be a parsinet\.training\.Compiled"),
        ({"callbacks": 3}, r"callbacks must be a list of parsinet\.training\.Callback"),
        ({"callbacks": [print]}, r"callbacks must be a list of parsinet\.training\.Callback"),
    ],
)
def test_another_kind_of_thing_is_refused(wrong: dict[str, Any], words: str) -> None:
    model = network()
    with pytest.raises(ArgumentTypeError, match=words):
        fit(model, OPTIMIZERS["sgd"](model.parameters()), Batches(split(), BATCH), epochs=1, **wrong)
