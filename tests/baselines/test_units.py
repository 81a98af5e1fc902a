"""Baselines that remove units: the life of a run, resume, options and networks that do not fit are refused."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from baselines.toys import NOISY, OPTIONS, STEPS, Run, batch
from methods.runs import check_resume, same
from parsinet import baselines
from parsinet.errors import ParsinetError, ParsinetWarning, StructureError, UsageError
from parsinet.methods import Pruner
from parsinet.structure import trace

CASES = pytest.mark.parametrize("name", OPTIONS)


@CASES
def test_every_one_lives_through_a_run_and_lets_units_go(name: str) -> None:
    run = Run(name)
    for k in range(STEPS):
        run.step(k)
        told = json.loads(json.dumps(run.pruner.describe()))
        assert told["settled"] == run.pruner.settled
    assert run.pruner.settled
    assert run.pruner.finish() is run.model
    assert run.pruner.finish() is run.model
    assert sum(run.pruner.widths().values()) < 16
    assert all(width >= 1 for width in run.pruner.widths().values())
    assert not any(module._forward_pre_hooks for module in run.model.modules())
    assert run.pruner.penalty() == 0.0


ALIKE = {"normal-jeffreys", "spike-slab", "random-units", "slimming", "magnitude-units"}
"""Methods that keep what another of the table keeps; resumed in the slow run."""


@pytest.mark.parametrize("name", [pytest.param(name, marks=pytest.mark.slow) if name in ALIKE else name for name in OPTIONS])
def test_resume_is_bitwise(name: str) -> None:
    drawn = {"seed": 5} if name in NOISY or name == "random-units" else {}
    left = check_resume(lambda: Run(name), "telling", other=lambda: Run(name, **drawn))
    assert left[0] != left[-1], "units leave before the end"


@pytest.mark.parametrize("forget", ["generator", "values", "moments", "marked", "steps", "count"])
def test_the_law_of_resume_objects_to_what_is_lost(forget: str) -> None:
    run = Run("vib")
    run.advance(0, 12)
    state, fresh = run.state(), Run("vib").state()
    run.advance(12)
    own, new = state["pruner"]["method"]["state"], fresh["pruner"]["method"]["state"]
    if forget in ("steps", "generator"):
        own[forget] = new[forget]
    elif forget == "marked":
        own["rows"]["marked"] = ~own["rows"]["marked"]
    elif forget == "count":
        own["rows"]["count"] = 0
    else:
        own["rows"][forget] = {name: torch.zeros_like(row) for name, row in own["rows"][forget].items()}
    again = Run("vib")
    again.load(state)
    again.advance(12)
    assert not same(again.state(), run.state())


def test_vib_resumes_where_the_penalty_is_asked_before_the_network_has_run() -> None:
    """What a unit costs depends on at how many positions the last pass has seen it."""

    def start() -> Pruner:
        torch.manual_seed(0)
        model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Conv2d(4, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(64, 3))
        method = baselines.VIB(kl=1e-2)
        return Pruner(model, torch.optim.Adam(method.param_groups(model)), method, torch.zeros(2, 1, 8, 8), steps=20)

    whole, resumed = start(), start()
    whole.model(torch.ones(2, 1, 8, 8)).sum().backward()
    resumed.load_state_dict(whole.state_dict())
    asked = [torch.as_tensor(pruner.penalty()).item() for pruner in (resumed, whole, start())]
    assert asked[0] == asked[1] > 5 * asked[2]


REFUSED: dict[str, tuple[str, dict[str, Any], str]] = {
    "lam": ("l0", {"lam": 0.0}, "l0: lam must be > 0, got 0.0"),
    "drop": ("l0", {"drop": 1.0}, "l0: drop must be > 0 and < 1, got 1.0"),
    "kl": ("vib", {"kl": -1.0}, "vib: kl must be > 0"),
    "threshold": ("sbp", {"threshold": 0.0}, "sbp: threshold must be > 0"),
    "threshold nan": ("vib", {"threshold": float("nan")}, "vib: threshold must be a number"),
    "draws": ("vib", {"draws": "sample"}, "draws must be 'example' or 'batch', got 'sample'"),
    "gated": ("sbp", {"gated": 1.2}, "gated is a share of the run and must be > 0 and ≤ 1, got 1.2"),
    "rate": ("vib", {"rate": 0.0}, "vib: rate must be > 0"),
    "interval": ("l0", {"interval": 0}, "interval must be a whole number of steps ≥ 1, got 0"),
    "groups": ("l0", {"groups": "fc1"}, "Write ['fc1']"),
    "weights": ("group-lasso", {"weights": "rows"}, "weights must be 'incoming' or 'outgoing', got 'rows'"),
    "window": ("group-lasso", {"begin": 0.7}, "0 ≤ begin ≤ end ≤ 1, got 0.7 and 0.6"),
    "share": ("magnitude-units", {"share": 1.0}, "share must be > 0 and < 1, got 1.0"),
    "scope": ("random-units", {"scope": "gobal"}, "there is no scope 'gobal'. Did you mean 'global'?"),
    "share per group": ("magnitude-units", {"share": {"fc1": 0.5}, "scope": "global"}, "goes with scope='layer'"),
    "slimming lam": ("slimming", {"lam": 0.0}, "slimming: lam must be > 0"),
    "ranked interval": ("slimming", {"interval": 1.5}, "whole number of steps"),
    "shared option": ("sbp", {"draw": "batch"}, "Method 'sbp' has no option 'draw'. Did you mean 'draws'?"),
    "ranked groups": ("slimming", {"groups": "fc1"}, "Write ['fc1']"),
}


@pytest.mark.parametrize(("name", "options", "words"), REFUSED.values(), ids=REFUSED)
def test_options_out_of_range_are_refused_in_words(name: str, options: dict[str, Any], words: str) -> None:
    with pytest.raises(UsageError, match=re.escape(words)):
        baselines.build(name, **options)


def attach(name: str, model: nn.Module | None = None, *, inputs: Tensor | None = None, steps: int | None = 10, **options: Any) -> Pruner:
    model = model or nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 3))
    method = baselines.build(name, **options)
    x = torch.randn(2, 4) if inputs is None else inputs
    return Pruner(model, torch.optim.SGD(model.parameters(), lr=0.1), method, x, steps=steps)


ATTACHED: dict[str, tuple[str, dict[str, Any], type[ParsinetError], str]] = {
    "examples": ("l0", {}, UsageError, "l0: its penalty is divided by the number of training examples; give Pruner(..., examples=N)"),
    "steps": ("magnitude-units", {"steps": None}, UsageError, "its schedule needs the length of the run"),
    "no norms": ("slimming", {}, UsageError, "no group of units that can be judged (0: no batch normalisation scales its units"),
    "unknown": ("vib", {"groups": ["fc"]}, StructureError, "There is no group 'fc'"),
    "outputs": ("vib", {"groups": ["2"]}, UsageError, "vib: group '2' cannot be gated: it is part of the model's output"),
    "none": ("group-lasso", {"groups": []}, UsageError, "groups is empty"),
    "missing share": ("random-units", {"share": {"1": 0.5}, "groups": ["0"]}, UsageError, "share names no number for 0"),
}


@pytest.mark.parametrize(("name", "options", "error", "words"), ATTACHED.values(), ids=ATTACHED)
def test_networks_and_runs_that_do_not_fit_are_refused_in_words(
    name: str, options: dict[str, Any], error: type[ParsinetError], words: str
) -> None:
    with pytest.raises(error, match=re.escape(words)):
        attach(name, **options)


def test_a_reader_without_a_weight_of_its_own_is_no_place_for_factors() -> None:
    tied = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 3))
    tied[2].weight = tied[0].weight
    with pytest.raises(UsageError, match="can be gated"):
        attach("vib", tied)
    normed = nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.utils.parametrizations.weight_norm(nn.Linear(6, 3)))
    with pytest.raises(UsageError, match="no plain weight that a factor could move into"):
        attach("vib", normed)


def test_group_lasso_leaves_weights_alone_that_nobody_trains() -> None:
    model = nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 3))
    optimizer, method = torch.optim.SGD(model[2:].parameters(), lr=0.1), baselines.GroupLasso(lam=100.0)
    before = model[0].weight.clone()
    with pytest.warns(ParsinetWarning, match=r"no optimizer given holds 0\.weight, 0\.bias"):
        pruner = Pruner(model, optimizer, method, torch.zeros(2, 4), steps=10)
    pruner.step()
    assert torch.equal(model[0].weight, before)
    assert not model[2].weight.any()
    model[0].requires_grad_(False)
    with pytest.raises(UsageError, match=r"group '0' cannot be judged: the optimizer does not train 0\.weight"):
        Pruner(model, optimizer, baselines.GroupLasso(groups=["0"]), torch.zeros(2, 4), steps=10)


@pytest.mark.parametrize("name", ["l0", "sbp", "vib"])
def test_a_loss_that_is_not_finite_does_not_reach_the_distributions(name: str) -> None:
    run = Run(name)
    x = batch(0)
    ((run.model(x).sum() + run.pruner.penalty()) * float("inf")).backward()
    run.optimizer.zero_grad()
    run.pruner.step()
    assert all(bool(row.isfinite().all()) for row in run.method.rows.values.values())


def test_a_method_that_was_not_attached_says_so() -> None:
    with pytest.raises(UsageError, match="give it to a Pruner first"):
        baselines.VIB().step()
    with pytest.raises(UsageError, match="give it to a Pruner first"):
        _ = baselines.RandomUnits().structure


def test_saved_units_of_another_network_are_refused() -> None:
    run = Run("vib")
    state = run.method.state_dict()
    state["rows"]["sizes"] = {"conv": 4, "fc1": 10}
    with pytest.raises(StructureError, match="saved gates are of groups"):
        run.method.load_state_dict(state)
    order = Run("random-units")
    saved = order.method.state_dict()
    saved["order"] = {"conv": torch.zeros(4)}
    with pytest.raises(StructureError, match="saved order is of groups"):
        order.method.load_state_dict(saved)


class _Complex(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.a, self.b = nn.Linear(16, 24, dtype=torch.complex64), nn.Linear(24, 4, dtype=torch.complex64)

    def forward(self, x: Tensor) -> Tensor:
        return self.b(torch.tanh(self.a(x.to(torch.complex64)))).abs()  # type: ignore[no-any-return]


COMPLEX = {"GroupLasso": {"lam": 1e-3}, "L0": {"lam": 0.1}, "VIB": {"kl": 1e-3}, "SBP": {"kl": 1e-3}}


@pytest.mark.parametrize("kind", COMPLEX)
def test_complex_weights_train_and_stay_finite(kind: str) -> None:
    model, x = _Complex(), torch.randn(64, 16, generator=torch.Generator().manual_seed(0))
    method = getattr(baselines, kind)(**COMPLEX[kind])
    optimizer = torch.optim.Adam(method.param_groups(model), lr=3e-3)
    pruner = Pruner(model, optimizer, method, x[:2], steps=20, examples=64)
    losses = []
    for _ in range(20):
        loss = F.cross_entropy(model(x), x[:, :4].argmax(1))
        (loss + pruner.penalty()).backward()
        optimizer.step()
        optimizer.zero_grad()
        pruner.step()
        losses.append(loss.item())
    assert pruner.widths()["a"] > 12
    assert losses[-1] < losses[0]
    assert bool(torch.isfinite(model(x)).all())


def perceptron(dtype: torch.dtype = torch.float32) -> nn.Sequential:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Sequential(nn.Linear(6, 16), nn.ReLU(), nn.Linear(16, 16), nn.ReLU(), nn.Linear(16, 3)).to(dtype)


def test_group_lasso_leaves_frozen_weights_alone() -> None:
    model, x = perceptron(), torch.randn(8, 6)
    model[0].requires_grad_(False)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    before = [parameter.detach().clone() for parameter in model.parameters()]
    groups = [group.name for group in trace(model, x).removable()]
    method = baselines.GroupLasso(lam=0.05, early=False, end=1.0, groups=groups[1:])
    pruner = Pruner(model, optimizer, method, x, steps=20)
    model[4].requires_grad_(False)
    for _ in range(3):
        model(x).square().mean().backward()
        optimizer.step()
        optimizer.zero_grad()
        pruner.step()
    same = [torch.equal(old, new) for old, new in zip(before, model.parameters(), strict=True)]
    assert same == [True, True, False, False, True, True]


def test_group_lasso_on_16_bits_says_what_is_lost() -> None:
    model, x = perceptron(torch.bfloat16), torch.randn(8, 6, dtype=torch.bfloat16)
    with pytest.warns(ParsinetWarning, match="0.weight.*have 16 bits"):
        Pruner(model, torch.optim.SGD(model.parameters(), lr=0.1), baselines.GroupLasso(), x, steps=20)


@pytest.mark.parametrize("name", ["L0", "VIB", "SBP", "NormalJeffreys", "SpikeSlab"])
def test_distributions_of_a_16_bit_network_are_finer_than_its_weights(name: str) -> None:
    model, x = perceptron(torch.bfloat16), torch.randn(8, 6, dtype=torch.bfloat16)
    method = getattr(baselines, name)(early=False)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    pruner = Pruner(model, optimizer, method, x, steps=50, examples=8)
    before = {key: value.detach().clone() for key, value in method.rows.values.items()}
    assert all(value.dtype in (torch.float32, torch.float64) for value in before.values())
    for _ in range(10):
        (model(x).float().square().mean() + pruner.penalty()).backward()
        optimizer.step()
        optimizer.zero_grad()
        pruner.step()
    assert all((method.rows.values[key] != value).any() for key, value in before.items())
    assert pruner.finish()(x).dtype == torch.bfloat16


def test_positions_are_counted_in_training_alone() -> None:
    model = nn.Sequential(nn.Conv1d(3, 8, 3, padding=1), nn.ReLU(), nn.Conv1d(8, 4, 1), nn.AdaptiveAvgPool1d(1), nn.Flatten())
    pruner = Pruner(model, torch.optim.SGD(model.parameters(), lr=0.1), baselines.VIB(kl=1.0), torch.randn(2, 3, 10), steps=10)
    model(torch.randn(2, 3, 10))
    penalty = pruner.penalty().detach()
    model.eval()(torch.randn(2, 3, 40))
    assert torch.equal(pruner.penalty().detach(), penalty)
    pruner.finish()
