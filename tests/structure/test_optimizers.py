"""Optimizers go on after a removal as if the units had never been; what cannot be cut starts afresh and says so."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable, Iterable
from typing import Any

import pytest
import torch
from torch import Tensor, nn, optim

import parsinet as pn
from networks import traced
from parsinet.errors import ParsinetWarning, StructureError
from parsinet.structure.optimizers import RULES, entries, whole
from parsinet.structure.plan import Plan

Build = Callable[[Iterable[nn.Parameter]], optim.Optimizer]


def kind(name: str, **options: Any) -> Build:
    return lambda parameters: getattr(optim, name)(parameters, **{"lr": 0.01, **options})


OPTIMIZERS: dict[str, Build] = {
    "sgd": kind("SGD"),
    "sgd-momentum": kind("SGD", momentum=0.9, nesterov=True, weight_decay=1e-2, foreach=False),
    "sgd-foreach": kind("SGD", momentum=0.9, foreach=True),
    "sgd-fused": kind("SGD", momentum=0.9, dampening=0.1, fused=True),
    "adam": kind("Adam", foreach=False),
    "adam-amsgrad": kind("Adam", amsgrad=True, foreach=True),
    "adam-fused": kind("Adam", amsgrad=True, fused=True),
    "adam-tensor-lr": kind("Adam", lr=torch.tensor(0.01), foreach=False),
    "adamw": kind("AdamW", weight_decay=0.1, maximize=True),
    "adamw-fused": kind("AdamW", fused=True),
    "adamax": kind("Adamax"),
    "adamax-foreach": kind("Adamax", foreach=True),
    "nadam": kind("NAdam", decoupled_weight_decay=True, weight_decay=0.1),
    "nadam-foreach": kind("NAdam", foreach=True),
    "radam": kind("RAdam"),
    "radam-foreach": kind("RAdam", foreach=True),
    "rmsprop": kind("RMSprop", centered=True, momentum=0.9),
    "rmsprop-foreach": kind("RMSprop", centered=True, momentum=0.9, foreach=True),
    "adagrad": kind("Adagrad", lr_decay=0.1),
    "adagrad-fused": kind("Adagrad", fused=True),
    "adadelta": kind("Adadelta"),
    "asgd": kind("ASGD", t0=2),
    "rprop": kind("Rprop"),
    "adafactor": kind("Adafactor"),
    "adafactor-foreach": kind("Adafactor", foreach=True),
}


def start(name: str) -> tuple[nn.Module, Tensor, Plan]:
    """A network in float64, its inputs and the plan to remove every third unit.

    In evaluation mode, so that every parameter has a gradient: batch statistics would cancel a bias before the norm.
    """
    model, x, structure = traced(name, double=True)
    return model.eval(), x, structure.plan({group.name: torch.arange(group.size) % 3 != 1 for group in structure.removable()})


def train(model: nn.Module, optimizers: Iterable[optim.Optimizer], x: Tensor, steps: int = 3) -> None:
    for _ in range(steps):
        model.zero_grad()
        model(x).square().mean().backward()
        for optimizer in optimizers:
            optimizer.step()


def by_hand(model: nn.Module, plan: Plan, states: dict[str, dict[str, Any]], build: Build, *, only: int = 0) -> tuple[nn.Module, Any]:
    """The small network as if it had never been larger: new parameters, a new optimizer, the old state cut value by value."""
    small = copy.deepcopy(model)
    for module in small.modules():
        for key, parameter in list(module._parameters.items()):
            if parameter is not None:
                module._parameters[key] = nn.Parameter(parameter.detach().clone())
    chosen = {key: parameter for key, parameter in small.named_parameters() if only in (0, parameter.dim())}
    fresh = build(chosen.values())
    for key, parameter in chosen.items():
        fresh.state[parameter] = {name: by_index(plan, key, value) for name, value in states[key].items()}
    return small, fresh


def by_index(plan: Plan, name: str, value: Any) -> Any:
    """Cut along every dimension that the value has in full."""
    if not isinstance(value, Tensor):
        return value
    value = value.clone()
    for (tensor, dim), kept in plan.tensors.items():
        if tensor == name and value.dim() > dim and value.shape[dim] == plan.sizes[tensor, dim]:
            value = value.index_select(dim, torch.tensor(kept))
    return value


def states_of(model: nn.Module, optimizer: optim.Optimizer) -> dict[str, dict[str, Any]]:
    return {key: copy.deepcopy(dict(optimizer.state.get(parameter, {}))) for key, parameter in model.named_parameters()}


def continues_as_by_hand(name: str, build: Build) -> None:
    model, x, plan = start(name)
    optimizer = build(model.parameters())
    train(model, [optimizer], x)
    states = states_of(model, optimizer)
    pn.shrink(model, plan, optimizers=[optimizer])
    small, fresh = by_hand(model, plan, states, build)
    before = [parameter.detach().clone() for parameter in model.parameters()]
    train(model, [optimizer], x)
    train(small, [fresh], x)
    for one, other, old in zip(model.parameters(), small.parameters(), before, strict=True):
        assert torch.equal(one, other)
        assert not torch.equal(one, old)


@pytest.mark.parametrize("optimizer", [name for name in OPTIMIZERS if not name.startswith("adafactor")])
@pytest.mark.parametrize("name", ["mlp-batch-norm", "branches"])
def test_every_optimizer_continues_bitwise_as_by_hand(name: str, optimizer: str) -> None:
    continues_as_by_hand(name, OPTIMIZERS[optimizer])


def test_muon_continues_bitwise_as_by_hand() -> None:
    """Matrices by Muon, vectors by SGD. Muon scales its step by the matrix' present shape, as in the network built by hand."""
    model, x, plan = start("mlp-batch-norm")
    build = kind("Muon", momentum=0.9)
    muon = build(parameter for parameter in model.parameters() if parameter.dim() == 2)
    train(model, [muon], x)
    states = states_of(model, muon)
    pn.shrink(model, plan, optimizers=[muon])
    small, fresh = by_hand(model, plan, states, build, only=2)
    train(model, [muon], x)
    train(small, [fresh], x)
    assert all(torch.equal(one, other) for one, other in zip(model.parameters(), small.parameters(), strict=True))


class Bag(nn.Module):
    """A sparse embedding."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.fc = nn.Embedding(5, 6, sparse=True), nn.Linear(6, 2)

    def forward(self, tokens: Tensor) -> Tensor:
        return self.fc(torch.tanh(self.embed(tokens).sum(1)))


def test_sparse_adam_and_a_sparse_gradient_go_on() -> None:
    model, tokens = Bag().double(), torch.tensor([[0, 1], [3, 1]])
    build = kind("SparseAdam")
    optimizer = build([model.embed.weight])
    plan = pn.trace(model, tokens).plan({"embed": torch.arange(6) % 3 != 1})
    train(model, [optimizer], tokens)
    states = states_of(model, optimizer)
    gradient = model.embed.weight.grad.to_dense()
    pn.shrink(model, plan, optimizers=[optimizer])
    assert model.embed.weight.grad.is_sparse
    assert torch.equal(model.embed.weight.grad.to_dense(), gradient[:, [0, 2, 3, 5]])
    small = copy.deepcopy(model)
    fresh = build([small.embed.weight])
    fresh.state[small.embed.weight] = {key: by_index(plan, "embed.weight", value) for key, value in states["embed.weight"].items()}
    train(model, [optimizer], tokens)
    train(small, [fresh], tokens)
    assert torch.equal(model.embed.weight, small.embed.weight)


@pytest.mark.parametrize("optimizer", ["adafactor", "adafactor-foreach"])
@pytest.mark.parametrize("name", ["mlp-batch-norm", "branches"])
def test_adafactor_keeps_its_estimate_of_what_stays(name: str, optimizer: str) -> None:
    """V_ij = r_i c_j / mean(r) of every entry that stays is what it was, to rounding; and the means stay means of one matrix."""
    model, x, plan = start(name)
    adafactor = OPTIMIZERS[optimizer](model.parameters())
    train(model, [adafactor], x)
    before = {key: by_index(plan, key, estimate(state)) for key, state in states_of(model, adafactor).items()}
    pn.shrink(model, plan, optimizers=[adafactor])
    for key, state in states_of(model, adafactor).items():
        assert torch.allclose(estimate(state), before[key], rtol=1e-10, atol=0)
        if "row_var" in state:
            assert torch.allclose(state["row_var"].mean(-2), state["col_var"].mean(-1), rtol=1e-10)
    train(model, [adafactor], x)


def estimate(state: dict[str, Tensor]) -> Tensor:
    if "variance" in state:
        return state["variance"]
    return state["row_var"] @ state["col_var"] / state["row_var"].mean(-2, keepdim=True)


def test_lbfgs_is_refused_with_a_reason() -> None:
    model, _, plan = start("mlp-batch-norm")
    shape = model.fc1.weight.shape
    with pytest.raises(StructureError, match="LBFGS keeps one flat history of all parameters"):
        pn.shrink(model, plan, optimizers=[optim.LBFGS(model.parameters())])
    assert model.fc1.weight.shape == shape


def test_every_optimizer_of_torch_has_a_rule() -> None:
    every = {value for value in vars(optim).values() if isinstance(value, type) and issubclass(value, optim.Optimizer)}
    assert every - {optim.Optimizer, optim.LBFGS} == {ruled for ruled, _ in RULES}


class Foreign(optim.Optimizer):
    """Someone's optimizer; `keep` says what state it keeps of a parameter."""

    def __init__(self, parameters: Iterable[nn.Parameter], keep: Callable[[Tensor], dict[str, Any]]) -> None:
        super().__init__(parameters, {})
        self.keep = keep

    def step(self, closure: Any = None) -> None:
        for group in self.param_groups:
            for parameter in group["params"]:
                self.state[parameter] = self.keep(parameter) if parameter not in self.state else self.state[parameter]


def foreign(keep: Callable[[Tensor], dict[str, Any]], model: nn.Module, plan: Plan) -> dict[str, dict[str, Any]]:
    optimizer = Foreign(model.parameters(), keep)
    optimizer.step()
    pn.shrink(model, plan, optimizers=[optimizer])
    return states_of(model, optimizer)


def test_a_foreign_optimizer_is_cut_where_shapes_tell() -> None:
    model, _, plan = start("mlp-batch-norm")
    kept = foreign(lambda p: {"mine": torch.ones_like(p), "count": 3, "rate": torch.ones(1), "note": None}, model, plan)
    for key, parameter in model.named_parameters():
        assert kept[key]["mine"].shape == parameter.shape
        assert (kept[key]["count"], kept[key]["note"]) == (3, None)
        assert kept[key]["rate"].shape == (1,)


@pytest.mark.parametrize(
    ("keep", "said"),
    [
        (lambda p: {"left": torch.eye(len(p)), "mine": torch.ones_like(p)}, "Foreign keeps 'left' of shape"),
        (lambda p: {"blocks": torch.zeros(p.numel() // 4 + 2)}, "Foreign keeps 'blocks' of shape"),
        (lambda p: {"factors": [torch.eye(len(p))]}, "Foreign keeps 'factors', a list"),
        (lambda p: {"exp_avg": torch.zeros(len(p), 2)}, "Foreign keeps 'exp_avg' of shape"),
    ],
)
def test_what_cannot_be_cut_starts_afresh_with_a_warning(keep: Callable[[Tensor], dict[str, Any]], said: str) -> None:
    model, _, plan = start("mlp-batch-norm")
    cut = {tensor for tensor, _ in plan.tensors}
    with pytest.warns(ParsinetWarning, match=f"{said}.* starts afresh"):
        kept = foreign(keep, model, plan)
    assert all(not state for key, state in kept.items() if key in cut)


def test_a_square_preconditioner_is_not_taken_for_moments() -> None:
    model = nn.Sequential(nn.Linear(4, 4, bias=False), nn.ReLU(), nn.Linear(4, 4, bias=False), nn.ReLU(), nn.Linear(4, 4, bias=False))
    plan = pn.trace(model, torch.randn(2, 4)).plan({"0": [True, False, True, True]})
    with pytest.warns(ParsinetWarning, match="'left'"):
        kept = foreign(lambda p: {"left": torch.eye(4)}, model, plan)
    assert (kept["0.weight"], kept["2.weight"]) == ({}, {})
    assert kept["4.weight"]["left"].shape == (4, 4)


def test_subclasses_are_ruled_as_their_parents() -> None:
    class Mine(optim.Adam):
        pass

    continues_as_by_hand("mlp-batch-norm", lambda parameters: Mine(parameters, lr=0.01))


def test_state_that_starts_afresh_trains_on() -> None:
    model, x, plan = start("mlp-batch-norm")
    optimizer = optim.Adam(model.parameters())
    train(model, [optimizer], x)
    optimizer.state[model.fc1.weight]["more"] = torch.zeros(7)
    with pytest.warns(ParsinetWarning, match=r"Adam keeps 'more' of shape \(7,\) for fc1\.weight"):
        pn.shrink(model, plan, optimizers=[optimizer])
    train(model, [optimizer], x, 1)
    assert float(optimizer.state[model.fc1.weight]["step"]) == 1
    assert float(optimizer.state[model.fc2.weight]["step"]) == 4


def test_gradients_that_accumulate_are_cut_in_flight() -> None:
    """Half of the batch before the removal, half after: as by hand from the cut gradient."""
    model, x, plan = start("mlp-batch-norm")
    optimizer = optim.SGD(model.parameters(), lr=0.1)
    model(x[:1]).square().sum().backward()
    first = {key: by_index(plan, key, parameter.grad) for key, parameter in model.named_parameters()}
    pn.shrink(model, plan, optimizers=[optimizer])
    small = copy.deepcopy(model)
    small.zero_grad()
    for network in (model, small):
        network(x[1:]).square().sum().backward()
    for key, parameter in small.named_parameters():
        assert torch.equal(model.get_parameter(key).grad, first[key] + parameter.grad)
    optimizer.step()


SCHEDULERS: dict[str, Callable[[optim.Optimizer], optim.lr_scheduler.LRScheduler]] = {
    "cosine": lambda optimizer: optim.lr_scheduler.CosineAnnealingLR(optimizer, 10),
    "one-cycle": lambda optimizer: optim.lr_scheduler.OneCycleLR(optimizer, 0.1, total_steps=10),
    "warm-up": lambda optimizer: optim.lr_scheduler.LinearLR(optimizer, 0.1, total_iters=5),
}


@pytest.mark.parametrize("scheduler", SCHEDULERS)
def test_schedulers_of_parameter_groups_go_on(scheduler: str) -> None:
    """The rates after a removal are those without one, group by group, and every group still trains."""
    rates = []
    for removes in (False, True):
        model, x, plan = start("mlp-batch-norm")
        rest = [parameter for name, parameter in model.named_parameters() if not name.startswith("fc1.")]
        optimizer = optim.SGD([{"params": model.fc1.parameters(), "lr": 0.5}, {"params": rest}], lr=0.1, momentum=0.9)
        schedule = SCHEDULERS[scheduler](optimizer)
        for k in range(4):
            if removes and k == 2:
                pn.shrink(model, plan, optimizers=[optimizer])
            before = [parameter.detach().clone() for parameter in model.parameters()]
            train(model, [optimizer], x, 1)
            schedule.step()
            assert not any(torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))
        rates.append([(group["lr"], group["momentum"]) for group in optimizer.param_groups])
    assert rates[0] == rates[1]


def test_the_gradient_scaler_has_nothing_to_cut() -> None:
    """A removal between unscale_ and step, and the scale goes on."""
    model, x, plan = start("mlp-batch-norm")
    optimizer = optim.Adam(model.parameters())
    scaler = torch.amp.GradScaler("cpu", init_scale=8.0, growth_interval=2)
    for k in range(4):
        optimizer.zero_grad()
        scaler.scale(model(x).square().mean()).backward()
        scaler.unscale_(optimizer)
        if k == 1:
            pn.shrink(model, plan, optimizers=[optimizer])
        scaler.step(optimizer)
        scaler.update()
    assert scaler.get_scale() == 32.0


AVERAGES: dict[str, dict[str, Any]] = {
    "mean": {},
    "with buffers": {"use_buffers": True},
    "exponential": {"multi_avg_fn": optim.swa_utils.get_ema_multi_avg_fn(0.9)},
    "exponential, one by one": {"avg_fn": optim.swa_utils.get_ema_avg_fn(0.9)},
}


@pytest.mark.parametrize("options", AVERAGES.values(), ids=AVERAGES)
def test_an_average_shrinks_by_the_same_plan_and_goes_on(options: dict[str, Any]) -> None:
    """Removing and averaging commute: the average of the kept entries is the kept entries of the average."""
    model, x, plan = start("mlp-batch-norm")
    whole_model = copy.deepcopy(model)
    average, uncut = optim.swa_utils.AveragedModel(model, **options), optim.swa_utils.AveragedModel(whole_model, **options)
    optimizer = optim.SGD(model.parameters(), lr=0.1)
    for network, kept in ((model, average), (whole_model, uncut)):
        kept.update_parameters(network)
    pn.shrink(model, plan, optimizers=[optimizer])
    pn.shrink(average.module, plan)
    with torch.no_grad():
        for parameter in [*model.parameters(), *whole_model.parameters()]:
            parameter.mul_(1.5)
    average.update_parameters(model)
    uncut.update_parameters(whole_model)
    assert int(average.n_averaged) == 2
    for key, tensor in average.module.state_dict().items():
        assert torch.equal(tensor, by_index(plan, key, uncut.module.state_dict()[key])), key
    optim.swa_utils.update_bn([x], average)
    average(x)


def test_the_law_objects_to_state_cut_by_the_wrong_rule(monkeypatch: pytest.MonkeyPatch) -> None:
    """Planted fault: the first n entries, whatever was asked."""

    def first(value: Tensor, state: Any, parameter: Tensor, kept: Any) -> Tensor:
        for dim, indices in kept.items():
            value = value.narrow(dim, 0, len(indices))
        return value.contiguous()

    faulty = tuple((ruled, {key: first if rule is entries else whole for key, rule in rules.items()}) for ruled, rules in RULES)
    monkeypatch.setattr("parsinet.structure.optimizers.RULES", faulty)
    with pytest.raises(AssertionError):
        continues_as_by_hand("mlp-batch-norm", OPTIMIZERS["adam"])


def test_no_warning_where_nothing_starts_afresh() -> None:
    model, x, plan = start("mlp-batch-norm")
    optimizer = optim.Adam(model.parameters())
    train(model, [optimizer], x)
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        pn.shrink(model, plan, optimizers=[optimizer])
    assert told == []


class _Wrapped(optim.Optimizer):
    """Steps another optimizer that it keeps, as sharpness-aware minimisation does."""

    def __init__(self, parameters: Iterable[nn.Parameter], **options: Any) -> None:
        super().__init__(parameters, {})
        self.base = optim.SGD(self.param_groups, **options)
        self.param_groups = self.base.param_groups

    def step(self, closure: Any = None) -> None:
        self.base.step()


def test_what_an_optimizer_steps_is_cut_with_it() -> None:
    found = []
    for wrap in (False, True):
        model, x, plan = start("mlp-batch-norm")
        build: Any = _Wrapped if wrap else optim.SGD
        optimizer = build(model.parameters(), lr=0.01, momentum=0.9)
        train(model, [optimizer], x)
        pn.shrink(model, plan, optimizers=optimizer)
        train(model, [optimizer], x)
        found.append(torch.cat([parameter.detach().flatten() for parameter in model.parameters()]))
    assert torch.equal(*found)
