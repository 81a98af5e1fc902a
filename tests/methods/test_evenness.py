"""Prices that keep the shape of a network: the factor, that it follows removals and resumes, that shapes get more even."""

from __future__ import annotations

import re
from typing import Any

import pytest
import torch
from torch import Tensor

from methods.runs import BEGINNINGS, check_resume
from methods.test_pricing import Small, prices, pruner
from methods.test_resume import Run
from methods.test_target import TARGETED, digits
from methods.toys import OPTIMIZERS
from parsinet.errors import UsageError
from parsinet.methods import Gates
from parsinet.methods.evenness import Evenness


def rows(**open_units: int) -> dict[str, Tensor]:
    """Groups of ten units, so many of which are open."""
    return {name: (torch.arange(10) < count).float() for name, count in open_units.items()}


def test_a_group_that_kept_twice_the_mean_pays_two_to_the_power() -> None:
    shape = Evenness(3.0)
    shape.begin(rows(a=10, b=10, c=10))
    assert shape.factors(rows(a=10, b=10, c=10)) == {"a": 1.0, "b": 1.0, "c": 1.0}
    assert shape.factors(rows(a=8, b=2, c=2)) == pytest.approx({"a": 8.0, "b": 0.125, "c": 0.125})


def test_the_share_is_of_the_units_of_the_dense_network() -> None:
    """A group cut to two units of ten, both open, has a fifth; one whose gates all close counts as one unit."""
    shape = Evenness(1.0)
    shape.begin(rows(a=10, b=10))
    assert shape.factors({"a": torch.ones(2), "b": torch.zeros(10)}) == pytest.approx({"a": 0.2 / 0.15, "b": 0.1 / 0.15})


def test_blocks_and_no_power_leave_prices_alone() -> None:
    shape = Evenness(2.0, blocks=("b",))
    shape.begin(rows(a=10, b=1))
    assert set(shape.factors(rows(a=10, b=1))) == {"a"}
    assert Evenness(0.0).factors(rows(a=10)) == {}


def test_prices_hold_the_factor() -> None:
    """θ of one group halved by hand: shares ½ and 1, mean ¾."""
    found = {}
    for evenness in (0.0, 2.0):
        run = pruner(Small(), cost_price=0.3, evenness=evenness, interval=1)
        bank, pricing = run.method._bank, run.method._pricing  # type: ignore[attr-defined]
        bank.split(bank.theta)["conv"].fill_(0.5)
        pricing.refresh(1, bank.rows())
        found[evenness] = prices(run)
    assert torch.allclose(found[2.0]["conv"], found[0.0]["conv"] * (0.5 / 0.75) ** 2)
    assert torch.allclose(found[2.0]["fc"], found[0.0]["fc"] * (1 / 0.75) ** 2)


@pytest.mark.slow
def test_a_network_narrows_more_evenly() -> None:
    """Shares of the two layers at one target: a unit of the second saves a fifth of what one of the first does, and is worth more."""
    apart = []
    for evenness in (0.0, 8.0):
        _, run, _ = digits(300, target="params=10k", evenness=evenness)
        widths = run.widths()
        shares = sorted((widths["0"] / 300, widths["2"] / 100))
        apart.append(shares[1] / shares[0])
    assert apart[1] < 1.25 < apart[0]


@BEGINNINGS
@pytest.mark.filterwarnings("ignore:Gates. target macs=45%")
def test_resume_is_bitwise(begin: str) -> None:
    left = check_resume(lambda: Run(OPTIMIZERS["adam"], **{**TARGETED, "evenness": 4.0}), begin)
    assert len({str(units) for units in left}) >= 3, "several removals"


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "negative": ({"target": "macs=20%", "evenness": -1.0}, "evenness is the power of a group's share in its price and must be ≥ 0"),
    "alone": ({"price": 1e-3, "evenness": 4.0}, "give it with cost_price or target"),
}


@pytest.mark.parametrize(("options", "words"), REFUSED.values(), ids=REFUSED)
def test_what_cannot_be_is_refused_in_words(options: dict[str, Any], words: str) -> None:
    with pytest.raises(UsageError, match=re.escape(words)):
        Gates(**options)
