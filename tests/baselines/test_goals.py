"""Targets of methods that find dead units on their own: the target drives the threshold."""

from __future__ import annotations

import json
import re
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from baselines import toys
from methods import runs
from methods.test_aim import DENSE, Noise
from methods.test_target import wide
from methods.toys import EARLY
from parsinet import baselines, measure
from parsinet.errors import UsageError
from parsinet.gates.prices import Complexity
from parsinet.methods import Budget
from parsinet.methods.aim import Aim
from parsinet.methods.limits import Limit
from parsinet.methods.target import Target
from parsinet.methods.trimming import CLOSE
from parsinet.structure import Structure, trace

DYING = [*toys.NOISY, "group-lasso"]
WEAK: dict[str, dict[str, Any]] = {**{name: {"kl": 1e-9} for name in toys.NOISY}, "l0": {"lam": 1e-9}, "group-lasso": {"lam": 1e-9}}
SIZES = {"conv": 6, "fc1": 10}
SUDDEN = "ignore:.*goes at once"
MISSED = "ignore:.*was not met within"
pytestmark = pytest.mark.filterwarnings("ignore:.*had died")


@pytest.mark.filterwarnings(SUDDEN, MISSED)
@pytest.mark.parametrize("strength", ["usual", "weak"])
@pytest.mark.parametrize("name", DYING)
def test_the_network_meets_the_target_whatever_the_price(name: str, strength: str) -> None:
    """From below, by less than a channel is worth: under a high price nobody leaves that has room, under a low one the last by rank go."""
    run = toys.Run(name, target="macs=50%", **(WEAK[name] if strength == "weak" else {}))
    run.advance()
    told = json.loads(json.dumps(run.pruner.describe()))["target"]
    found = measure.macs(run.pruner.finish(), toys.batch(0))
    assert found == told["reached"] == run.method.state_dict()["reached"]
    assert 0.8 * told["wanted"] <= found <= told["wanted"]


@pytest.mark.filterwarnings(SUDDEN)
@pytest.mark.parametrize("name", ["vib", "l0", "group-lasso"])
def test_the_target_is_near_where_units_are_many(name: str) -> None:
    method = baselines.build(name, target="params=20%", **WEAK[name])
    run = Noise(wide(), method, partial(torch.optim.SGD, lr=0.01), torch.zeros(2, 64), steps=40, examples=640)
    run.advance()
    found = measure.parameters(run.pruner.finish())
    assert 0.98 * 0.2 * DENSE["parameters"] <= found <= 0.2 * DENSE["parameters"]


@pytest.mark.filterwarnings(EARLY)
def test_the_best_by_rank_stay() -> None:
    """Gaussian factors by μ²/σ², in both groups; a channel costs too much for one order over both."""
    run = toys.Run("vib", target="params=60%", **WEAK["vib"])
    run.advance(0, 23)
    worth = {name: row.clone() for name, row in run.method.scores().items()}
    with pytest.warns(UserWarning, match=r"vib: at the last decision the network still costs .* goes at once.*A higher price"):
        run.pruner.finish()
    for name, row in worth.items():
        kept = run.pruner.units(name)
        assert 0 < len(kept) < len(row)
        assert sorted(kept) == sorted(row.argsort(descending=True)[: len(kept)].tolist())


@pytest.mark.filterwarnings(SUDDEN, MISSED)
@pytest.mark.parametrize("name", DYING)
def test_no_unit_leaves_that_the_target_has_room_for(name: str) -> None:
    """Without a target the usual price takes more than that."""
    free, held = toys.Run(name), toys.Run(name, target="macs=80%")
    widths = []
    for run in (free, held):
        run.advance(0, 20)
        widths.append(run.pruner.widths())
    assert sum(widths[1].values()) >= sum(widths[0].values())
    held.advance(20, toys.STEPS)
    dense = measure.macs(toys.Net().double(), toys.batch(0))
    assert measure.macs(held.pruner.finish(), toys.batch(0)) >= 0.8 * 0.8 * dense


@pytest.mark.filterwarnings(SUDDEN, MISSED)
@pytest.mark.parametrize("name", DYING)
def test_resume_on_the_way_to_a_target_is_bitwise(name: str) -> None:
    runs.check_resume(lambda: toys.Run(name, target="macs=50%"), "telling")


@pytest.mark.parametrize("name", DYING)
@pytest.mark.parametrize(
    ("target", "words"),
    [
        ("latency=20%", "has to be timed; give macs, params or bytes"),
        ("params=3", "asks for 3 parameters, but with one unit left in every group"),
        ("macs:20%", "does not say what and how much"),
    ],
)
def test_what_cannot_be_met_is_refused(name: str, target: str, words: str) -> None:
    with pytest.raises(UsageError, match=re.escape(words)):
        toys.Run(name, target=target)


def test_a_network_without_removable_units_says_so() -> None:
    with pytest.raises(UsageError, match="no group of units"):
        runs.Run(nn.Linear(3, 2), baselines.VIB(target="macs=50%"), partial(torch.optim.SGD, lr=0.1), torch.zeros(2, 3), steps=4)


def planted(target: str, dead: dict[str, int]) -> toys.Run:
    """VIB in training, with so many dead units per group, and all others as far from it as they can be."""
    run = toys.Run("vib", target=target, interval=1, rate=1e-9)
    run.step(0)
    for name, count in dead.items():
        kill(run, name, count)
    return run


def kill(run: toys.Run, name: str, count: int) -> None:
    with torch.no_grad():
        run.method.rows.of(name)["log_variance"][:count] = 2.0


@pytest.mark.filterwarnings(MISSED)
@pytest.mark.parametrize("dead", [3, 4, 5])
def test_no_live_unit_gives_way_to_a_dead_one(dead: int) -> None:
    """A channel costs as much as three hidden units, and one more would come nearer to the target without these."""
    run = planted("macs=60%", {"conv": dead})
    for k in range(1, 4):
        run.step(k)
        assert run.pruner.widths()["fc1"] == 10
    run.pruner.finish()
    assert run.pruner.widths() == {"conv": 3, "fc1": 10}


@pytest.mark.filterwarnings(EARLY)
@pytest.mark.filterwarnings(MISSED)
@pytest.mark.parametrize(("target", "dead", "left"), [("macs=47%", 3, (3, 7)), ("macs=45%", 3, (3, 6)), ("macs=57%", 2, (4, 5))])
def test_no_live_unit_gives_way_where_not_all_fit(target: str, dead: int, left: tuple[int, int]) -> None:
    """A dead channel in the place of live hidden units would come nearer to the target."""
    run = planted(target, {"conv": dead})
    run.pruner.finish()
    assert run.pruner.widths() == dict(zip(("conv", "fc1"), left, strict=True))
    assert min(run.pruner.units("conv")) >= dead, "the live ones"


@pytest.fixture(scope="module")
def structure() -> Structure:
    return trace(toys.Net().double(), toys.batch(0))


def aimed(structure: Structure, target: str, round_to: int = 1) -> Aim:
    """At the small network of these runs."""
    budget = Budget(example_inputs=toys.batch(0))
    limit = Limit("vib", Target.parse("vib", target), toys.Net().double(), structure, budget, SIZES)
    return Aim(limit, SIZES, round_to)


def drawn(seed: int) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Who lives, and ranks, those of the dead below all others."""
    random = torch.Generator().manual_seed(seed)
    alive = {name: torch.rand(size, generator=random) < 0.6 for name, size in SIZES.items()}
    for mask in alive.values():
        mask[0] |= ~mask.any()
    return alive, {name: torch.rand(len(mask), generator=random) + mask for name, mask in alive.items()}


def macs(conv: int, fc1: int) -> int:
    return 108 * conv + 6 * conv * fc1 + 3 * fc1


def wanted(target: str) -> float:
    return Target.parse("vib", target).of("vib", macs(**SIZES))


@pytest.mark.parametrize("target", ["macs=32%", "macs=35%", "macs=50%"])
def test_the_live_units_that_stay_are_those_that_would_without_dead_ones(structure: Structure, target: str) -> None:
    """And no dead one is left out that there is room for."""
    aim, limit = aimed(structure, target), wanted(target)
    for seed in range(10):
        alive, ranks = drawn(seed)
        without = aimed(structure, target)
        without.removed(structure.plan(alive))
        left = {name: ranks[name][mask] for name, mask in alive.items()}
        best = without.best({name: torch.ones(len(row), dtype=torch.bool) for name, row in left.items()}, left)
        found = aim.best(alive, ranks)
        assert all(torch.equal(found[name][mask], best[name]) for name, mask in alive.items())
        channels, hidden = (int(mask.sum()) for mask in found.values())
        assert macs(channels, hidden) <= limit
        if macs(channels, hidden) < (1 - CLOSE) * limit:
            assert channels == 6 or macs(channels + 1, hidden) > limit
            assert hidden == 10 or macs(channels, hidden + 1) > limit


@pytest.mark.parametrize("target", ["macs=60%", "macs=80%"])
def test_dead_units_that_make_live_ones_up_to_multiples_count(structure: Structure, target: str) -> None:
    aim = aimed(structure, target, 4)
    for seed in range(20):
        channels, hidden = (int(mask.sum()) for mask in aim.best(*drawn(seed)).values())
        assert channels in (4, 6)
        assert hidden in (4, 8, 10)
        assert macs(channels, hidden) <= wanted(target)


def test_a_large_unit_that_dies_late_leaves_room_that_small_ones_fill() -> None:
    """Without it the network is far below the target, with it above: those that died before are still there."""
    run = planted("macs=50%", {"conv": 2})
    run.advance(1, 4)
    kill(run, "fc1", 5)
    run.advance(4, 7)
    assert run.pruner.widths() == {"conv": 4, "fc1": 9}
    kill(run, "conv", 1)
    assert measure.macs(run.pruner.finish(), toys.batch(0)) == 513


@pytest.mark.filterwarnings(EARLY)
@pytest.mark.filterwarnings(MISSED)
@pytest.mark.parametrize("early", [True, False])
@pytest.mark.parametrize("name", toys.NOISY)
def test_settling_does_not_change_what_the_network_says(name: str, early: bool) -> None:
    """Dead units that the target has room for are read in evaluation, and counted, before as well."""
    run = toys.Run(name, target="macs=60%", early=early)
    run.advance(0, 23)
    run.model.eval()
    said, told = run.model(toys.batch(9)), run.pruner.describe()["groups"]
    lean = run.pruner.finish().eval()
    torch.testing.assert_close(lean(toys.batch(9)), said)
    assert {name: group["open"] for name, group in told.items()} == run.pruner.widths()


def test_a_look_at_many_dead_units_is_quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """The cost is asked for a few times, not for every unit that the target has room for."""
    run = Noise(wide(), baselines.VIB(target="params=50%"), partial(torch.optim.SGD, lr=0.01), torch.zeros(2, 64), steps=400)
    with torch.no_grad():
        run.method.rows.values["log_variance"].fill_(2.0)
    asked: list[int] = []
    of = Complexity.of

    def counted(self: Complexity, masks: Any) -> float:
        asked.append(1)
        return of(self, masks)

    monkeypatch.setattr(Complexity, "of", counted)
    run.method._look()
    left = run.method._look()
    assert sum(int(mask.sum()) for mask in left.values()) > 60 > len(asked)


@pytest.mark.filterwarnings(MISSED)
def test_of_zeros_all_groups_keep_like_shares() -> None:
    """λ that leaves nothing says nothing of which unit is better."""
    run = toys.Run("group-lasso", target="params=40%", lam=50.0)
    run.advance()
    widths = run.pruner.widths()
    assert abs(widths["conv"] / 6 - widths["fc1"] / 10) < 0.3


@pytest.mark.filterwarnings(MISSED)
@pytest.mark.parametrize(("name", "price"), [("vib", {"kl": 50.0}), ("group-lasso", {"lam": 60.0})])
def test_a_price_that_kills_what_the_target_has_room_for_is_told(name: str, price: dict[str, float]) -> None:
    run = toys.Run(name, target="params=80%", **price)
    with pytest.warns(UserWarning, match=rf"{name}: at the last decision what is alive costs .* had died\. A lower (price|lam)"):
        run.advance()
