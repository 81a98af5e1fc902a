"""Mixed precision and steps over several batches: the loop against one written by hand, and the laws of a mean."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from parsinet.data import Batches, Split
from parsinet.errors import UsageError
from parsinet.methods import Gates, Pruner
from parsinet.training import Callback, LoopState, Precision, fit

N, BATCH = 50, 8
KINDS = {"bfloat16": torch.bfloat16, "float16": torch.float16}


def split(dtype: torch.dtype = torch.float32) -> Split:
    inputs = torch.randn(N, 6, generator=torch.Generator().manual_seed(3), dtype=dtype)
    return Split(inputs, (inputs.sum(1) > 0).long() + (inputs[:, 0] > 0.5).long())


def network(dtype: torch.dtype = torch.float32) -> nn.Sequential:
    with torch.random.fork_rng():
        torch.manual_seed(1)
        return nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 3)).to(dtype)


def sgd(model: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)


def same(one: nn.Module, other: nn.Module, tolerance: float = 0) -> bool:
    return all(torch.allclose(a, b, rtol=0, atol=tolerance) for a, b in zip(one.parameters(), other.parameters(), strict=True))


@pytest.mark.parametrize("clip", [None, 0.1])
@pytest.mark.parametrize("kind", KINDS)
def test_mixed_precision_equals_a_hand_written_loop_bitwise(kind: Any, clip: float | None) -> None:
    ours, theirs, full = network(), network(), network()
    fit(ours, sgd(ours), Batches(split(), BATCH, seed=5), epochs=2, precision=Precision(kind), gradient_clip=clip)
    fit(full, sgd(full), Batches(split(), BATCH, seed=5), epochs=2, gradient_clip=clip)
    optimizer, scaler, batches = sgd(theirs), torch.amp.GradScaler("cpu", enabled=kind == "float16"), Batches(split(), BATCH, seed=5)
    for _ in range(2):
        for x, y in batches:
            with torch.autocast("cpu", KINDS[kind]):
                loss = F.cross_entropy(theirs(x), y)
            scaler.scale(loss).backward()  # type: ignore[no-untyped-call]
            scaler.unscale_(optimizer)
            if clip:
                nn.utils.clip_grad_norm_(theirs.parameters(), clip)
            scaler.step(optimizer)
            scaler.update()
            optimizer.zero_grad()
    assert same(ours, theirs)
    assert same(ours, full, 0.05)
    assert not same(ours, full)


def test_clipping_sees_the_true_gradient() -> None:
    """A bound far above it changes nothing; the scaled one is 65536 times larger."""
    one, other = network(), network()
    for model, clip in ((one, None), (other, 100.0)):
        fit(model, sgd(model), Batches(split(), BATCH), epochs=1, precision=Precision("float16"), gradient_clip=clip)
    assert same(one, other)


def test_a_step_that_overflows_is_left_out_and_counted() -> None:
    model, precision = network(), Precision("float16")
    start = network()
    state = fit(model, sgd(model), Batches(split(), N), epochs=1, precision=precision, objective=lambda z, y: 1e37 * F.cross_entropy(z, y))
    assert same(model, start)
    assert state.step == 1
    assert precision.state_dict()["scale"] == 2.0**15
    again = Precision("float16")
    again.load_state_dict(precision.state_dict())
    assert again.state_dict() == precision.state_dict()


def test_comparisons_run_in_the_same_precision() -> None:
    seen: list[torch.dtype] = []
    model = network()
    method = Gates(fall_steps=5, interval=100, gated=1.0, deciding=1.0)
    precision = Precision("bfloat16")
    optimizer = torch.optim.SGD(method.param_groups(model), lr=0.1)
    pruner = Pruner(model, optimizer, method, split().inputs[:2], steps=14, examples=N)

    def objective(logits: Tensor, targets: Tensor) -> Tensor:
        seen.append(logits.dtype)
        return F.cross_entropy(logits, targets)

    state = fit(model, optimizer, Batches(split(), BATCH), epochs=2, precision=precision, objective=objective, pruner=pruner)
    assert set(seen) == {torch.bfloat16}
    assert len(seen) > state.step


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Precision("float8"), "kind must be 'full', 'bfloat16' or 'float16', got 'float8'"),  # type: ignore[arg-type]
        (lambda: Precision("float16").check(network(torch.float64)), "float16 needs parameters in float32, here are torch.float64"),
    ],
)
def test_what_cannot_be_is_refused(make: Any, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        make()


class Told(Callback):
    """The losses of epochs, and where batches stood after each step."""

    def __init__(self) -> None:
        self.epochs: list[tuple[float, float]] = []
        self.positions: list[int] = []

    def on_step(self, state: LoopState) -> None:
        self.positions.append(state.batches.position)  # type: ignore[attr-defined]

    def on_epoch(self, state: LoopState, result: Any) -> None:
        self.epochs.append((result.loss, result.error))


@pytest.mark.parametrize("clip", [None, 0.05])
@pytest.mark.parametrize("accumulate", [2, 3, 50])
def test_several_batches_make_the_step_of_their_examples_together(accumulate: int, clip: float | None) -> None:
    """float64: sums in another order. 50 examples in batches of 8: an epoch ends with 2, and with groups that are not full."""
    several, big = network(torch.float64), network(torch.float64)
    told, expected = Told(), Told()
    data = split(torch.float64)
    fit(several, sgd(several), Batches(data, 8, seed=5), epochs=3, accumulate=accumulate, gradient_clip=clip, callbacks=[told])
    state = fit(big, sgd(big), Batches(data, min(N, 8 * accumulate), seed=5), epochs=3, gradient_clip=clip, callbacks=[expected])
    assert same(several, big, 1e-12)
    assert not same(several, network(torch.float64), 1e-3)
    assert torch.allclose(torch.tensor(told.epochs), torch.tensor(expected.epochs), rtol=1e-12)
    assert len(told.positions) == state.step
    assert set(told.positions) <= {*range(0, 8, accumulate), 7}


def test_the_law_sees_losses_that_are_not_divided() -> None:
    several, big = network(torch.float64), network(torch.float64)
    data = split(torch.float64)
    fit(several, sgd(several), Batches(data, 8), epochs=1, accumulate=2, objective=lambda z, y: 2 * F.cross_entropy(z, y))
    fit(big, sgd(big), Batches(data, 16), epochs=1)
    assert not same(several, big, 1e-3)


def test_a_penalty_counts_once_a_step() -> None:
    several, big = network(torch.float64), network(torch.float64)
    for model, size, accumulate in ((several, 8, 3), (big, 24, 1)):
        pruner: Any = Penalised(model)
        fit(model, sgd(model), Batches(split(torch.float64), size), epochs=1, pruner=pruner, accumulate=accumulate)
    assert same(several, big, 1e-12)


class Penalised:
    """A pruner that only penalises."""

    settled = True

    def __init__(self, model: nn.Module) -> None:
        self.model = model

    def penalty(self) -> Tensor:
        return self.model.get_parameter("0.weight").square().sum()

    def step(self, closure: Any = None) -> None:
        return None


@pytest.mark.parametrize("stop", [1, 3, 4, 5])
def test_stopped_between_two_steps_and_continued_equals_uninterrupted(stop: int) -> None:
    """Seven batches, two for each step: the fourth step of an epoch has one."""

    class Stopper(Callback):
        def on_step(self, state: LoopState) -> None:
            state.stop = state.step == stop

    whole, parts = network(), network()
    told, first, second = Told(), Told(), Told()
    fit(whole, sgd(whole), Batches(split(), 8), epochs=2, accumulate=2, callbacks=[told])
    optimizer, batches = sgd(parts), Batches(split(), 8)
    state = fit(parts, optimizer, batches, epochs=2, accumulate=2, callbacks=[first, Stopper()])
    again = LoopState(parts, optimizer, batches, 2)
    again.load_state_dict(state.state_dict())
    fit(parts, optimizer, batches, epochs=2, accumulate=2, callbacks=[second], state=again)
    assert same(whole, parts)
    assert first.epochs + second.epochs == told.epochs
    assert first.positions + second.positions == told.positions


def test_batches_that_are_not_counted_cannot_be_grouped() -> None:
    class Endless:
        epoch = 0

        def __iter__(self) -> Any:
            return iter([])

    model = network()
    with pytest.raises(UsageError, match="accumulate > 1 needs batches with a length and a position"):
        fit(model, sgd(model), Endless(), epochs=1, accumulate=2)
    with pytest.raises(UsageError, match="accumulate must be a whole number ≥ 1, got 0"):
        fit(model, sgd(model), Endless(), epochs=1, accumulate=0)


def test_comparisons_over_several_batches_are_those_of_the_whole_step() -> None:
    """θ = 1, so that no gate is drawn closed: the gains found by flipping are those of one big batch."""
    found = {}
    for size, accumulate in ((8, 3), (24, 1)):
        model = network(torch.float64)
        method = Gates(theta=1.0, fall_steps=10**6, interval=100, gated=1.0, deciding=1.0)
        optimizer = torch.optim.SGD(method.param_groups(model), lr=0.1)
        pruner = Pruner(model, optimizer, method, split(torch.float64).inputs[:2], steps=100, examples=N)
        values: list[float] = []
        step = pruner.step
        pruner.step = lambda closure, step=step, values=values: values.append(float(closure().detach())) or step()  # type: ignore
        state = fit(model, optimizer, Batches(split(torch.float64), size), epochs=1, pruner=pruner, accumulate=accumulate)
        found[size] = values
        assert state.again == state.examples == N
    assert found[8] == pytest.approx(found[24], rel=1e-5)
