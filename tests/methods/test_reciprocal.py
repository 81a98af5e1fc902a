"""Sparse training in reciprocal space: the schedule, exact zeros at the end, masks that move, resume, refusals."""

from __future__ import annotations

import json
from functools import partial
from itertools import product
from typing import Any

import pytest
import torch
from torch import nn

from methods import runs
from methods.runs import check_resume
from methods.toys import network, points
from parsinet import measure
from parsinet.errors import ParsinetError
from parsinet.methods import SpectralSparse
from parsinet.spectral import topology

STEPS = 24
SIZES = (2 * 12, 12 * 8, 8 * 2)


class Run(runs.Run):
    """A short run of the method on the ring problem."""

    def __init__(self, **options: Any) -> None:
        method = SpectralSparse(**{"sparsity": 0.6, "every": 3, **options})
        super().__init__(network(), method, partial(torch.optim.Adam, lr=0.02), points(4)[0], steps=STEPS)


def kept(state: dict[str, Any]) -> dict[str, Any]:
    """The masks of a saved run."""
    return {name: value for name, value in state["model"].items() if name.endswith("mask.kept")}


def masked(size: int, sparsity: float) -> int:
    """Entries that are zero: those up to rank round((n − 1)·s)."""
    return round((size - 1) * sparsity) + 1


VARIANTS = list(product(["qr-full", "qr", "two-set", "full", "svd", "unit"], ["cubic", "constant"]))
TELLING = [("qr-full", "cubic"), ("two-set", "constant")]


@pytest.mark.parametrize(
    ("variant", "schedule"), [case if case in TELLING else pytest.param(*case, marks=pytest.mark.slow) for case in VARIANTS]
)
def test_plain_layers_with_exactly_the_wanted_zeros_remain(variant: str, schedule: str) -> None:
    run = Run(variant=variant, schedule=schedule, scope="layer")
    run.advance()
    lean = run.pruner.finish()
    layers = [module for module in lean.modules() if isinstance(module, nn.Linear)]
    assert [type(layer) for layer in layers] == [nn.Linear] * 3
    assert [int((layer.weight == 0).sum()) for layer in layers] == [masked(size, 0.6) for size in SIZES]


@pytest.mark.parametrize("scope", ["layer", "global"])
@pytest.mark.parametrize(("target", "schedule"), [("params=40%", "cubic"), ("params=60", "constant")])
def test_a_target_counts_what_is_not_zero_in_the_plain_network(target: str, schedule: str, scope: str) -> None:
    """Biases count too: 22 of the 158 parameters."""
    run = Run(sparsity=None, target=target, schedule=schedule, scope=scope)
    run.advance()
    lean = run.pruner.finish()
    wanted = 63 if target == "params=40%" else 60
    told = json.loads(json.dumps(run.method.describe()["target"]))
    assert told == {"kind": "nonzeros", "wanted": wanted, "reached": measure.nonzeros(lean)}
    assert wanted - len(SIZES) <= told["reached"] <= wanted + len(SIZES)
    assert scope == "layer" or told["reached"] == wanted


def test_a_target_for_some_layers_leaves_the_others_whole() -> None:
    run = Run(sparsity=None, target="params=80%", layers=["fc2"])
    run.advance()
    lean = run.pruner.finish()
    assert [int((module.weight == 0).sum()) for module in lean.modules() if isinstance(module, nn.Linear)] == [0, 158 - 126, 0]


def test_a_layer_that_a_common_threshold_empties_is_told() -> None:
    run = Run(scope="global", sparsity=0.8, variant="full")
    with torch.no_grad():
        run.model.fc2.spectrum.basis.phi.mul_(1e-6)
    with pytest.warns(UserWarning, match="every weight of fc2 is masked, and nothing passes there"):
        run.pruner.finish()


@pytest.mark.slow
def test_one_threshold_for_all_layers() -> None:
    run = Run(scope="global")
    run.advance()
    lean = run.pruner.finish()
    zeros = sum(int((module.weight == 0).sum()) for module in lean.modules() if isinstance(module, nn.Linear))
    assert zeros == masked(sum(SIZES), 0.6)


def test_the_sparsity_rises_on_the_cubic_schedule_and_masked_weights_return() -> None:
    run = Run(every=1, begin=0.0, end=0.5, sparsity=0.8)
    kept = []
    for k in range(STEPS):
        run.advance(k, k + 1)
        kept.append(sum(layer["kept"] for layer in run.method.describe()["layers"].values()))
    due = [0.8 * (1 - (1 - min(1.0, k / 12)) ** 3) for k in range(STEPS)]
    assert kept == [sum(SIZES) - (masked(sum(SIZES), share) if share else 0) for share in due]
    assert sum(layer.returned for layer in topology(run.model).values()) > 0


SLOW = [({}, "every"), ({"every": 1}, "telling"), ({"schedule": "constant", "scope": "layer"}, "telling")]


@pytest.mark.parametrize(("options", "begin"), [({}, "telling"), *(pytest.param(*case, marks=pytest.mark.slow) for case in SLOW)])
def test_resume_is_bitwise(options: dict[str, Any], begin: str) -> None:
    """No units leave, so that one run, which has gone on meanwhile, can load every state."""
    again = Run(**options)
    check_resume(lambda: Run(**options), begin, kept, other=lambda: again)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"sparsity": 1.0}, "sparsity is a share"),
        ({"target": "params=40%"}, "give sparsity or target, not both"),
        ({"sparsity": None, "target": "macs=40%"}, "give target as params, not as macs"),
        ({"sparsity": None, "target": "params=20"}, "asks for 20 parameters, but 22 are in no masked weight already"),
        ({"schedule": "linear"}, "no schedule 'linear'"),
        ({"begin": 0.7, "end": 0.2}, "begin and end are shares"),
        ({"variant": "three-set"}, "unknown variant"),
        ({"schedule": "constant", "end": 0.5}, "belong to schedule='cubic'"),
        ({"every": 0}, "every is a number"),
        ({"scope": "all"}, "unknown scope"),
    ],
)
def test_bad_options_are_refused_in_words(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ParsinetError, match=message):
        Run(**options)


def test_a_run_shorter_than_the_steps_between_masks_trains_under_the_last() -> None:
    """The schedule ends at .6 of 24 steps, masks would be made every 100."""
    run, again = Run(every=100, scope="layer"), Run(every=100, scope="layer")
    run.advance(0, 14)
    assert all(bool(mask.all()) for mask in kept(run.state()).values())
    run.advance(14, 17)
    assert [int((~mask).sum()) for mask in kept(run.state()).values()] == [masked(size, 0.6) for size in SIZES]
    again.load(run.state())
    for each in (run, again):
        each.advance(17, 20)
    assert runs.same(again.state(), run.state())
