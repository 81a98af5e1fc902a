"""Resume: from any step of a run with several removals, bitwise as if it had never stopped; and states that do not fit."""

from __future__ import annotations

import copy
import pickle
import re
import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from methods import runs
from methods.runs import BEGINNINGS, check_resume, same
from methods.toys import OPTIMIZERS, Build, bank, network, points, start, train_step
from parsinet import measure
from parsinet.baselines import GMP
from parsinet.errors import ParsinetError, ParsinetWarning, StructureError, UsageError
from parsinet.methods import Dense, Gates, Method, Pruner
from parsinet.methods.given import given

STEPS = 36
OPTIONS: dict[str, Any] = {"gated": 0.7, "price": 0.02, "fall_steps": 12, "interval": 4, "theta": 0.8}


class Run(runs.Run):
    """A gated run with a scheduler."""

    def __init__(self, build: Build, **options: Any) -> None:
        super().__init__(network(batch_norm=True), Gates(**{**OPTIONS, **options}), build, points(4)[0], steps=STEPS, examples=64)
        self.scheduler = torch.optim.lr_scheduler.StepLR(self.optimizer, 10, 0.5)

    def step(self, k: int) -> Any:
        removal = super().step(k)
        self.scheduler.step()
        return removal

    def parts(self) -> dict[str, Any]:
        return {**super().parts(), "scheduler": self.scheduler}


@BEGINNINGS
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_resume_is_bitwise(optimizer: str, begin: str) -> None:
    left = check_resume(lambda: Run(OPTIMIZERS[optimizer]), begin)
    assert len({str(units) for units in left}) >= 4, "several removals"


class Compared(Run):
    """The pruner is given its closure."""

    def step(self, k: int) -> Any:
        x, y = self.batch(k)
        F.cross_entropy(self.model(x), y).backward()
        self.optimizer.step()
        self.optimizer.zero_grad()
        removal = self.pruner.step(lambda: F.cross_entropy(self.model(x), y))
        self.scheduler.step()
        return removal


PARTS = ({"draws": "example"}, {"estimator": "disarm"})
DRAWS = [
    *(pytest.param(part, marks=pytest.mark.slow) for part in PARTS),
    {"estimator": "arm", "draws": "example"},
    {"estimator": "drawn-labels"},
]


@BEGINNINGS
@pytest.mark.parametrize("options", DRAWS, ids=str)
def test_resume_is_bitwise_with_other_draws_and_estimators(options: dict[str, Any], begin: str) -> None:
    left = check_resume(lambda: Compared(OPTIMIZERS["adam"], **options), begin)
    assert len({str(units) for units in left}) >= 2, "a removal"


@pytest.mark.filterwarnings("ignore:Pruner. the saved run had other settings")
def test_the_law_objects_to_runs_that_go_on_otherwise() -> None:
    with pytest.raises(AssertionError, match="is not what was loaded"):
        check_resume(lambda: Run(OPTIMIZERS["adam"]), "telling", other=lambda: Run(OPTIMIZERS["adam"], price=0.05))


@pytest.mark.parametrize("forget", ["generator", "theta", "usefulness", "steps"])
def test_the_law_objects_to_a_part_of_the_state_that_is_lost(forget: str) -> None:
    straight, run = Run(OPTIMIZERS["adam"]), Run(OPTIMIZERS["adam"])
    straight.advance(0, 10)
    run.load(straight.state())
    straight.advance(10)
    fresh = Run(OPTIMIZERS["adam"]).state()["pruner"]["method"]["state"]
    if forget in ("theta", "usefulness"):
        getattr(bank(run.pruner), forget).fill_(0.8 if forget == "theta" else 0.0)
    elif forget == "generator":
        bank(run.pruner)._random.set_state(fresh["generator"])
    else:
        run.pruner.method._steps = 0  # type: ignore[attr-defined]
    run.advance(10)
    assert not same(run.state(), straight.state())


def test_a_settled_run_resumes_without_gates() -> None:
    run = Run(OPTIMIZERS["adam"])
    run.advance(0, 30)
    assert run.pruner.settled
    again = Run(OPTIMIZERS["adam"])
    again.load(run.state())
    assert again.pruner.settled
    assert again.pruner.widths() == run.pruner.widths()
    assert not any(module._forward_pre_hooks for module in again.model.modules())


def dense_state() -> dict[str, Any]:
    model = network(batch_norm=True)
    return Pruner(model, torch.optim.SGD(model.parameters()), Dense(), points(4)[0]).state_dict()


def gates_state(change: Callable[[dict[str, Any]], Any] = lambda state: None, **options: Any) -> dict[str, Any]:
    run = Run(OPTIMIZERS["adam"], **options)
    run.advance(0, 16)
    state: dict[str, Any] = run.state()["pruner"]
    change(state)
    return state


def other_network() -> dict[str, Any]:
    model = network(first=13)
    return start(model)[1].state_dict()


UNFIT = {
    "another method": (dense_state, UsageError, "is of method 'dense', this pruner runs 'gates'"),
    "another network": (other_network, StructureError, "a network with other groups or sizes"),
    "other options": (lambda: gates_state(groups=["fc1"]), UsageError, "'gates' with other options (groups was"),
    "no pruner's state": (lambda: {"weights": 1}, UsageError, "no pruner's state: it holds ['weights']"),
    "units unknown": (lambda: gates_state(lambda s: s["units"].pop("fc2")), StructureError, "is damaged: its units"),
    "no units": (lambda: gates_state(lambda s: s.update(units=None)), StructureError, "is damaged: its units are a NoneType"),
    "no method": (lambda: gates_state(lambda s: s.update(method=None)), StructureError, "is damaged: its method is a NoneType"),
    "no step": (lambda: gates_state(lambda s: s.update(step=None)), StructureError, "is damaged: its step is None"),
    "no scale": (lambda: gates_state(lambda s: s.update(scale="large")), StructureError, "is damaged: its scale is 'large'"),
    "units too high": (lambda: gates_state(lambda s: s["units"].update(fc2="0-9")), StructureError, "is damaged: its units"),
}


@pytest.mark.parametrize(("make", "error", "words"), UNFIT.values(), ids=UNFIT)
def test_a_state_that_does_not_fit_is_refused_and_changes_nothing(
    make: Callable[[], dict[str, Any]], error: type[ParsinetError], words: str
) -> None:
    state, run = make(), Run(OPTIMIZERS["adam"])
    before, modules = run.state(), str(run.model)
    with pytest.raises(error, match=re.escape(words)):
        run.pruner.load_state_dict(state)
    assert same(run.state(), before)
    assert str(run.model) == modules
    run.advance(0, 3)


OTHERWISE = {
    "another price": ({"price": 0.05}, "price was 0.02, here it is 0.05. It goes on with those that are here"),
    "another estimator": ({"estimator": "disarm"}, "estimator was 'curvature', here it is 'disarm'"),
    "many": ({"price": 0.05, "threshold": 0.1, "deciding": 0.3, "clamp": 2.0}, "; and 1 more. It goes on"),
}


@pytest.mark.parametrize(("options", "words"), OTHERWISE.values(), ids=OTHERWISE)
def test_a_run_that_goes_on_with_other_options_is_told(options: dict[str, Any], words: str) -> None:
    state = gates_state()
    with pytest.warns(ParsinetWarning, match=re.escape(words)):
        Run(OPTIMIZERS["adam"], **options).pruner.load_state_dict(state)


CHANGED = {
    "a lower target": ({"target": "params=60%"}, {"target": "params=20%"}),
    "a higher price of the whole": ({"cost_price": 0.5}, {"cost_price": 5.0}),
    "fewer examples": ({"log_gamma": 6.0, "examples": 600}, {"log_gamma": 6.0, "examples": 60}),
}


@pytest.mark.parametrize(("then", "now"), CHANGED.values(), ids=CHANGED)
def test_a_run_goes_on_with_the_options_that_are_here(then: dict[str, Any], now: dict[str, Any]) -> None:
    """It comes to less than the run as it was begun, as one that began with them does."""

    def begin(examples: int = 64, **options: Any) -> tuple[Any, Pruner]:
        model = network()
        method = Gates(interval=5, fall_steps=20, **options)
        optimizer = OPTIMIZERS["adam"](method.param_groups(model))
        return optimizer, Pruner(model, optimizer, method, points(4)[0], steps=120, examples=examples)

    def end(optimizer: Any, pruner: Pruner, first: int) -> float:
        for k in range(first, 120):
            train_step(pruner.model, optimizer, pruner, k)
        return measure.parameters(pruner.finish())

    optimizer, pruner = begin(**then)
    for k in range(20):
        train_step(pruner.model, optimizer, pruner, k)
    saved = copy.deepcopy((pruner.state_dict(), pruner.model.state_dict(), optimizer.state_dict()))
    found = {}
    for name, options in (("then", then), ("now", now)):
        optimizer, again = begin(**options)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            again.load_state_dict(saved[0])
            again.model.load_state_dict(saved[1])
            optimizer.load_state_dict(saved[2])
            found[name] = end(optimizer, again, 20)
        told = [str(entry.message) for entry in caught if "other settings" in str(entry.message)]
        assert len(told) == (name == "now"), told
    assert found["now"] < found["then"]
    if "target" in now:
        assert found["now"] <= 0.2 * measure.parameters(network())


def test_a_state_that_does_not_tell_examples_or_the_target_is_taken() -> None:
    """As older versions saved it; a warning would tell of a change that nobody made."""

    def begin() -> Pruner:
        model = network()
        method = Gates(target="params=60%")
        return Pruner(model, OPTIMIZERS["adam"](method.param_groups(model)), method, points(4)[0], steps=120, examples=64)

    state = begin().state_dict()
    del state["given"]["examples"], state["method"]["state"]["pricing"]["limit"]["target"], state["due"]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        begin().load_state_dict(state)


def test_a_state_without_the_options_it_was_made_with_is_taken() -> None:
    """As older versions saved it."""
    run, state = Run(OPTIMIZERS["adam"], price=0.05), gates_state(lambda state: state.pop("given"))
    run.pruner.load_state_dict(state)
    assert run.pruner.state_dict()["units"] == state["units"]


@pytest.mark.parametrize("method", [GMP(sparsity=0.5), copy.deepcopy(GMP(sparsity=0.5)), pickle.loads(pickle.dumps(GMP(sparsity=0.5)))])
def test_methods_remember_what_they_were_given(method: Method) -> None:
    told = given(method, steps=7, round_to=None)
    assert {"sparsity": "0.5", "begin": "0.1", "steps": "7"}.items() <= told.items()
    assert "round_to" not in told
    assert given(GMP(exclude=["last"], end=0.5))["exclude"] == "['last']"


def test_gates_that_do_not_fit_the_units_are_refused() -> None:
    state = gates_state(lambda saved: saved["units"].update(fc1="0-11"))
    with pytest.raises(StructureError, match=re.escape("The saved gates (theta) are of groups {'fc1': ")):
        Run(OPTIMIZERS["adam"]).pruner.load_state_dict(state)


def test_a_network_that_has_lost_units_takes_no_state() -> None:
    run = Run(OPTIMIZERS["adam"])
    run.advance(0, 20)
    with pytest.raises(StructureError, match="Units have left this network already"):
        run.pruner.load_state_dict(run.state()["pruner"])


def test_loading_touches_the_modules_in_place() -> None:
    """Parameters keep their identity, so an optimizer and a scheduler built before stay valid."""
    state = gates_state()
    run = Run(OPTIMIZERS["adam"])
    ids = [id(parameter) for parameter in run.model.parameters()]
    run.pruner.load_state_dict(state)
    assert ids == [id(parameter) for parameter in run.model.parameters()]
    assert isinstance(run.model.fc1, nn.Linear)
    assert run.model.fc1.out_features == run.pruner.widths()["fc1"] < 12
