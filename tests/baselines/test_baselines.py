"""Baselines as methods: the protocol, sparsity met to one weight at every update, units that leave, bad options refused."""

from __future__ import annotations

import copy
import json
import re
from functools import partial
from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from methods import runs
from methods.runs import BEGINNINGS, check_resume, same
from methods.test_protocol import tell_missing
from parsinet import baselines, measure, topology
from parsinet.baselines import BASELINES
from parsinet.errors import ParsinetWarning, UsageError
from parsinet.methods import MaskedTraining, Pruner

MASKED = [name for name, kind in BASELINES.items() if isinstance(kind, type) and issubclass(kind, MaskedTraining)]
CASES = pytest.mark.parametrize("name", MASKED)
STEPS = 40


class Run(runs.Run):
    """A small network in training under a baseline."""

    def __init__(self, name: str, *, lr: float = 0.02, **options: Any) -> None:
        with torch.random.fork_rng():
            torch.manual_seed(0)
            model = nn.Sequential(nn.Linear(12, 24), nn.ReLU(), nn.Linear(24, 16), nn.ReLU(), nn.Linear(16, 3)).double()
        method = baselines.build(name, **options)
        assert isinstance(method, MaskedTraining)
        super().__init__(model, method, partial(torch.optim.Adam, lr=lr), torch.zeros(2, 12, dtype=torch.float64), steps=STEPS)

    def batch(self, k: int) -> tuple[Tensor, Tensor]:
        x = torch.randn(32, 12, dtype=torch.float64, generator=torch.Generator().manual_seed(k))
        return x, x[:, :3].argmax(1)


@pytest.mark.parametrize("name", BASELINES)
def test_every_baseline_is_a_method(name: str) -> None:
    assert tell_missing(baselines.build(name)) == set()
    assert baselines.build(name).name == name
    assert name in baselines.names()


@CASES
def test_every_baseline_lives_through_a_run(name: str) -> None:
    run = Run(name, sparsity=0.8, remove_units=False)
    for k in range(STEPS):
        run.step(k)
        told = json.loads(json.dumps(run.pruner.describe()))
        assert {"active", "sparsity", "explored", "returned_share", "tensors", "settled", "target"} <= told.keys()
    assert run.pruner.finish() is run.model
    assert run.pruner.settled
    assert run.pruner.finish() is run.model
    assert not any(weight._post_accumulate_grad_hooks for weight in run.method.masks.weights.values())  # type: ignore[attr-defined]
    total = run.method.masks.total
    biases = sum(p.numel() for p in run.model.parameters() if p.dim() == 1)
    assert run.method.masks.active == round(0.2 * total)
    zero = sum(int(((w == 0) & run.method.masks.masks[n]).sum()) for n, w in run.method.masks.weights.items())
    assert measure.profile(run.model, torch.zeros(2, 12).double(), latency=False).nonzeros == round(0.2 * total) + biases - zero


@pytest.mark.parametrize("distribution", topology.DISTRIBUTIONS)
def test_gmp_meets_the_cubic_schedule_to_one_weight(distribution: str) -> None:
    run = Run("gmp", sparsity=0.9, distribution=distribution, begin=0.1, end=0.8, interval=3, remove_units=False)
    shapes, seen = dict(run.method.masks.shapes), []
    for k in range(1, STEPS + 1):
        run.step(k)
        if k in (6, 9, 12, 15, 18, 21, 24, 27, 30, 32):
            sparsity = 0.9 * (1 - (1 - (k - 4) / 28) ** 3)
            wanted = topology.wanted(shapes, sparsity, distribution)
            per_tensor = {name: int(mask.sum()) for name, mask in run.method.masks.masks.items()}
            assert (sum(per_tensor.values()) if isinstance(wanted, int) else per_tensor) == wanted
        seen.append(run.method.masks.active)
    changes = {k + 2 for k, (before, after) in enumerate(pairwise(seen)) if before != after}
    assert {6, 9, 12, 24} <= changes <= {6, 9, 12, 15, 18, 21, 24, 27, 30, 32}, "at no other step"


@pytest.mark.parametrize("name", ["set", "rigl", "random-mask"])
def test_counts_per_tensor_stay_what_erk_says(name: str) -> None:
    run = Run(name, sparsity=0.8, remove_units=False, **({} if name == "random-mask" else {"interval": 3}))
    wanted = topology.wanted(run.method.masks.shapes, 0.8, "erk")
    first = {n: m.clone() for n, m in run.method.masks.masks.items()}
    for k in range(STEPS):
        run.step(k)
        assert {n: int(m.sum()) for n, m in run.method.masks.masks.items()} == wanted
    moved = any(not torch.equal(first[n], m) for n, m in run.method.masks.masks.items())
    assert moved == (name != "random-mask")


def test_rigl_grows_where_the_dense_gradient_is_largest() -> None:
    run = Run("rigl", sparsity=0.8, interval=4, remove_units=False)
    for k in range(3):
        run.step(k)
    masks = run.method.masks
    before = {n: m.clone() for n, m in masks.masks.items()}
    twin = copy.deepcopy(run.model)
    x = torch.randn(32, 12, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    F.cross_entropy(twin(x), x[:, :3].argmax(1)).backward()
    dense = {n: p.grad for n, p in twin.named_parameters()}
    run.step(3)
    name = "0.weight"
    grown, kept = masks.masks[name] & ~before[name], masks.masks[name] & before[name]
    assert grown.any()
    assert dense[name][grown].abs().min() >= dense[name][~kept & ~grown].abs().max()  # type: ignore[index]


def test_snip_keeps_the_most_sensitive_weights_of_the_first_batch() -> None:
    run = Run("snip", sparsity=0.7, remove_units=False)
    twin = copy.deepcopy(run.model)
    x = torch.randn(32, 12, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    F.cross_entropy(twin(x), x[:, :3].argmax(1)).backward()
    scores = {n: (p * p.grad).abs() for n, p in twin.named_parameters() if p.dim() > 1 and p.grad is not None}
    run.step(0)
    expected = topology.choose(scores, round(0.3 * run.method.masks.total))
    assert all(torch.equal(run.method.masks.masks[n], m) for n, m in expected.items())


def told_snip(batches: int, finite: list[bool]) -> Run:
    """SNIP after steps whose gradients are finite or not."""
    run = Run("snip", sparsity=0.7, batches=batches, remove_units=False)
    for k, usual in enumerate(finite):
        loss = run.model(torch.randn(4, 12, dtype=torch.float64, generator=torch.Generator().manual_seed(k))).square().mean()
        (loss if usual else loss * float("inf")).backward()
        run.optimizer.zero_grad()
        run.pruner.step()
    return run


@pytest.mark.parametrize(("batches", "finite"), [(1, [False]), (1, [False, False]), (3, [True, True, False]), (3, [False, True, True])])
def test_snip_waits_for_as_many_finite_gradients_as_it_wants(batches: int, finite: list[bool]) -> None:
    run = told_snip(batches, finite)
    assert run.method.masks.active == run.method.masks.total
    again = Run("snip", sparsity=0.7, batches=batches, remove_units=False)
    again.method.load_state_dict(copy.deepcopy(run.method.state_dict()))
    for waiting in (told_snip(batches, [*finite, True]), again):
        if waiting is again:
            again.step(len(finite))
        assert waiting.method.masks.active == round(0.3 * run.method.masks.total)


def test_snip_that_learned_of_some_batches_only_keeps_what_it_knows_and_of_none_says_so() -> None:
    run = told_snip(3, [True, False])
    run.pruner.finish()
    assert run.method.masks.active == round(0.3 * run.method.masks.total)
    run = told_snip(1, [False, False])
    with pytest.warns(ParsinetWarning, match="none of 2 steps had a finite gradient, so all weights stay"):
        run.pruner.finish()


def test_a_run_that_ends_early_still_meets_its_sparsity() -> None:
    run = Run("gmp", sparsity=0.9, remove_units=False)
    for k in range(8):
        run.step(k)
    assert run.method.masks.active > round(0.1 * run.method.masks.total)
    run.pruner.finish()
    assert run.method.masks.active == round(0.1 * run.method.masks.total)


@pytest.mark.parametrize("name", ["gmp", "set", "snip"])
def test_units_that_nobody_reads_leave_with_their_masks(name: str) -> None:
    run = Run(name, sparsity=0.93, lr=0.05)
    removed = [removal for removal in (run.step(k) for k in range(STEPS)) if removal is not None]
    x = torch.randn(5, 12, dtype=torch.float64)
    before = run.model(x)
    run.pruner.finish()
    assert removed or sum(run.pruner.widths().values()) < 40
    assert torch.allclose(run.model(x), before, rtol=1e-10, atol=1e-12)
    assert all(run.method.masks.masks[n].shape == w.shape for n, w in run.method.masks.weights.items())
    assert all(bool((w.detach()[~run.method.masks.masks[n]] == 0).all()) for n, w in run.method.masks.weights.items())


RESUMED: dict[str, dict[str, Any]] = {
    "gmp": {"sparsity": 0.93, "interval": 3},
    "set": {"sparsity": 0.9, "interval": 3, "end": 0.7},
    "rigl": {"sparsity": 0.9, "interval": 3},
    "rigl momentum": {"sparsity": 0.9, "interval": 3, "growth": "momentum"},
    "rigl random": {"sparsity": 0.9, "interval": 3, "growth": "random"},
    "snip": {"sparsity": 0.9, "batches": 4},
    "random-mask": {"sparsity": 0.9},
}


def masks(state: dict[str, Any]) -> Any:
    """The masks of a saved run."""
    return state["pruner"]["method"]["state"]["topology"]["masks"]


@BEGINNINGS
@pytest.mark.parametrize(("name", "options"), RESUMED.items())
def test_resume_across_updates_is_bitwise(name: str, options: dict[str, Any], begin: str) -> None:
    kind = name.split()[0]
    check_resume(lambda: Run(kind, **options), begin, masks, other=lambda: Run(kind, **{**options, "seed": 5}))


@pytest.mark.parametrize("forget", ["generator", "steps", "masks"])
def test_the_law_of_resume_objects_to_what_is_lost(forget: str) -> None:
    options = RESUMED["set"]
    run = Run("set", **options)
    for k in range(10):
        run.step(k)
    state, fresh = run.state(), Run("set", **{**options, "seed": 5}).state()["pruner"]["method"]["state"]
    for k in range(10, STEPS):
        run.step(k)
    saved = state["pruner"]["method"]["state"]
    if forget == "steps":
        saved["steps"] = 0
    else:
        saved["topology"][forget] = fresh["topology"][forget]
    again = Run("set", **options)
    again.load(state)
    for k in range(10, STEPS):
        again.step(k)
    assert not same(again.state(), run.state())


def test_layers_can_be_left_dense() -> None:
    run = Run("gmp", sparsity=0.9, exclude=["last", "2"])
    assert list(run.method.masks.weights) == ["0.weight"]


REFUSED = {
    "sparsity": ("gmp", {"sparsity": 1.0}, "must be ≥ 0 and < 1, got 1.0"),
    "distribution": ("gmp", {"distribution": "erx"}, "no distribution 'erx'"),
    "global, dealt out": ("rigl", {"distribution": "global"}, "rigl: distribution must be 'erk' or 'uniform', got 'global'"),
    "order": ("gmp", {"begin": 0.8, "end": 0.2}, "0 ≤ begin ≤ end ≤ 1, got 0.8 and 0.2"),
    "interval": ("set", {"interval": 0}, "set: interval must be a whole number of steps ≥ 1, got 0"),
    "zeta": ("set", {"zeta": 1.0}, "zeta is a share of the active weights and must be > 0 and < 1, got 1.0"),
    "growth": ("rigl", {"growth": "gradients"}, "no growth 'gradients'. Did you mean 'gradient'?"),
    "batches": ("snip", {"batches": 0}, "batches must be a whole number ≥ 1, got 0"),
    "one word": ("gmp", {"exclude": "fc1"}, "got the single word 'fc1'. Write ['fc1']"),
    "no such layer": ("gmp", {"exclude": ["fc9"]}, "exclude: 'fc9' fits no Linear"),
    "nothing left": ("gmp", {"sparsity": 0.9999}, "leaves none of 720 weights"),
    "shared option": ("rigl", {"sed": 3}, "Method 'rigl' has no option 'sed'. Did you mean 'seed'?"),
    "option": ("gmp", {"zeta": 0.3}, "Method 'gmp' has no option 'zeta'"),
    "name": ("gmb", {}, "There is no method 'gmb'. Did you mean 'gmp'?"),
}


@pytest.mark.parametrize(("name", "options", "words"), REFUSED.values(), ids=REFUSED)
def test_bad_options_are_refused(name: str, options: dict[str, Any], words: str) -> None:
    with pytest.raises(UsageError, match=re.escape(words)):
        Run(name, **options)


def test_a_schedule_needs_the_length_of_the_run() -> None:
    model, method = nn.Sequential(nn.Linear(4, 5), nn.ReLU(), nn.Linear(5, 2)), baselines.build("gmp")
    with pytest.raises(UsageError, match=re.escape("give Pruner(..., steps=N)")):
        Pruner(model, torch.optim.SGD(model.parameters()), method, torch.zeros(2, 4))
    with pytest.raises(UsageError, match="no masks yet"):
        baselines.build("gmp").describe()


def test_snip_leaves_steps_to_train_what_stays() -> None:
    with pytest.raises(UsageError, match=r"snip: batches=1000 of a run of .* leaves none to train the sparse network"):
        Run("snip", batches=1000)


@pytest.mark.parametrize("name", ["gmp", "rigl", "set"])
def test_an_interval_longer_than_the_window_is_told(name: str) -> None:
    with pytest.warns(ParsinetWarning, match=f"{name}: between step .* there is no multiple of interval=1000"):
        Run(name, sparsity=0.7, interval=1000)
