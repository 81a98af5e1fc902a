"""Gates that follow averages of their estimates: resume, and what leaves."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import parsinet as pn
from methods.runs import BEGINNINGS, check_resume, same
from methods.test_resume import Run
from methods.toys import OPTIMIZERS
from parsinet.errors import UsageError
from parsinet.gates import averages
from parsinet.methods import Gates, pace
from parsinet.methods.gating import GateBank
from parsinet.methods.pricing import Uniform
from parsinet.methods.walking import walk


class Short(Run):
    """36 steps, too few for averages to begin with the usual patience."""

    def __init__(self, **options: Any) -> None:
        super().__init__(OPTIMIZERS["adam"], **{"doubt": 0.5, **options})


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(averages, "BEGUN", 0.05)
    monkeypatch.setattr(pace, "FIRST", 3)


@BEGINNINGS
@pytest.mark.usefixtures("impatient")
def test_resume_is_bitwise(begin: str) -> None:
    """Averages are cut and saved as θ is."""
    left = check_resume(Short, begin)
    assert len({str(units) for units in left}) >= 3, "several removals"


@pytest.mark.usefixtures("impatient")
def test_a_state_without_averages_is_refused_and_lost_ones_tell() -> None:
    run = Short()
    run.advance(0, 14)
    state = run.state()
    bare = state["pruner"]["method"]["state"]
    kept = bare.pop("averages")
    with pytest.raises(UsageError, match="with other options"):
        Short().load(state)
    bare["averages"] = {name: torch.zeros_like(row) for name, row in kept.items()}
    again = Short()
    again.load(state)
    for each in (run, again):
        each.advance(14, 20)
    assert not torch.equal(run.method._bank.theta, again.method._bank.theta)


def closed(doubt: float) -> tuple[float, float]:
    """Of units worth three prices and of such worth nothing, the shares that were closed once within six falls; noise of 20 prices."""
    price, units = 1e-3, 200
    worth = price * torch.cat([torch.full((units // 2,), 3.0), torch.zeros(units // 2)])
    random = torch.Generator().manual_seed(0)
    bank = GateBank({"fc": units}, torch.ones(units), torch.device("cpu"), None, random, doubt=doubt)
    found = torch.zeros(units, dtype=torch.bool)
    for _ in range(600):
        estimate = -worth + 20 * price * torch.randn(units, generator=random)
        walk(bank, {"fc": estimate}, Uniform(price), 100, 10.0, absorbing=False)
        found |= bank.theta == 0
    useful, useless = found.float().split(units // 2)
    return float(useful.mean()), float(useless.mean())


def test_units_close_for_what_they_are_worth_and_not_by_noise() -> None:
    useful, useless = closed(0.0)
    assert useful > 0.3, "otherwise there is nothing to mend"
    assert useless == 1.0
    useful, useless = closed(2.0)
    assert useful < 0.05
    assert useless > 0.7


def test_an_estimate_that_is_no_number_moves_nothing() -> None:
    """Not by what is remembered of earlier ones either."""
    bank = GateBank({"fc": 2}, torch.full((2,), 0.5), torch.device("cpu"), None, torch.Generator(), doubt=2.0)
    for _ in range(60):
        walk(bank, {"fc": torch.tensor([-3e-3, -3e-3])}, Uniform(1e-3), 1000, 10.0, absorbing=False)
    theta, averages = bank.theta.clone(), bank.averages.clone()
    walk(bank, {"fc": torch.tensor([torch.nan, -3e-3])}, Uniform(1e-3), 1000, 10.0, absorbing=False)
    assert bank.theta[0] == theta[0]
    assert bank.theta[1] > theta[1]
    assert torch.equal(bank.averages[:, 0], averages[:, 0])
    assert not torch.equal(bank.averages[:, 1], averages[:, 1])


def convolution() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, 6, 3), nn.ReLU(), nn.Conv2d(6, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 16, 3))


def patches() -> nn.Module:
    """One convolution, most of the work in linear layers."""
    torch.manual_seed(0)
    layers = [nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 3)]
    return nn.Sequential(nn.Conv2d(1, 16, 4, stride=4), nn.Flatten(), *layers)


USUAL: dict[str, tuple[Callable[[], nn.Module], dict[str, Any], int, tuple[float, float]]] = {
    "convolutions": (convolution, {"target": "macs=40%"}, 600, (0.7, 2.0)),
    "a price": (convolution, {"price": 1e-2}, 600, (0.6, 0.0)),
    "doubt refused": (convolution, {"target": "macs=40%", "doubt": 0.0}, 600, (0.4, 0.0)),
    "another doubt": (convolution, {"target": "macs=40%", "doubt": 1.0}, 600, (0.7, 1.0)),
    "another phase": (convolution, {"target": "macs=40%", "gated": 0.9}, 600, (0.9, 2.0)),
    "a short phase": (convolution, {"target": "macs=40%", "gated": 0.5}, 600, (0.5, 0.0)),
    "a strong target": (convolution, {"target": "params=12%"}, 600, (0.4, 0.0)),
    "a strong target, doubted": (convolution, {"target": "params=12%", "doubt": 2.0}, 600, (0.4, 2.0)),
    "a mild number": (convolution, {"target": "params=112"}, 600, (0.7, 2.0)),
    "a small number": (convolution, {"target": "params=110"}, 600, (0.4, 0.0)),
    "mild bytes": (convolution, {"target": "bytes=13%"}, 600, (0.7, 2.0)),
    "a short run": (convolution, {"target": "macs=40%"}, 400, (0.4, 0.0)),
    "matrices": (patches, {"target": "macs=60%"}, 600, (0.4, 0.0)),
    "matrices, doubted": (patches, {"target": "macs=60%", "doubt": 2.0}, 600, (0.4, 2.0)),
}


@pytest.mark.parametrize("case", USUAL)
def test_what_is_usual_depends_on_network_price_and_length(case: str) -> None:
    build, options, steps, expected = USUAL[case]
    model, method = build(), Gates(**options)
    pn.Pruner(model, torch.optim.SGD(model.parameters(), lr=0.1), method, torch.randn(2, 1, 8, 8), steps=steps)
    told = json.loads(json.dumps(method.describe()))
    assert (told["gated"], told["doubt"]) == expected
    assert torch.all(method._bank.theta == (1.0 if expected[1] else 0.9))


@pytest.mark.filterwarnings("ignore:.*was not met within")
@pytest.mark.usefixtures("impatient")
def test_the_usual_doubt_is_that_of_the_option(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pace, "LONG", 10)
    widths = []
    for given in ({}, {"doubt": 2.0, "gated": 0.7}, {"doubt": 0.0}):
        model, random = convolution(), torch.Generator().manual_seed(3)
        method = Gates(target="macs=40%", **given)
        optimizer = torch.optim.SGD(method.param_groups(model), lr=0.05)
        pruner = pn.Pruner(model, optimizer, method, torch.zeros(2, 1, 8, 8), steps=60)
        for _ in range(60):
            x = torch.randn(16, 1, 8, 8, generator=random)
            (F.cross_entropy(model(x), (x.mean((1, 2, 3)) > 0).long()) + pruner.penalty()).backward()
            optimizer.step()
            optimizer.zero_grad()
            pruner.step()
        widths.append({name: value.clone() for name, value in pruner.finish().state_dict().items()})
    assert same(widths[0], widths[1])
    assert not same(widths[0], widths[2])


def test_a_warm_up_may_last_while_gates_act() -> None:
    """Whether it leaves time to gates is known when the network is: they act until .7 of the run, or until .4."""
    method = Gates(target="macs=60%", warmup=0.5)
    model = patches()
    with pytest.raises(UsageError, match=r"with warmup=0\.5 no unit could leave before gates cease to act, at gated=0\.4"):
        pn.Pruner(model, torch.optim.SGD(model.parameters(), lr=0.1), method, torch.randn(2, 1, 8, 8), steps=600)
    model = convolution()
    pn.Pruner(model, torch.optim.SGD(model.parameters(), lr=0.1), Gates(target="macs=60%", warmup=0.5), torch.randn(2, 1, 8, 8), steps=600)
    with pytest.raises(UsageError, match=r"at gated=0\.7 of the run"):
        Gates(target="macs=60%", warmup=0.7)


def test_what_cannot_be_is_refused() -> None:
    with pytest.raises(UsageError, match="doubt must be ≥ 0 and ≤ 100, got -1"):
        Gates(doubt=-1.0)


def test_a_run_too_short_for_averages_is_refused() -> None:
    with pytest.raises(UsageError, match="doubt averages 35 estimates before a gate moves, and gates move for 15 steps"):
        Short()


@pytest.mark.parametrize(("steps", "options"), [(90, {}), (400, {"gated": 0.7, "deciding": 0.9})])
def test_gates_that_doubt_have_time_to_move_before_open_ones_stay_so(steps: int, options: dict[str, float]) -> None:
    """All are open at first: without that time none would ever close."""

    def begin(steps: int, **options: Any) -> None:
        model = nn.Sequential(nn.Linear(6, 12), nn.ReLU(), nn.Linear(12, 3))
        method = Gates(price=10.0, doubt=2.0, **options)
        pn.Pruner(model, torch.optim.SGD(model.parameters(), lr=0.1), method, torch.zeros(2, 6), steps=steps)

    with pytest.raises(UsageError, match=r"doubt averages 35 estimates before a gate moves, and gates move for (32|28) steps"):
        begin(steps, **options)
    begin(2 * steps, **options)
    if not options:
        begin(steps, decide="round")


def test_what_is_usual_does_not_doubt_where_gates_could_not_move() -> None:
    model, method = convolution(), Gates(target="macs=60%", deciding=0.95)
    pn.Pruner(model, torch.optim.SGD(model.parameters(), lr=0.1), method, torch.randn(2, 1, 8, 8), steps=600)
    assert method.describe()["doubt"] == 0
