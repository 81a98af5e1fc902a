"""Laws of the steps of baselines that remove units: closed is removed, costs and proximal steps by their formulas, rankings."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from baselines.toys import NOISY, STEPS, Run, batch
from methods.toys import EARLY
from networks import TELLING, call, flat, traced
from parsinet import baselines
from parsinet.baselines import slices
from parsinet.baselines.group_lasso import shrinkage
from parsinet.baselines.noisy import NoisyGates
from parsinet.baselines.slices import unscalable
from parsinet.methods import Pruner


@pytest.mark.filterwarnings(EARLY)
@pytest.mark.parametrize("name", NOISY)
def test_what_leaves_at_the_end_is_what_evaluation_saw(name: str) -> None:
    """Evaluation multiplies by the test values; settled, they stand in the weights and the dead units are gone."""
    run = Run(name, early=False)
    run.advance(0, 20)
    x = batch(99)
    before = run.model.eval()(x)
    run.pruner.finish()
    assert sum(run.pruner.widths().values()) < 16
    assert torch.allclose(run.model(x), before, rtol=1e-10, atol=1e-12)


READ = [name for name in TELLING if name not in ("lstm", "cells")]


@pytest.mark.parametrize("name", [name if name in TELLING[::2] else pytest.param(name, marks=pytest.mark.slow) for name in READ])
def test_factors_in_front_of_readers_are_factors_in_their_weights(name: str) -> None:
    """On every kind of network that is not all recurrent: factors in place and settled weights give the same function."""
    model, inputs, structure = traced(name, double=True)
    fit = [
        g for g in structure.groups if g.exact and g.removable and structure.gateable(g.name) and not unscalable(model, structure, g.name)
    ]
    assert fit
    method = baselines.VIB()
    pruner = Pruner(model, torch.optim.SGD(model.parameters(), lr=0.1), method, inputs)
    with torch.no_grad():
        mu = method.rows.values["mu"]
        mu.copy_(0.5 + torch.rand(len(mu), generator=torch.Generator().manual_seed(1)))
        before = flat(call(model.eval(), inputs))
        plain = flat(call(traced(name, double=True)[0].eval(), inputs))
        pruner.finish()
        after = flat(call(model, inputs))
    assert not torch.allclose(before, plain)
    assert torch.allclose(after, before, rtol=1e-8, atol=1e-10)


def test_one_draw_per_pass_is_shared_by_all_readers_and_new_in_every_pass() -> None:
    run = Run("l0")
    seen: list[Tensor] = []
    assert isinstance(run.method, NoisyGates)
    run.model.fc2.register_forward_pre_hook(lambda module, args: seen.append(args[0]))
    run.model(batch(0))
    run.model(batch(0))
    assert not torch.equal(seen[0] == 0, seen[1] == 0)
    rows = [(h == 0).sum(0) for h in seen]
    assert any(bool(((row > 0) & (row < 32)).any()) for row in rows), "a factor for every example"
    run = Run("l0", draws="batch", drop=0.9)
    shut: list[Tensor] = []
    run.model.fc1.register_forward_pre_hook(lambda module, args: shut.append(args[0]))
    run.model(batch(0))
    closed = (shut[0].view(32, 6, 6) == 0).all(2)
    assert bool((closed.all(0) | ~closed.any(0)).sum() > 0)


def test_gradients_of_the_cost_are_those_of_its_formula() -> None:
    """Each penalty, by differences, against its numbers: a sign or a factor would show."""
    for name in NOISY:
        run = Run(name)
        run.model(batch(0))
        method: Any = run.method
        rows = {key: row.detach().double() for key, row in method.rows.values.items()}
        method.rows.values = {key: row.requires_grad_() for key, row in rows.items()}
        inputs = tuple(method.rows.values.values())
        assert torch.autograd.gradcheck(lambda *values, m=method: m._cost(dict(zip(m.rows.values, values, strict=True))), inputs)


def test_the_costs_have_the_scale_of_their_formulas() -> None:
    l0, vib, sbp = Run("l0"), Run("vib"), Run("sbp")
    for run in (l0, vib, sbp):
        run.model(batch(0))
    p = torch.sigmoid(l0.method.rows.values["log_alpha"].detach() + 2 / 3 * torch.log(torch.tensor(11.0)))  # type: ignore[attr-defined]
    weights = torch.tensor([6 * 10] * 6 + [3] * 10, dtype=torch.float64)
    found = [torch.as_tensor(run.pruner.penalty()).item() for run in (l0, vib, sbp)]
    assert found[0] == pytest.approx(float(1.0 / 64 * (p * weights).sum()))
    one = 0.5 * torch.log1p(torch.exp(torch.tensor(9.0)))
    assert found[1] == pytest.approx(float(0.05 * one * (6 * 6 + 10)), rel=1e-6), "a channel stands at 2 · 3 positions"
    assert found[2] == pytest.approx(2.0 / 64 * 16 * 7.2699, rel=1e-4)


def test_positions_are_counted_on_the_units_that_are_left() -> None:
    """Where features of the inputs have left, their readers are still given all of them."""
    model = nn.Sequential(nn.Linear(8, 5), nn.ReLU(), nn.Linear(5, 2))
    method = baselines.VIB(inputs=True, interval=1)
    pruner = Pruner(model, torch.optim.SGD(model.parameters(), lr=0.1), method, torch.randn(2, 8), steps=100)
    with torch.no_grad():
        method.rows.values["mu"][:6] = 1e-6
    pruner.penalty()
    pruner.step()
    assert pruner.step() is not None
    assert pruner.widths()["input"] == 2
    model(torch.randn(3, 8))
    assert method._positions == {"input": 1, "0": 1}


def test_the_proximal_step_is_the_minimiser() -> None:
    """argmin_v ½‖v − w‖² + t‖v‖ by a fine search along w, which the minimiser is parallel to, and by its optimality condition."""
    random = torch.Generator().manual_seed(0)
    for t in (0.1, 1.0, 2.5):
        w = torch.randn(5, dtype=torch.float64, generator=random)
        factor = shrinkage(w.norm()[None], torch.tensor([t], dtype=torch.float64))[0]
        grid = torch.linspace(0, 1, 100_001, dtype=torch.float64)
        value = 0.5 * (grid - 1).square() * w.norm() ** 2 + t * grid * w.norm()
        assert float(factor) == pytest.approx(float(grid[value.argmin()]), abs=1e-5)
        v = factor * w
        gradient = v - w + t * v / v.norm() if factor > 0 else w.norm() - t
        assert bool((gradient.abs() < 1e-9).all()) if factor > 0 else float(gradient) <= 0
    assert float(shrinkage(torch.zeros(1), torch.ones(1))) == 0


@pytest.mark.parametrize("side", slices.SIDES)
def test_group_lasso_shrinks_each_units_weights_as_one_vector(side: str) -> None:
    run = Run("group-lasso", weights=side, begin=0.0, early=False)
    before = {name: p.detach().clone() for name, p in run.model.named_parameters()}
    run.pruner.step()
    after = dict(run.model.named_parameters())
    for made, read in (("conv", "fc1"), ("fc1", "fc2")):
        old, new = ((p[f"{made}.weight"], p[f"{read}.weight"]) for p in (before, after))
        rows = [
            w[0].flatten(1) if side == "incoming" else w[1].view(len(w[1]), len(w[0]), -1).transpose(0, 1).flatten(1) for w in (old, new)
        ]
        t = 1.5 * 0.02 * rows[0].shape[1] ** 0.5
        wanted = rows[0].norm(dim=1) - t
        assert torch.allclose(rows[1].detach().norm(dim=1), wanted.clamp(min=0), atol=1e-12)
    assert torch.equal(after["conv.bias"], before["conv.bias"])


class TwoProducers(nn.Module):
    """A stream of four features that two layers make."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.out = nn.Linear(3, 4, bias=False), nn.Linear(3, 4, bias=False), nn.Linear(4, 2, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.a(x) + self.b(x))  # type: ignore[no-any-return]


@pytest.mark.parametrize("rates", [(0.1, 0.001), (0.001, 0.1)])
def test_tensors_of_a_group_lasso_shrink_by_their_own_learning_rates(rates: tuple[float, float]) -> None:
    model = TwoProducers().double()
    before = {name: weight.detach().clone() for name, weight in model.named_parameters()}
    groups = [{"params": [model.a.weight], "lr": rates[0]}, {"params": [model.b.weight], "lr": rates[1]}, {"params": [model.out.weight]}]
    method = baselines.GroupLasso(lam=0.1, early=False)
    pruner = Pruner(model, torch.optim.SGD(groups, lr=0.1), method, torch.zeros(2, 3, dtype=torch.float64), steps=10)
    pruner.step()
    norms = torch.cat([before["a.weight"], before["b.weight"]], 1).norm(dim=1)
    for name, rate in zip("ab", rates, strict=True):
        factor = 1 - rate * 0.1 * 6**0.5 / norms
        assert torch.allclose(getattr(model, name).weight, before[f"{name}.weight"] * factor[:, None], rtol=1e-12)


def test_units_of_a_group_lasso_leave_exactly_once_their_weights_are_zero() -> None:
    for side, fold in (("outgoing", {}), ("incoming", {"fold": "constant"})):
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(5, 9), nn.Tanh(), nn.Linear(9, 3)).double()
        method = baselines.GroupLasso(lam=1.0, weights=side, interval=1)
        optimizer = torch.optim.SGD(method.param_groups(model), lr=0.01)
        x = torch.randn(7, 5, dtype=torch.float64)
        pruner = Pruner(model, optimizer, method, x, steps=1000, **fold)
        with torch.no_grad():
            for weight, dim in ((model[2].weight, 1),) if side == "outgoing" else ((model[0].weight, 0),):
                weight.mul_(torch.linspace(1e-3, 1, 9, dtype=torch.float64).view([-1 if d == dim else 1 for d in range(2)]))
        shadow = copy.deepcopy(model)
        method._model, kept = shadow, method._model  # type: ignore[attr-defined]
        method._optimizers = [torch.optim.SGD(shadow.parameters(), lr=0.01)]
        method._steps = 1
        method._follow()
        method._model, method._optimizers, method._steps = kept, [optimizer], 0  # type: ignore[attr-defined]
        removal = pruner.step()
        assert removal is not None
        assert torch.allclose(model(x), shadow(x), atol=1e-12)


def test_magnitude_keeps_the_largest_norms() -> None:
    run = Run("magnitude-units", share=0.5, begin=0.5, end=0.5)
    run.advance(0, 19)
    twin = copy.deepcopy(run)
    norms = {}
    twin.pruner.method.settled = True  # type: ignore[misc]
    twin.step(19)
    norms = {"conv": twin.model.conv.weight.flatten(1).norm(dim=1), "fc1": twin.model.fc1.weight.norm(dim=1)}
    removal = run.step(19)
    assert removal.groups == {"conv": (6, 3), "fc1": (10, 5)}
    assert run.pruner.units("conv") == sorted(norms["conv"].topk(3).indices.tolist())
    assert run.pruner.units("fc1") == sorted(norms["fc1"].topk(5).indices.tolist())


def test_gradual_ranking_follows_the_cubic_schedule() -> None:
    run = Run("magnitude-units", share=0.8, begin=0.25, end=0.75, interval=5)
    seen = []
    for k in range(STEPS):
        run.step(k)
        seen.append(run.pruner.widths()["fc1"])
    assert seen[14] == round(10 * (1 - 0.8 * (1 - 0.75**3)))
    assert seen[19] == round(10 * (1 - 0.8 * (1 - 0.5**3)))
    assert seen[9] == 10
    assert seen[29] == seen[39] == 2


@pytest.mark.parametrize("scope", ["layer", "global"])
def test_shares_are_met(scope: str) -> None:
    for name in ("magnitude-units", "random-units", "slimming"):
        groups = ["conv"] if name == "slimming" else None
        run = Run(name, share=0.5, scope=scope, groups=groups, begin=0.5, end=0.5)
        run.advance()
        widths = run.pruner.widths()
        total = widths["conv"] if groups else sum(widths.values())
        assert abs(total - (3 if groups else 8)) <= 1, name
    run = Run("random-units", share={"fc1": 0.7, "conv": 0.5}, scope="layer")
    run.advance()
    assert run.pruner.widths() == {"conv": 3, "fc1": 3}


def test_slimming_adds_the_l1_norm_of_the_scales_and_ranks_by_it() -> None:
    run = Run("slimming", lam=0.1, begin=0.5, end=0.5, share=0.5)
    with torch.no_grad():
        run.model.norm.weight.copy_(torch.tensor([0.1, -2.0, 0.3, 1.0, -0.2, 0.9]))
    penalty = run.pruner.penalty()
    assert torch.as_tensor(penalty).item() == pytest.approx(0.45)
    penalty.backward()  # type: ignore[union-attr]
    assert run.model.norm.weight.grad is not None
    assert run.model.norm.weight.grad.tolist() == pytest.approx([0.1, -0.1, 0.1, 0.1, -0.1, 0.1])
    run.optimizer.zero_grad()
    run.pruner.finish()
    assert set(run.pruner.units("conv")) >= {1, 3, 5}
    assert run.pruner.widths()["fc1"] == 10, "no norm scales it"
