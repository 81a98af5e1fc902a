"""Pruners given the wrong things, in haste: a sentence that says what to do, and nothing has begun."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import StepLR

from parsinet import structure
from parsinet.baselines import L0, SBP, VIB, MagnitudeUnits, NormalJeffreys, RandomUnits, SpikeSlab
from parsinet.errors import ArgumentTypeError, ParsinetError, ParsinetWarning, StructureError, UsageError
from parsinet.methods import Dense, Gates, Method, Pruner, Spectral, SpectralSparse, Sphere
from parsinet.sphere import LpSGD, param_groups

X = torch.randn(4, 6)


def net() -> nn.Sequential:
    return nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 5), nn.ReLU(), nn.Linear(5, 3))


def adam(model: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.Adam(model.parameters(), lr=1e-2)


WRONG: dict[str, tuple[Callable[[nn.Module], Any], str]] = {
    "optimizer None": (lambda m: Pruner(m, None, Gates(), X), "optimizer must be a torch optimizer or a list of them, got a NoneType"),
    "its class": (lambda m: Pruner(m, torch.optim.Adam, Gates(), X), "got the class Adam"),
    "a scheduler": (lambda m: Pruner(m, StepLR(adam(m), 1), Gates(), X), "got a StepLR"),
    "parameters": (lambda m: Pruner(m, m.parameters(), Gates(), X), "got a Parameter"),
    "swapped": (lambda m: Pruner(adam(m), m, Gates(), X), "model must be a torch module, got a Adam"),
    "no model": (lambda m: Pruner(nn.Linear, adam(m), Gates(), X), "got the class Linear"),
    "method's class": (lambda m: Pruner(m, adam(m), Gates, X), r"such as Gates\(\.\.\.\), got the class Gates"),
    "method's name": (lambda m: Pruner(m, adam(m), "gates", X), r"such as parsinet\.methods\.Gates\(\.\.\.\), got a str"),
    "steps as text": (lambda m: Pruner(m, adam(m), Gates(), X, steps="20"), "steps must be a whole number ≥ 1, got '20'"),
    "half a step": (lambda m: Pruner(m, adam(m), Gates(), X, steps=50.5), r"steps must be a whole number ≥ 1, got 50\.5"),
    "half an example": (lambda m: Pruner(m, adam(m), Gates(), X, examples=1.5), r"examples must be a whole number ≥ 1, got 1\.5"),
    "half a unit": (lambda m: Pruner(m, adam(m), Gates(), X, round_to=2.5), r"round_to must be a whole number ≥ 1, got 2\.5"),
    "no multiple": (lambda m: Pruner(m, adam(m), Gates(), X, round_to=None), "round_to must be a whole number ≥ 1, got None"),
    "inputs as text": (lambda m: Pruner(m, adam(m), Gates(), X, inputs="x"), "inputs must be True or False, got 'x'"),
    "scaler's name": (lambda m: Pruner(m, adam(m), Gates(), X, scaler="x"), r"scaler must be a torch\.amp\.GradScaler or None, got a str"),
    "scaler False": (lambda m: Pruner(m, adam(m), Gates(), X, scaler=False), "or None, got a bool"),
    "rules": (lambda m: Pruner(m, adam(m), Gates(), X, rules=5), "rules must be a mapping, .* got a int"),
    "a rule's name": (lambda m: Pruner(m, adam(m), Gates(), X, rules={5: print}), "rules are named like their operators, .* got 5"),
    "hints": (lambda m: Pruner(m, adam(m), Gates(), X, hints=5), "hints must be a mapping, .* got a int"),
    "a module's hints": (lambda m: Pruner(m, adam(m), Gates(), X, hints={"0": 5}), "hints of '0' must be a mapping, .* got a int"),
    "price as text": (lambda m: Gates(price="1e-3"), "price must be a number, got '1e-3'"),
    "price true": (lambda m: Gates(price=True), "price must be a number, got True"),
    "no seed": (lambda m: Gates(seed=None), "Gates: seed must be a whole number ≥ 0, got None"),
    "a large seed": (lambda m: Gates(seed=2**63), "seed must be ≤ 9223372036854775807, got 9223372036854775808"),
    "spectral seed": (lambda m: Spectral(seed="a"), "Spectral: seed must be a whole number ≥ 0, got 'a'"),
    "sparse seed": (lambda m: SpectralSparse(seed=0.5), r"spectral-sparse: seed must be a whole number ≥ 0, got 0\.5"),
    "sphere's seed": (lambda m: Sphere(seed="a"), "sphere: seed must be a whole number ≥ 0, got 'a'"),
    "baseline's seed": (lambda m: RandomUnits(seed=None), "seed must be a whole number ≥ 0, got None"),
    "sparsity as text": (lambda m: Sphere(sparsity="a"), "sphere: sparsity must be a number, got 'a'"),
    "one layer": (lambda m: Pruner(m, adam(m), Gates(), X, ignored_layers="0"), "ignored_layers must be a list .* got '0'"),
    "one module": (lambda m: Pruner(m, adam(m), Gates(), X, ignored_layers=m[0]), "got a Linear. Write it in brackets"),
    "a layer's class": (lambda m: Pruner(m, adam(m), Gates(), X, ignored_layers=[nn.Linear]), "got the class Linear"),
    "closure": (lambda m: Pruner(m, adam(m), Gates(), X).step(m(X).sum()), "a function that computes the loss, got a Tensor"),
    "unknown group": (lambda m: Pruner(m, adam(m), Gates(), X).units("fc"), "no removable group is called 'fc'"),
    "no state": (lambda m: Pruner(m, adam(m), Gates(), X).load_state_dict(None), "no pruner's state but a NoneType"),
    "no examples": (lambda m: structure.trace(m, X[:0]), "a batch of no examples"),
    "LBFGS": (lambda m: Pruner(m, torch.optim.LBFGS(m.parameters()), Gates(), X), "LBFGS"),
    "traced class": (lambda m: structure.trace(nn.Linear, X), "got the class Linear; build it"),
    "mask for plan": (lambda m: structure.shrink(m, {"0": torch.ones(8).bool()}), "plan must be a Plan, got a dict"),
    "mask for a fold": (
        lambda m: structure.shrink(m, {"0": torch.ones(8).bool()}, fold="mean", example_inputs=X),
        "plan must be a Plan, got a dict",
    ),
    "saved swapped": (lambda m: structure.save("folder", m), "save: model must be a torch module"),
    "no factory": (lambda m: structure.load("folder", m), "factory must be a function that builds"),
}


@pytest.mark.parametrize(("act", "words"), WRONG.values(), ids=WRONG)
def test_what_is_none_is_refused_in_words(act: Callable[[nn.Module], Any], words: str) -> None:
    with pytest.raises(ParsinetError, match=words):
        act(net())


def test_an_optimizer_that_cannot_go_on_may_train_where_nothing_leaves() -> None:
    model = net()
    pruner = Pruner(model, torch.optim.LBFGS(model.parameters()), Dense(), X)
    model(X).sum().backward()
    assert pruner.step() is None
    assert pruner.widths() == {"0": 8, "2": 5}


def test_a_method_is_free_again_where_its_pruner_could_not_be_built() -> None:
    model, method = net(), Gates(target="params=60%")
    with pytest.raises(UsageError, match="steps=N") as refused:  # its traceback keeps the half-built pruner alive, as a notebook does
        Pruner(model, adam(model), method, X)
    pruner = Pruner(model, adam(model), method, X, steps=100)
    assert pruner.method is method
    assert refused.tb is not None


def test_one_method_is_at_work_on_one_network() -> None:
    first, second, method = net(), net(), Gates(price=1e-2)
    pruner = Pruner(first, adam(first), method, X)
    with pytest.raises(UsageError, match="this Gates is at work on another network already"):
        Pruner(second, adam(second), method, X)
    pruner.finish()
    assert not any(module._forward_pre_hooks for module in (*first.modules(), *second.modules()))
    Pruner(second, adam(second), Gates(price=1e-2), X).finish()


@pytest.mark.parametrize("method", [Gates(price=1e-2), MagnitudeUnits(share=0.5)], ids=["gates", "magnitude"])
def test_a_method_that_has_finished_does_not_begin_again(method: Method) -> None:
    """It would remove nothing, without a word."""
    first, second = net(), net()
    Pruner(first, adam(first), method, X, steps=10).finish()
    with pytest.raises(UsageError, match="has finished a network already"):
        Pruner(second, adam(second), method, X, steps=10)


def test_one_optimizer_need_not_be_put_in_a_list() -> None:
    model = net()
    optimizer = adam(model)
    model(X).sum().backward()
    optimizer.step()
    found = structure.trace(model, X)
    structure.shrink(model, found.plan({"0": torch.arange(8) < 4}), optimizers=optimizer)
    assert optimizer.state[model[0].weight]["exp_avg"].shape == (4, 6)


def test_a_compiled_network_is_pruned_under_its_own_names() -> None:
    model = net()
    compiled = torch.compile(model, backend="eager")
    pruner = Pruner(compiled, adam(model), Gates(price=1e-2), X)
    assert set(pruner.widths()) == {"0", "2"}
    assert pruner.finish() is model


class Hyper(nn.Module):
    """Its weights are made by layers that read a vector without a batch."""

    def __init__(self) -> None:
        super().__init__()
        self.code = nn.Parameter(torch.randn(4))
        self.maker = nn.Sequential(nn.Linear(4, 12), nn.ReLU(), nn.Linear(12, 60))
        self.out = nn.Linear(10, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(torch.relu(nn.functional.linear(x, self.maker(self.code).view(10, 6))))


def test_units_without_a_batch_are_not_gated_and_the_others_are() -> None:
    model = Hyper()
    pruner = Pruner(model, adam(model), Gates(price=1e-2), X)
    for _ in range(3):
        model(X).sum().backward()
        pruner.step()
    assert set(pruner.describe()["groups"]) == {"code[0]"}
    pruner.finish()


def test_a_network_with_gates_is_not_traced_and_says_why() -> None:
    model = net()
    Pruner(model, adam(model), Gates(), X)
    with pytest.raises(StructureError, match="Sequential cannot be traced: a method is at work on it"):
        Pruner(model, adam(model), Gates(), X)


def test_old_weight_norm_names_the_new_one() -> None:
    with pytest.warns(FutureWarning):
        layer = nn.utils.weight_norm(nn.Linear(6, 5))
    with pytest.raises(StructureError, match=r"use torch\.nn\.utils\.parametrizations\.weight_norm"):
        structure.trace(nn.Sequential(layer, nn.ReLU(), nn.Linear(5, 2)), X)


def test_the_kinds_of_error_are_those_a_caller_expects() -> None:
    with pytest.raises(ArgumentTypeError):
        Pruner(net(), None, Gates(), X)  # type: ignore[arg-type]


def test_reasons_hold_no_address_of_memory() -> None:
    class Mapped(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.lift, self.last = nn.Linear(6, 5), nn.Linear(5, 2)

        def forward(self, x: Tensor) -> Tensor:
            return self.last(torch.vmap(torch.sin)(self.lift(x)))

    assert not [group.reason for group in structure.trace(Mapped(), X).groups if " at 0x" in group.reason]


class Tasks(nn.Module):
    """Two heads, of which a call uses one or both."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.first, self.second = nn.Linear(6, 8), nn.Linear(8, 3), nn.Linear(8, 2)

    def forward(self, x: Tensor, task: str = "both") -> Any:
        h = torch.relu(self.body(x))
        return {"first": lambda: self.first(h), "second": lambda: self.second(h), "both": lambda: (self.first(h), self.second(h))}[task]()


@pytest.mark.filterwarnings("error")
def test_what_the_example_inputs_do_not_reach_is_told() -> None:
    model = Tasks()
    with pytest.warns(
        ParsinetWarning, match=r"the model does not use second.weight, second.bias on example_inputs. They follow no removal"
    ):
        Pruner(model, adam(model), Gates(), {"x": X, "task": "first"})
    Pruner(model := Tasks(), adam(model), Gates(), X)
    Pruner(model := Tasks(), adam(model), Dense(), {"x": X, "task": "first"})
    model = Tasks()
    Pruner(model, torch.optim.Adam([*model.body.parameters(), *model.first.parameters()]), Gates(), {"x": X, "task": "first"})


def test_parameters_that_train_in_no_given_optimizer_are_told() -> None:
    model = net()
    optimizer = torch.optim.SGD(model[2:].parameters(), lr=0.1)
    with pytest.warns(ParsinetWarning, match=r"no optimizer given holds 0\.weight, 0\.bias, of which units take a part along\."):
        Pruner(model, optimizer, Gates(price=1e-3), X, steps=400)


@pytest.mark.parametrize("way", ["all", "frozen", "nothing leaves"])
def test_nothing_is_told_where_all_is_well(way: str) -> None:
    model = net()
    optimizers = [torch.optim.SGD(part.parameters(), lr=0.1) for part in ([model[0], model[2:]] if way == "all" else [model[2:]])]
    model[0].requires_grad_(way != "frozen")
    method = Dense() if way == "nothing leaves" else Gates(price=1e-3)
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        Pruner(model, optimizers, method, X, steps=400)
    assert not [str(warning.message) for warning in told if "no optimizer given holds" in str(warning.message)]


FORGOTTEN = {"vib": VIB, "l0": L0, "sbp": SBP, "normal-jeffreys": NormalJeffreys, "spike-slab": SpikeSlab}


@pytest.mark.parametrize("name", FORGOTTEN)
def test_a_forgotten_penalty_is_told_once(name: str) -> None:
    model = net()
    optimizer = adam(model)
    pruner = Pruner(model, optimizer, FORGOTTEN[name](), X, steps=10, examples=100)
    model(X).sum().backward()
    optimizer.step()
    with pytest.warns(ParsinetWarning, match=f"{name} learns by what it adds to the loss"):
        pruner.step()
    pruner.step()


def test_a_penalty_that_was_asked_for_is_not_missed() -> None:
    model = net()
    optimizer = adam(model)
    pruner = Pruner(model, optimizer, VIB(), X, steps=10)
    (model(X).sum() + pruner.penalty()).backward()
    optimizer.step()
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        pruner.step()
    assert not told


def test_options_that_the_optimizer_lacks_are_told() -> None:
    model, method = net(), Spectral(eigenvalue_lr=0.1)
    method.prepare(model)
    with pytest.warns(ParsinetWarning, match=r"spectral wants a parameter group with lr = 0\.1"):
        Pruner(model, adam(model), method, X, steps=10)
    model, sphere = net(), Sphere(0.5, p=1.5)
    with pytest.warns(ParsinetWarning, match=r"sphere wants a parameter group with p = 1\.5"):
        Pruner(model, LpSGD(param_groups(model, p=1.2), lr=0.01), sphere, X, steps=10)
    model, sphere = net(), Sphere(0.5, p=1.5)
    Pruner(model, LpSGD(sphere.param_groups(model), lr=0.01), sphere, X, steps=10)
