"""Gates that follow averages of their estimates: resume, and what leaves."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from methods.runs import BEGINNINGS, check_resume
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


def test_what_cannot_be_is_refused() -> None:
    with pytest.raises(UsageError, match="doubt must be ≥ 0 and ≤ 100, got -1"):
        Gates(doubt=-1.0)


def test_a_run_too_short_for_averages_is_refused() -> None:
    with pytest.raises(UsageError, match="doubt averages 35 estimates before a gate moves, and gates act for 25 steps"):
        Short()
