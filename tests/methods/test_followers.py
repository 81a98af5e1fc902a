"""Networks that lose what the trained one loses: averages kept by hand and by torch, target networks, after a resume too."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

import parsinet as pn
from methods.runs import Run, same
from methods.toys import OPTIMIZERS, network, points
from parsinet import baselines
from parsinet.errors import ArgumentTypeError, StructureError, UsageError
from parsinet.methods import Gates, Pruner, Spectral
from parsinet.structure.record import record_of
from parsinet.structure.removal import tensors_of

STEPS = 80
GATES = {"price": 0.05, "fall_steps": 20, "interval": 5}
METHODS: dict[str, Callable[[], Any]] = {
    "gates": lambda: Gates(**GATES),
    "magnitude": lambda: baselines.MagnitudeUnits(share=0.5),
    "group lasso": lambda: baselines.GroupLasso(lam=0.3),
    "masks": lambda: baselines.GMP(sparsity=0.9),
}


def ema(model: nn.Module) -> AveragedModel:
    return AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(0.8))


class Averaging(Run):
    """A run that keeps torch's moving average of its weights."""

    def __init__(self, model: nn.Module, method: Any, **options: Any) -> None:
        self.average = ema(model)
        x = points(4)[0]
        super().__init__(model, method, OPTIMIZERS["adam"], x, steps=STEPS, examples=64, followers=[self.average], **options)

    def step(self, k: int) -> Any:
        removal = super().step(k)
        self.average.update_parameters(self.model)
        return removal

    def parts(self) -> dict[str, Any]:
        return {**super().parts(), "average": self.average}


def kept(pruner: Pruner) -> tuple[list[int], list[int]]:
    return pruner.units("fc1"), pruner.units("fc2")


@pytest.mark.parametrize("name", METHODS)
def test_an_average_is_that_of_the_entries_that_stay(name: str) -> None:
    """Beside it an average of full size, kept by hand: what has not left moves there as here."""
    run = Averaging(network(), METHODS[name]())
    by_hand = run.model.fc2.weight.detach().clone()
    for k in range(STEPS):
        run.step(k)
        first, second = kept(run.pruner)
        rows = torch.tensor(second)[:, None]
        new = run.model.fc2.weight.detach()
        by_hand[rows, first] = torch.lerp(by_hand[rows, first], new, 1 - 0.8) if k else new  # torch's begins as the first weights
    lean = run.pruner.finish()
    first, second = kept(run.pruner)
    assert len(first) + len(second) < 20
    torch.testing.assert_close(run.average.module.fc2.weight, by_hand[torch.tensor(second)[:, None], first])
    average = run.average.module
    assert {name: tensor.shape for name, tensor in tensors_of(average).items()} == {n: t.shape for n, t in tensors_of(lean).items()}
    assert (average.fc1.out_features, average.fc2.in_features) == (len(first), len(first))
    assert average(points()[0]).shape == (64, 2)


def test_an_average_is_saved_like_the_network(tmp_path: Path) -> None:
    run = Averaging(network(), Gates(**GATES))
    run.advance()
    run.pruner.finish()
    pn.save(run.average.module, tmp_path)
    again = pn.load(tmp_path, network)
    assert same(dict(again.state_dict()), dict(run.average.module.state_dict()))


@pytest.mark.parametrize("end", [1, 40, STEPS])
def test_a_resumed_run_has_the_average_it_had(end: int) -> None:
    whole, parts = Averaging(network(), Gates(**GATES)), Averaging(network(), Gates(**GATES))
    whole.advance()
    parts.advance(end=end)
    again = Averaging(network(seed=1), Gates(**GATES))
    again.load(parts.state())
    again.advance(end)
    assert record_of(again.average.module).removals == record_of(again.model).removals == record_of(whole.model).removals
    for run in (whole, again):
        run.pruner.finish()
    assert same(dict(whole.average.state_dict()), dict(again.average.state_dict()))
    assert sum(whole.pruner.widths().values()) < 20


def test_a_target_network_that_does_not_train_keeps_its_entries() -> None:
    model = network()
    target, before = copy.deepcopy(model), copy.deepcopy(model)
    run = Run(model, Gates(**GATES), OPTIMIZERS["adam"], points(4)[0], steps=STEPS, examples=64, followers=[target])
    run.advance()
    run.pruner.finish()
    first, second = kept(run.pruner)
    assert torch.equal(target.fc1.weight, before.fc1.weight[first])
    assert torch.equal(target.fc2.weight, before.fc2.weight[torch.tensor(second)[:, None], first])
    assert torch.equal(target.out.weight, before.out.weight[:, second])


def cut_at_once(model: nn.Module, *followers: nn.Module, share: float = 0.5, **options: Any) -> Pruner:
    """A pruner that removes units in its first step."""
    method = baselines.MagnitudeUnits(share=share, begin=0.1, end=0.1)
    optimizer = OPTIMIZERS["sgd"](model.parameters())
    return Pruner(model, optimizer, method, points(4)[0], steps=10, followers=followers, **options)


def test_a_fold_is_that_of_the_followers_own_numbers() -> None:
    """Units of constant output leave: the follower computes what it computed before."""
    model, other = network(), network(seed=3)
    for net in (model, other):
        with torch.no_grad():
            net.fc1.weight[::2] = 0
    x = points()[0]
    expected = other(x)
    pruner = cut_at_once(model, other, share=0.3, fold="constant", ignored_layers=["fc2"])
    assert pruner.step() is not None
    assert other.fc1.out_features < 12
    torch.testing.assert_close(other(x), expected)


def test_a_removal_that_fails_leaves_the_followers_too(monkeypatch: pytest.MonkeyPatch) -> None:
    model = network()
    first, second = copy.deepcopy(model), ema(model)
    pruner = cut_at_once(model, first, second)
    before = copy.deepcopy([net.state_dict() for net in (model, first, second)])
    storages = [tensor.data_ptr() for tensor in first.parameters()]

    def fails(*_: Any, **__: Any) -> None:
        raise StructureError("no")

    monkeypatch.setattr("parsinet.methods.network.shrink", fails)
    with pytest.raises(StructureError, match="no"):
        pruner.step()
    assert same([dict(state) for state in before], [dict(net.state_dict()) for net in (model, first, second)])
    assert storages == [tensor.data_ptr() for tensor in first.parameters()]
    assert (first.fc1.out_features, record_of(first).removals) == (12, [])
    monkeypatch.undo()
    cut_at_once(model, first, second).step()
    assert first.fc1.out_features == second.module.fc1.out_features == model.fc1.out_features < 12


class Blocks(nn.Module):
    """Residual branches, which leave whole."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.out = nn.Linear(2, 6), nn.Linear(6, 2)
        self.branches = nn.ModuleList(nn.Sequential(nn.Linear(6, 4), nn.ReLU(), nn.Linear(4, 6)) for _ in range(3))

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        for branch in self.branches:
            x = x + branch(x)
        return self.out(x)


def test_whole_branches_leave_an_average_too() -> None:
    torch.manual_seed(0)
    run = Averaging(Blocks(), Gates(**{**GATES, "price": 0.02, "blocks": True}))
    run.advance()
    lean = run.pruner.finish()
    assert [*dict(run.average.module.named_parameters())] == [*dict(lean.named_parameters())]
    assert len([*lean.parameters()]) < len([*Blocks().parameters()])
    run.average.update_parameters(lean)


WRONG: dict[str, tuple[Callable[[nn.Module], Any], type[Exception], str]] = {
    "no modules": (lambda model: [model.state_dict()], ArgumentTypeError, "followers must be a list of torch modules, got a OrderedDict"),
    "a number": (lambda model: 3, ArgumentTypeError, "got a int"),
    "another network": (
        lambda model: network(first=10),
        UsageError,
        r"Moons has fc1.weight of shape \(10, 2\), the model of shape \(12, 2\)",
    ),
    "more tensors": (lambda model: network(batch_norm=True), UsageError, "Moons has norm.weight of shape .* the model of no shape"),
    "itself": (lambda model: [model], UsageError, "this follower shares tensors with the model"),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_cannot_follow_is_refused_before_anything_begins(name: str) -> None:
    model = network()
    given, kind, words = WRONG[name]
    method = Gates()
    with pytest.raises(kind, match=words):
        Pruner(model, OPTIMIZERS["adam"](model.parameters()), method, points(4)[0], followers=given(model))
    Pruner(model, OPTIMIZERS["adam"](model.parameters()), method, points(4)[0]).finish()


def test_a_copy_with_gates_in_it_is_refused() -> None:
    model = network()
    Pruner(model, OPTIMIZERS["adam"](model.parameters()), Gates(), points(4)[0])
    fresh = network()
    with pytest.raises(UsageError, match="was copied with a method's hooks in it"):
        Pruner(fresh, OPTIMIZERS["adam"](fresh.parameters()), Gates(), points(4)[0], followers=[copy.deepcopy(model)])


@pytest.mark.parametrize("method", [Spectral(), baselines.VIB(), baselines.L0()], ids=lambda method: method.name)
def test_methods_that_make_the_weights_at_the_end_have_no_followers(method: Any) -> None:
    model = network()
    method.prepare(model)
    with pytest.raises(UsageError, match=f"{method.name} turns what trains into weights when it finishes"):
        Pruner(model, OPTIMIZERS["adam"](method.param_groups(model)), method, points(4)[0], examples=64, followers=[copy.deepcopy(model)])


class Contrast(nn.Module):
    """An encoder and its momentum encoder as parts of one network (MoCo, BYOL)."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Sequential(nn.Linear(6, 16), nn.ReLU(), nn.Linear(16, 8))
        self.momentum = copy.deepcopy(self.encoder).requires_grad_(False)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        return self.encoder(x) @ self.momentum(y).T


def test_a_momentum_encoder_within_the_network_follows_the_encoder_and_is_saved_with_it(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model, x, y = Contrast(), torch.randn(16, 6), torch.randn(16, 6)
    optimizer = torch.optim.Adam(model.encoder.parameters(), lr=1e-3)
    pruner = Pruner(model.encoder, optimizer, baselines.MagnitudeUnits(share=0.5), x, steps=8, followers=[model.momentum])
    for _ in range(8):
        nn.functional.cross_entropy(model(x, y), torch.arange(16)).backward()
        optimizer.step()
        optimizer.zero_grad()
        with torch.no_grad():
            for slow, fast in zip(model.momentum.parameters(), model.encoder.parameters(), strict=True):
                slow.lerp_(fast, 0.1)
        pruner.step()
    pruner.finish()
    assert model.encoder[0].out_features == model.momentum[0].out_features == 8
    pn.save(model, tmp_path / "lean")
    assert torch.equal(pn.load(tmp_path / "lean", Contrast)(x, y), model(x, y))
