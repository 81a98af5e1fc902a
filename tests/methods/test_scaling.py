"""A scaled loss (float16): gates learn what they learn without the scale, and a step that is left out moves nothing."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import parsinet as pn
from methods.toys import OPTIMIZERS, bank, network, points
from parsinet import baselines
from parsinet.errors import UsageError
from parsinet.methods import Gates, Method, Pruner

SCALE = 2.0**16


def recurrent() -> nn.Module:
    """Its hidden units are read by raw weights, where only the derivative of the whole batch is known."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return pn.models.build("lstm", (3, 2), 2, hidden=6)


def batch(model: nn.Module) -> tuple[Tensor, Tensor]:
    x, y = points()
    return (x, y) if isinstance(model, type(network())) else (x.unsqueeze(1).expand(-1, 3, -1).contiguous(), y)


class Loop:
    """A loop of the user's own, with a scaler or without."""

    def __init__(self, model: nn.Module, *, scaled: bool = True, told: bool = True, passes: int = 1, **options: Any) -> None:
        self.model, self.passes = model, passes
        method = Gates(**{"fall_steps": 20, "interval": 5, **options})
        self.optimizer = OPTIMIZERS["adam"](method.param_groups(model))
        self.scaler = torch.amp.GradScaler("cpu", init_scale=SCALE, enabled=scaled)
        self.pruner = Pruner(model, self.optimizer, method, batch(model)[0][:4], steps=60, scaler=self.scaler if told else None)

    def backward(self) -> None:
        x, y = batch(self.model)
        for part, target in zip(x.chunk(self.passes), y.chunk(self.passes), strict=True):
            loss = F.cross_entropy(self.model(part), target) / self.passes
            self.scaler.scale(loss).backward()  # type: ignore[no-untyped-call]

    def step(self, *, overflow: bool = False) -> Any:
        """overflow: in the derivative of one weight; those in the gates are finite."""
        self.backward()
        if overflow:
            next(self.model.parameters()).grad.view(-1)[0] = torch.inf  # type: ignore[union-attr]
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.optimizer.zero_grad()
        return self.pruner.step()

    def estimates(self) -> dict[str, Tensor]:
        self.backward()
        found: dict[str, Tensor] = bank(self.pruner).estimates()
        return found


@pytest.mark.parametrize("passes", [1, 2])
@pytest.mark.parametrize("estimator", ["curvature", "straight-through"])
@pytest.mark.parametrize("build", [network, recurrent])
def test_estimates_under_a_scale_are_those_without(build: Any, estimator: str, passes: int) -> None:
    """The scale is a power of two: nothing is rounded differently, but for what float32 cannot hold."""
    options = {"estimator": estimator, "passes": passes}
    plain, scaled = Loop(build(), scaled=False, **options).estimates(), Loop(build(), **options).estimates()
    assert plain.keys() == scaled.keys()
    for group, estimate in plain.items():
        assert torch.allclose(scaled[group], estimate, rtol=1e-6, atol=1e-9)
        assert estimate.abs().max() > 1e-6
    forgotten = Loop(build(), told=False, **options).estimates()
    assert all(forgotten[group].abs().max() > 100 * plain[group].abs().max() for group in plain), "the comparison can fail"


def test_training_under_a_scale_is_training_without() -> None:
    """Thirty steps with removals: the same units are left, the same weights."""
    plain, scaled = Loop(network(), scaled=False, price=0.02), Loop(network(), price=0.02)
    removals = [[loop.step() for _ in range(30)] for loop in (plain, scaled)]
    assert removals[0] == removals[1]
    assert any(removals[0])
    assert all(torch.equal(a, b) for a, b in zip(plain.model.parameters(), scaled.model.parameters(), strict=True))


def test_a_step_left_out_moves_nothing_and_is_forgotten() -> None:
    loop, other = Loop(network()), Loop(network())
    for one in (loop, other):
        for _ in range(3):
            one.step()
    before = {key: value.clone() for key, value in (("theta", bank(loop.pruner).theta), ("usefulness", bank(loop.pruner).usefulness))}
    weights = [parameter.detach().clone() for parameter in loop.model.parameters()]
    assert loop.step(overflow=True) is None
    assert loop.scaler.get_scale() == SCALE / 2
    for key, value in before.items():
        assert torch.equal(getattr(bank(loop.pruner), key), value)
    assert all(torch.equal(a, b) for a, b in zip(loop.model.parameters(), weights, strict=True))
    bank(other.pruner).draw()  # the pass that was left out has drawn too
    loop.step(), other.step()
    for key in before:
        assert torch.allclose(getattr(bank(loop.pruner), key), getattr(bank(other.pruner), key), rtol=1e-5)
        assert not torch.equal(getattr(bank(loop.pruner), key), before[key])


def test_a_pruner_that_knows_no_scaler_would_move() -> None:
    loop = Loop(network(), told=False)
    before = bank(loop.pruner).theta.clone()
    loop.step(overflow=True)
    assert loop.scaler.get_scale() == SCALE / 2
    assert not torch.equal(bank(loop.pruner).theta, before)


@pytest.mark.parametrize("scaler_first", [True, False])
def test_resume_is_bitwise_in_whatever_order_states_are_loaded(scaler_first: bool) -> None:
    straight, resumed = Loop(network(), price=0.02), Loop(network(), price=0.02)
    for k in range(10):
        straight.step(overflow=k in (2, 5))
    scaler, pruner = straight.scaler.state_dict(), straight.pruner.state_dict()
    if scaler_first:
        resumed.scaler.load_state_dict(scaler)
    resumed.pruner.load_state_dict(pruner)
    resumed.model.load_state_dict(straight.model.state_dict())
    resumed.optimizer.load_state_dict(copy.deepcopy(straight.optimizer.state_dict()))
    resumed.scaler.load_state_dict(scaler)
    for _ in range(8):
        straight.step(), resumed.step()
    assert torch.equal(bank(straight.pruner).theta, bank(resumed.pruner).theta)
    assert all(torch.equal(a, b) for a, b in zip(straight.model.parameters(), resumed.model.parameters(), strict=True))


DEAF: dict[str, Any] = {
    "rigl": lambda: baselines.RigL(sparsity=0.5),
    "snip": lambda: baselines.SNIP(sparsity=0.5),
    "l0": lambda: baselines.L0(),
    "sphere": lambda: pn.methods.Sphere(0.5),
}


@pytest.mark.parametrize("name", DEAF)
def test_methods_that_learn_from_gradients_as_they_are_refuse_a_scaler(name: str) -> None:
    with pytest.raises(UsageError, match=f"Pruner: {name} learns from gradients, which a scaler changes. Train under bfloat16 autocast"):
        prune(DEAF[name](), torch.amp.GradScaler("cpu"))


def test_methods_that_do_not_take_one() -> None:
    model = prune(baselines.SET(sparsity=0.5), torch.amp.GradScaler("cpu"))
    weights = torch.cat([parameter.flatten() for parameter in model.parameters() if parameter.dim() > 1])
    assert float((weights == 0).float().mean()) == pytest.approx(0.5, abs=0.01), "the masks are in place"


def prune(method: Method, scaler: torch.amp.GradScaler) -> nn.Module:
    model = network()
    method.prepare(model)
    Pruner(model, torch.optim.SGD(method.param_groups(model), lr=0.1), method, points(4)[0], steps=60, examples=64, scaler=scaler)
    return model
