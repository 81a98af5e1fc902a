"""Removals that fail or are interrupted: what was decided is carried out later, and nothing is left half done."""

from __future__ import annotations

import copy
import signal
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from methods.toys import EARLY, network, points, start, train_step
from parsinet import measure
from parsinet.baselines import VIB, MagnitudeUnits
from parsinet.errors import StructureError
from parsinet.methods import Gates, Method, Pruner
from parsinet.methods import network as cutting
from parsinet.structure import Structure
from parsinet.structure.atomic import uninterrupted

STEPS = 40


class Away:
    """Batches to fold on, from a file server that is away once."""

    def __init__(self) -> None:
        self.calls, self.away = 0, False

    def __call__(self) -> list[Tensor]:
        self.calls += 1
        if self.away:
            self.away = False
            raise OSError("the file server is away for a moment")
        return [points()[0]]


def train(model: nn.Module, optimizer: Any, pruner: Pruner, steps: int) -> None:
    for k in range(steps):
        train_step(model, optimizer, pruner, k)


def folding() -> tuple[Any, Pruner, Away]:
    model, inputs = network(), Away()
    method = MagnitudeUnits(share=0.5)
    optimizer = torch.optim.Adam(method.param_groups(model), lr=0.01)
    return optimizer, Pruner(model, optimizer, method, points(4)[0], steps=STEPS, fold="mean", fold_inputs=inputs), inputs


def until_it_fails(optimizer: Any, pruner: Pruner, inputs: Away) -> None:
    inputs.away = True
    for k in range(STEPS):
        try:
            train_step(pruner.model, optimizer, pruner, k)
        except OSError:
            return
    pytest.fail("nothing was to leave")


@pytest.mark.parametrize("later", ["step", "finish"])
def test_a_removal_that_failed_is_carried_out_by_the_next_call(later: str) -> None:
    optimizer, pruner, inputs = folding()
    until_it_fails(optimizer, pruner, inputs)
    assert pruner.widths() == {"fc1": 12, "fc2": 8}
    assert not pruner.settled
    if later == "step":
        removal = pruner.step()
        assert removal is not None
        assert removal.groups == {"fc1": (12, 6), "fc2": (8, 4)}
        assert pruner.settled
        assert pruner.step() is None
    pruner.finish()
    assert pruner.widths() == {"fc1": 6, "fc2": 4}


def test_it_is_saved_and_carried_out_after_a_resume() -> None:
    optimizer, pruner, inputs = folding()
    until_it_fails(optimizer, pruner, inputs)
    saved = copy.deepcopy((pruner.state_dict(), pruner.model.state_dict(), optimizer.state_dict()))
    pruner.step()
    optimizer, again, _ = folding()
    again.load_state_dict(saved[0])
    again.model.load_state_dict(saved[1])
    optimizer.load_state_dict(saved[2])
    again.step()
    assert again.widths() == pruner.widths() == {"fc1": 6, "fc2": 4}
    for name, value in pruner.model.state_dict().items():
        assert torch.equal(again.model.state_dict()[name], value)


@pytest.mark.parametrize("due", ["0-3", {"fc3": "0"}, {"fc1": "0-99"}])
def test_a_damaged_one_is_refused(due: Any) -> None:
    _, pruner, _ = folding()
    state = {**pruner.state_dict(), "due": due}
    with pytest.raises(StructureError, match="damaged"):
        folding()[1].load_state_dict(state)


@pytest.mark.filterwarnings(EARLY)
@pytest.mark.parametrize("method", [lambda: Gates(target="params=10%"), lambda: VIB(kl=1e-6, target="params=10%")], ids=["gates", "vib"])
def test_a_last_decision_that_a_warning_stops_is_taken_later(method: Callable[[], Method]) -> None:
    model, made = network(first=40, second=40), method()
    optimizer = torch.optim.Adam(made.param_groups(model), lr=1e-4)
    pruner = Pruner(model, optimizer, made, points(4)[0], steps=STEPS, examples=64)
    pruner.penalty()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(UserWarning, match=r"goes at once|not met"):
            train(model, optimizer, pruner, STEPS)
    assert not pruner.settled
    assert made.describe()["target"]["reached"] is None
    with pytest.warns(UserWarning, match=r"goes at once|not met"):
        lean = pruner.finish()
    assert measure.parameters(lean) == made.describe()["target"]["reached"] < 0.12 * measure.parameters(network(first=40, second=40))


@pytest.fixture
def ctrl_c() -> Iterator[None]:
    """Ctrl-C as Python has it, whatever runs the tests."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("ctrl_c")
@pytest.mark.parametrize("place", ["shrink", "after", "removed"])
def test_ctrl_c_amid_a_removal_waits_for_its_end(place: str, monkeypatch: pytest.MonkeyPatch) -> None:
    where: Any = {"shrink": cutting, "after": Structure, "removed": Gates}[place]
    real, pressed = getattr(where, place), []

    def at_that_moment(*args: Any, **kwargs: Any) -> Any:
        if not pressed:
            pressed.append(place)
            signal.raise_signal(signal.SIGINT)
        return real(*args, **kwargs)

    monkeypatch.setattr(where, place, at_that_moment)
    model = network()
    optimizer, pruner = start(model, price=0.05)
    with pytest.raises(KeyboardInterrupt):
        train(model, optimizer, pruner, 100)
    assert pressed
    assert pruner.widths() == {"fc1": model.fc1.out_features, "fc2": model.fc2.out_features} != {"fc1": 12, "fc2": 8}
    other = network()
    _, again = start(other, price=0.05)
    again.load_state_dict(copy.deepcopy(pruner.state_dict()))
    other.load_state_dict(model.state_dict())
    train(model, optimizer, pruner, 20)
    assert isinstance(pruner.finish(), nn.Module)


@pytest.mark.usefixtures("ctrl_c")
def test_what_is_uninterrupted_is_interrupted_at_its_end() -> None:
    told: list[str] = []

    def interrupted() -> None:
        with uninterrupted():
            signal.raise_signal(signal.SIGINT)
            told.append("to the end")

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert told == ["to the end"]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_a_step_whose_comparison_fails_is_not_counted() -> None:
    model = network()
    optimizer, pruner = start(model, price=0.05, steps=STEPS, estimator="disarm")
    x, y = points()

    def loss() -> Tensor:
        return F.cross_entropy(model(x), y)

    def fails() -> Tensor:
        raise ConnectionError("no batch")

    loss().backward()
    optimizer.step()
    with pytest.raises(ConnectionError):
        pruner.step(fails)
    assert pruner.state_dict()["step"] == 0
    pruner.step(loss)
    assert pruner.state_dict()["step"] == pruner.state_dict()["method"]["state"]["steps"] == 1
