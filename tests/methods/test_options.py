"""What Gates accepts and refuses, and the schedule it makes of a budget."""

from __future__ import annotations

import re
import warnings

import numpy as np
import pytest
import torch
from torch import nn

from parsinet.errors import StructureError, UsageError
from parsinet.methods import Budget, Dense, Gates, Pruner
from parsinet.methods.pace import Pace
from parsinet.structure import trace

REFUSED = {
    "price 0": ({"price": 0.0}, "price must be > 0, got 0.0"),
    "price NaN": ({"price": float("nan")}, "price must be > 0, got nan"),
    "log γ negative": ({"log_gamma": -1.0}, "log_gamma must be > 0"),
    "both": ({"price": 1e-3, "log_gamma": 60.0}, "give price or log_gamma, not both"),
    "theta low": ({"theta": 0.4}, "theta must be ≥ 0.5 and ≤ 1.0, got 0.4"),
    "theta high": ({"theta": 1.1}, "theta must be ≥ 0.5 and ≤ 1.0"),
    "theta of three": (
        {"theta": [0.0, 0.5, 1.0]},
        "theta is one number or two with 0 ≤ low ≤ high ≤ 1 and high ≥ 0.5, got [0.0, 0.5, 1.0]",
    ),
    "theta upside down": ({"theta": (1.0, 0.2)}, "theta is one number or two"),
    "theta all low": ({"theta": (0.0, 0.4)}, "high ≥ 0.5, got (0.0, 0.4)"),
    "gated 0": ({"gated": 0.0}, "gated must be > 0 and ≤ 1.0"),
    "warmup": ({"warmup": -0.1}, "warmup must be ≥ 0 and ≤ 1.0"),
    "threshold": ({"threshold": 0.6}, "threshold must be ≥ 0 and ≤ 0.5"),
    "clamp": ({"clamp": 0.0}, "clamp must be > 0, got 0.0"),
    "fall": ({"fall_steps": 0}, "fall_steps must be a whole number ≥ 1, got 0"),
    "fall, a fraction": ({"fall_steps": 0.1}, "fall_steps must be a whole number ≥ 1, got 0.1"),
    "interval": ({"interval": 2.5}, "interval must be a whole number ≥ 1"),
    "estimator": ({"estimator": "curvatures"}, "no estimator 'curvatures'. Did you mean 'curvature'?"),
    "estimator of losses": ({"estimator": "disarms"}, "no estimator 'disarms'. Did you mean 'disarm'?"),
    "draws": ({"draws": "examples"}, "draws must be 'batch' or 'example', got 'examples'"),
    "decide": ({"decide": "flip"}, "no way to decide called 'flip'. Did you mean 'flips'?"),
    "deciding of nothing": ({"decide": "round", "deciding": 0.4}, "has no deciding part"),
    "deciding 0": ({"deciding": 0.0}, "deciding must be > 0 and ≤ 1.0, got 0.0"),
    "inputs": ({"inputs": 1}, "inputs must be True or False, got 1"),
    "blocks": ({"blocks": 1}, "blocks must be True, False or a list of names, got 1"),
    "one word": ({"groups": "fc1"}, "groups must be a list of group names, got the single word 'fc1'"),
}


def pruner(model: nn.Module, *, steps: int | None = None, examples: int | None = None, **options: object) -> Pruner:
    return Pruner(model, torch.optim.SGD(model.parameters(), lr=0.1), Gates(**options), torch.randn(2, 4), steps=steps, examples=examples)


def plain() -> nn.Module:
    return nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 3))


def test_gates_that_are_open_and_stay_so_are_refused() -> None:
    with pytest.raises(UsageError, match="with theta=1, deciding=1 every gate is open from the first step on"):
        pruner(plain(), theta=1.0, deciding=1.0, decide="absorb", steps=100)


@pytest.mark.parametrize(("options", "words"), REFUSED.values(), ids=REFUSED)
def test_options_out_of_range_are_refused(options: dict[str, object], words: str) -> None:
    with pytest.raises(UsageError, match=re.escape(words)):
        Gates(**options)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"clamp": None},
        {"draws": "example"},
        {"estimator": "arm"},
        {"estimator": "drawn-labels"},
        {"estimator": "disarm", "draws": "example"},
        {"theta": 0.5},
        {"theta": 1.0},
        {"theta": (0, 1)},
        {"theta": [1, 1]},
        {"theta": np.float32(0.9)},
        {"theta": np.array([0.5, 1.0])},
        {"theta": 1.0, "deciding": 1.0},
        {"gated": 1.0},
        {"threshold": 0.0},
        {"log_gamma": 60.0},
        {"fall_steps": 1},
    ],
)
def test_the_ends_of_the_ranges_are_accepted(options: dict[str, object]) -> None:
    assert pruner(plain(), steps=100, examples=1000, **options).widths() == {"0": 6, "2": 5}


def test_log_gamma_is_a_price_once_the_number_of_examples_is_known() -> None:
    assert pruner(plain(), examples=60_000, log_gamma=60.0).describe()["price"] == pytest.approx(1e-3)
    with pytest.raises(UsageError, match="log_gamma needs the number of training examples"):
        pruner(plain(), log_gamma=60.0)


def test_a_warm_up_needs_the_length_of_the_run() -> None:
    pruner(plain(), warmup=0.1, gated=0.5, deciding=0.3, steps=100)
    with pytest.raises(
        UsageError, match=r"gated and deciding are shares of the run, whose length is unknown; give Pruner\(..., steps=N\), or le"
    ):
        pruner(plain(), gated=0.5, deciding=0.3)
    with pytest.raises(UsageError, match="warmup is a share of the run"):
        pruner(plain(), warmup=0.1)


@pytest.mark.parametrize(
    ("steps", "options", "expected"),
    [
        (None, {}, (1000, 100, 0, 0)),
        (20_000, {}, (2000, 100, 0, 12_000)),
        (1000, {"warmup": 0.1}, (100, 10, 100, 600)),
        (4, {}, (1, 10, 0, 2)),
        (1000, {"fall_steps": 7, "interval": 3, "gated": 1.0}, (7, 3, 0, 1000)),
        (1500, {"target": "params=60%"}, (150, 10, 0, 600)),
        (1500, {"target": "params=60%", "gated": 0.6}, (150, 10, 0, 900)),
    ],
)
def test_the_schedule_follows_the_budget(steps: int | None, options: dict[str, object], expected: tuple[int, ...]) -> None:
    method = Gates(**options)
    model = plain()
    method.attach(model, trace(model, torch.randn(2, 4)), Budget(steps=steps, example_inputs=torch.randn(2, 4)))
    assert method._pace == Pace(*expected, gated=method.describe()["gated"], doubt=0.0)


def test_gates_sit_on_the_groups_that_were_asked_for() -> None:
    assert set(pruner(plain()).describe()["groups"]) == {"0", "2"}
    assert set(pruner(plain(), groups=["2"]).describe()["groups"]) == {"2"}


@pytest.mark.parametrize(
    ("groups", "error", "words"),
    [
        (["1"], StructureError, "There is no group '1'"),
        (["4"], UsageError, "group '4' cannot be gated: it is part of the model's output"),
        ([], UsageError, "groups is empty"),
    ],
)
def test_groups_that_cannot_be_gated_are_refused(groups: list[str], error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        pruner(plain(), groups=groups)


@pytest.mark.parametrize(
    "model",
    [nn.Linear(4, 3), nn.Sequential(nn.Linear(4, 6), nn.LayerNorm(6), nn.Linear(6, 3))],
    ids=["no hidden units", "under a norm"],
)
def test_a_network_without_anything_to_gate_is_refused_with_the_reasons(model: nn.Module) -> None:
    """Training on as if dense would look like a run that prunes nothing; whoever wants that says `dense`."""
    with pytest.raises(UsageError, match=r"no group of units that can be gated \(.*it is (part of the model's output|read where no)"):
        pruner(model)
    assert not model._forward_pre_hooks


@pytest.mark.parametrize("argument", ["steps", "examples", "round_to"])
def test_the_pruner_refuses_counts_below_one(argument: str) -> None:
    model = plain()
    with pytest.raises(UsageError, match=f"{argument} must be a whole number ≥ 1, got 0"):
        Pruner(model, torch.optim.SGD(model.parameters()), Dense(), torch.randn(2, 4), **{argument: 0})


def test_the_pruner_refuses_an_optimizer_of_another_model() -> None:
    with pytest.raises(UsageError, match="the optimizer holds none of the model's parameters"):
        Pruner(plain(), torch.optim.SGD(plain().parameters()), Dense(), torch.randn(2, 4))


def test_gates_that_hear_nothing_let_nothing_go() -> None:
    torch.manual_seed(0)
    model, x, y = plain().eval(), torch.randn(16, 4), torch.randn(16, 3)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    gates = Pruner(model, optimizer, Gates(price=1.0), x, steps=60)
    for _ in range(60):
        (model(x) - y).square().mean().backward()
        optimizer.step()
        optimizer.zero_grad()
        if gates.settled:
            break
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Gates: in .* steps no backward pass went through a gate")
            gates.step(lambda: (model(x) - y).square().mean())
    assert gates.settled
    assert gates.widths() == {"0": 6, "2": 5}
    gates.finish()
