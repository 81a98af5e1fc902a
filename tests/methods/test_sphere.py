"""The sphere method: exact sparsity, weights on their spheres, falling p, units that leave, resume, refusals."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from methods import runs
from methods.runs import BEGINNINGS, check_resume
from methods.toys import network, points
from parsinet.errors import ParsinetError
from parsinet.methods import Pruner, Sphere
from parsinet.methods.units import without_unread
from parsinet.sphere import LpSGD, p_for_sparsity
from parsinet.structure import shrink

STEPS = 24
WEIGHTS = 2 * 12 + 12 * 8 + 8 * 2


class Run(runs.Run):
    """A short run of the method on the ring problem."""

    def __init__(self, **options: Any) -> None:
        method = Sphere(**{"sparsity": 0.6, "interval": 3, **options})
        optimizer = partial(LpSGD, lr=0.05, nesterov=True)
        super().__init__(network(batch_norm=True), method, optimizer, points(4)[0], steps=STEPS)

    def weights(self) -> list[Tensor]:
        return [layer.weight.detach() for layer in self.model.modules() if isinstance(layer, nn.Linear)]

    def nonzeros(self) -> int:
        return sum(int((weight != 0).sum()) for weight in self.weights())


def test_zeros_at_the_start_are_no_more_than_a_target_asks_for() -> None:
    run = Run(sparsity=None, target="params=100%", start=0.2)
    run.advance()
    assert run.nonzeros() == WEIGHTS


def test_an_exponent_by_the_sparsity_follows_the_target() -> None:
    """Also where nobody has prepared the model; and a target that wants every weight is no sparsity to take it from."""
    model = network()
    method = Sphere(p="auto", target="params=70%")
    found = [group["p"] for group in method.param_groups(model) if group["constrained"]]
    assert method.sparsity < 0.5
    assert found[-1] == pytest.approx(p_for_sparsity(12, method.sparsity))
    with pytest.raises(ParsinetError, match="takes p from the sparsity"):
        Sphere(p="auto", target="params=100%").param_groups(model)


@pytest.mark.parametrize("sparsity", [0.0, 0.5, 0.9])
@pytest.mark.parametrize("growth", ["gradient", "momentum", "random"])
def test_the_sparsity_is_met_to_one_weight(sparsity: float, growth: str) -> None:
    run = Run(sparsity=sparsity, growth=growth, remove_units=False, least=0)
    run.advance()
    lean = run.pruner.finish()
    assert run.nonzeros() == round(WEIGHTS * (1 - sparsity))
    assert [type(module) for module in (lean.fc1, lean.fc2)] == [nn.Linear] * 2  # type: ignore[union-attr]


def test_a_run_that_ends_early_still_meets_it() -> None:
    run = Run(remove_units=False)
    run.advance(0, 7)
    run.pruner.finish()
    assert run.nonzeros() == round(WEIGHTS * 0.4)


def test_no_weight_is_spent_on_units_that_leave() -> None:
    """What unread units would hold goes to the others, not to the same place again, whatever the gradient says."""
    run = Run(start=0.0, least=0)
    hidden = {name: torch.ones_like(mask) for name, mask in run.method.masks.masks.items()}
    hidden["fc2.weight"][:, :4] = False
    hidden["fc2.weight"][4:] = False
    hidden["fc1.weight"][:4] = False
    run.method.masks.set(hidden)
    growth = {name: torch.ones_like(mask, dtype=torch.float32) for name, mask in hidden.items()}
    growth["fc2.weight"][:, :4] = 0
    chosen = run.method._evolved(run.method.masks, growth, 0.0, 0.4)
    useful = without_unread(run.pruner.structure, chosen)
    assert sum(int(mask.sum()) for mask in useful.values()) == round(WEIGHTS * 0.6)


def test_weights_stay_on_their_spheres_as_the_forward_pass_sees_them() -> None:
    run = Run(p=1.3, norm_over="active", remove_units=False)
    run.advance()
    for weight in run.weights()[:2]:
        norms = weight.abs().pow(1.3).sum(1)
        assert torch.allclose(norms, (norms > 0).float(), atol=1e-5), "units that lost every weight at the start stay at 0"
        assert norms.count_nonzero() > len(norms) / 2


def test_p_falls_geometrically_until_the_masks_are_final() -> None:
    run = Run(p=1.2, p_start=2.0, end=0.5)
    seen = []
    for k in range(STEPS):
        run.advance(k, k + 1)
        seen.append(run.optimizer.param_groups[0]["p"])
    expected = [2.0 ** (1 - min(1, (k + 1) / 12)) * 1.2 ** min(1, (k + 1) / 12) for k in range(STEPS)]
    assert seen == pytest.approx(expected)
    assert run.method.describe()["p"] == pytest.approx({"fc1.weight": 1.2, "fc2.weight": 1.2})


def test_units_nobody_reads_leave_and_the_function_stays() -> None:
    run = Run(sparsity=0.9, least=0, end=0.5)
    run.advance(0, 11)
    F.cross_entropy(run.model(points(seed=11)[0]), points(seed=11)[1]).backward()
    run.optimizer.step()
    alive = run.method.step()
    assert run.method.settled
    assert alive is not None
    assert not alive["fc1"].all()
    x = points(seed=9)[0].double()
    run.model.double().eval()
    before = run.model(x)
    shrink(run.model, run.pruner.structure.plan(alive))
    assert torch.allclose(run.model(x), before, atol=1e-12)


@pytest.mark.parametrize("norm_over", ["all", "active"])
def test_a_removal_by_the_pruner_keeps_the_function(norm_over: str, monkeypatch: pytest.MonkeyPatch) -> None:
    run, x, outputs = Run(sparsity=0.9, least=0, end=0.5, norm_over=norm_over), points(seed=9)[0], []

    def output() -> Tensor:
        run.model.eval()
        y = run.model(x).detach()
        run.model.train()
        return y

    def step() -> Any:
        alive = method_step()
        outputs.append(output())
        return alive

    method_step = run.method.step
    monkeypatch.setattr(run.method, "step", step)
    for k in range(STEPS // 2):
        run.advance(k, k + 1)
    assert run.pruner.widths()["fc1"] < 12
    assert torch.allclose(output(), outputs[-1], atol=1e-5)


def test_in_dense_mode_hidden_duals_follow_the_dense_gradient() -> None:
    moved = {}
    for regrow in ("semi", "dense"):
        run = Run(regrow=regrow, start=0.5, begin=0.5)
        run.advance(0, 3)
        weight = run.model.fc2.weight
        dual = run.optimizer.state[weight]["dual"]
        hidden = ~run.method.masks.masks["fc2.weight"]
        before = dual.clone()
        run.advance(3, 4)
        ratio = (dual / before).masked_fill(~hidden, 0)
        moved[regrow] = max(float(row[row != 0].max() - row[row != 0].min()) for row in ratio)
        assert not weight.detach()[hidden].any()
    assert moved["semi"] < 1e-4 < 1e-2 < moved["dense"]


def test_soft_pruning_hides_nothing_before_the_end_and_shrinks_what_it_would() -> None:
    run = Run(regrow="soft", fade=0.25, remove_units=False, least=0, begin=0.25, end=0.75)
    run.advance(0, 5)
    x, y = points(seed=5)
    F.cross_entropy(run.model(x), y).backward()
    run.optimizer.step()
    last = run.model.out.weight.detach().clone()
    run.method.step()
    ratio = run.model.out.weight.detach() / last
    assert set(ratio.flatten().tolist()) == {0.25, 1.0}, "free weights are only multiplied"
    assert run.nonzeros() == WEIGHTS
    for weight in run.weights()[:2]:
        assert torch.allclose(weight.abs().pow(4 / 3).sum(1), torch.ones(len(weight)), atol=1e-5)
    run.optimizer.zero_grad()
    run.advance(6, 18)
    assert run.nonzeros() == round(WEIGHTS * 0.4)


def test_half_pruning_drops_fewer_by_the_threshold() -> None:
    """The count is the same, so what the threshold does not drop is not replaced by growth either."""
    grown = {}
    for regrow in ("semi", "half"):
        run = Run(regrow=regrow, start=0.6, sparsity=0.6, rate=1.0, remove_units=False, least=0)
        run.advance(0, 4)
        grown[regrow] = run.method.describe()["grown"]
    assert grown["half"] == pytest.approx(grown["semi"] / 2, abs=2)


def test_p_by_itself_follows_the_sparsity_and_the_fan_in() -> None:
    run = Run(sparsity=0.3, p="auto", least=0)
    expected = [p_for_sparsity(fan_in, 0.3) for fan_in in (2, 12)]
    assert [group["p"] for group in run.optimizer.param_groups if group["constrained"]] == pytest.approx(expected)


def test_a_last_gradient_that_is_not_finite_costs_no_sparsity() -> None:
    """At the step that ends the window, as when a loss scale is too large: the optimizer's step is skipped, the masks become final."""
    run = Run(remove_units=False, least=0, end=0.5)
    run.advance(0, STEPS // 2 - 1)
    (F.cross_entropy(run.model(points()[0]), points()[1]) * float("inf")).backward()
    run.optimizer.zero_grad()
    run.pruner.step()
    assert run.method.settled
    assert run.nonzeros() == round(WEIGHTS * 0.4)


OTHERS: list[dict[str, Any]] = [{"controller": "authors", "regrow": "dense"}, {"regrow": "soft"}]


@BEGINNINGS
@pytest.mark.parametrize(
    "options", [{}, {"regrow": "hard", "growth": "momentum"}, *(pytest.param(options, marks=pytest.mark.slow) for options in OTHERS)]
)
def test_resume_is_bitwise(options: dict[str, Any], begin: str) -> None:
    check_resume(lambda: Run(sparsity=0.8, **options), begin, lambda state: state["pruner"]["method"]["state"]["topology"]["masks"])


def test_the_description_tells_density_and_hoyer() -> None:
    run = Run(remove_units=False)
    run.advance()
    told = run.method.describe()
    assert told["settled"] is True
    assert told["sparsity"] == pytest.approx(0.6, abs=1 / WEIGHTS)
    assert set(told["hoyer"]) == {"fc1.weight", "fc2.weight"}
    assert all(0 <= value <= 1 for value in told["hoyer"].values())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"sparsity": 1.0}, "sparsity"),
        ({"p": 1.0}, "p must be"),
        ({"p": 1.5, "p_start": 1.2}, "p falls from p_start"),
        ({"p": {"*": 1.5}, "p_start": 2.0}, "p falls from p_start"),
        ({"controller": "pid"}, "no controller 'pid'"),
        ({"growth": "momentun"}, "no growth"),
        ({"regrow": "sof"}, "no regrow 'sof'. Did you mean 'soft'"),
        ({"regrow": "soft", "controller": "authors"}, "needs controller"),
        ({"fade": 0.5}, "goes with regrow"),
        ({"regrow": "soft", "fade": 1.0}, r"fade must be in \[0, 1\)"),
        ({"p": "smart"}, '"auto"'),
        ({"p": "auto", "sparsity": 0.0}, "takes p from the sparsity"),
        ({"rate": 0.0}, "rate must be > 0 and ≤ 1"),
        ({"start": 1.0}, "start must be"),
        ({"least": -1}, "least must be"),
        ({"sparsity": 0.9}, "least=1 keeps"),
        ({"exclude": ["fc9"]}, "fits no Linear"),
    ],
)
def test_bad_options_are_refused_in_words(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ParsinetError, match=message):
        Run(**options)


def test_another_optimizer_is_refused_with_the_way_out() -> None:
    model, method = network(), Sphere()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with pytest.raises(ParsinetError, match=r"LpSGD\(method\.param_groups"):
        Pruner(model, optimizer, method, points(4)[0], steps=10)


def test_p_by_itself_asks_a_small_unit_for_no_more_than_it_can_have() -> None:
    with pytest.warns(UserWarning, match=r"1\.02"):
        run = Run(sparsity=0.95, p="auto", least=0)
    assert [group["p"] for group in run.optimizer.param_groups if group["constrained"]] == [1.02]


@pytest.mark.parametrize("rate", [0.2, 0.8])
@pytest.mark.parametrize("controller", ["cubic", "authors"])
def test_every_unit_keeps_its_least(controller: str, rate: float) -> None:
    """From the random start on, at every step, however much is dropped."""
    run = Run(sparsity=0.4, start=0.4, least=2, rate=rate, controller=controller, remove_units=False)
    for k in range(STEPS):
        assert min(int(mask.flatten(1).sum(1).min()) for mask in run.method.masks.masks.values()) >= 2
        run.step(k)
    run.pruner.finish()
    assert min(int((weight != 0).flatten(1).sum(1).min()) for weight in run.weights()) >= 2


def test_the_authors_rule_takes_no_distribution() -> None:
    with pytest.raises(ParsinetError, match='controller="authors" gives no tensor a number of its own'):
        Sphere(sparsity=0.9, controller="authors", distribution="erk")
