"""Networks that do more in training mode: what only training looks at is cut too, or keeps its units, and nothing is left behind."""

from __future__ import annotations

import copy
import random
import re
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils._pytree import tree_leaves

import parsinet as pn
from parsinet.methods import Gates, Pruner
from parsinet.structure.capture import capture
from parsinet.structure.copies import copy_for_tracing
from parsinet.structure.in_training import asks, first_training_pass, training_pass, used
from parsinet.structure.running import Call

X = torch.randn(6, 5, generator=torch.Generator().manual_seed(0))


class Base(nn.Module):
    """Two hidden layers and a head."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.a, self.b, self.head = nn.Linear(5, 12), nn.Linear(12, 8), nn.Linear(8, 3)


class Auxiliary(Base):
    """A second head that training alone runs."""

    def __init__(self) -> None:
        super().__init__()
        self.norm, self.aux = nn.BatchNorm1d(12), nn.Linear(12, 3)

    def forward(self, x: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        h = self.a(x).relu()
        out = self.head(self.b(h).relu())
        return (out, self.aux(self.norm(h))) if self.training else out


class Noise(Base):
    """Noise in training, with a scale per unit that trains."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.full((12,), 0.1))

    def forward(self, x: Tensor) -> Tensor:
        h = self.a(x).relu()
        if self.training:
            h = h + torch.randn_like(h) * self.scale
        return self.head(self.b(h).relu())


class Sampling(Base):
    """A distribution of which evaluation takes the mean."""

    def __init__(self) -> None:
        super().__init__()
        self.spread = nn.Linear(12, 8)

    def forward(self, x: Tensor) -> Tensor:
        h = self.a(x).relu()
        z = self.b(h)
        if self.training:
            z = z + torch.randn_like(z) * self.spread(h).exp()
        return self.head(z)


class Noisy(Auxiliary):
    """Drawn numbers of every kind, in a graph that is taken apart: `no_grad` wants that."""

    def forward(self, x: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        with torch.no_grad():
            x = x * 1
        h = F.dropout(F.rrelu(self.norm(self.a(x)), training=self.training), 0.1, self.training)
        out = self.head(self.b(h).relu())
        if not self.training:
            return out
        drawn = torch.randn_like(h) + torch.rand(h.shape) + torch.normal(h, 0.1) + torch.empty_like(h).normal_()
        return out, self.aux(h + 0.1 * drawn)


BEYOND: dict[str, tuple[Callable[[], nn.Module], set[str]]] = {
    "auxiliary head": (Auxiliary, {"aux.weight", "norm.weight"}),
    "noise": (Noise, {"scale"}),
    "taken apart": (Noisy, {"aux.weight", "norm.weight", "norm.running_mean"}),
    "sampling": (Sampling, {"spread.weight", "spread.bias"}),
}


@pytest.mark.parametrize("name", BEYOND)
@pytest.mark.parametrize("examples", [1, 6])
def test_what_training_alone_looks_at_is_cut_too(name: str, examples: int) -> None:
    """With one example too, on which batch normalisation does not train."""
    build, expected = BEYOND[name]
    model = build()
    structure = pn.trace(model, X[:examples])
    masks = {group: torch.arange(structure.group(group).size) % 3 != 1 for group in ("a", "b")}
    plan = structure.plan(masks)
    assert expected <= {tensor for tensor, _ in plan.tensors}
    whole = copy.deepcopy(model)
    with pn.silence(whole, plan):
        silent = [whole.train(training)(X) for training in (False, True)]
    pn.shrink(model, plan)
    small = [model.train(training)(X) for training in (False, True)]
    torch.testing.assert_close(small[0], silent[0])
    if name == "auxiliary head":
        torch.testing.assert_close(small[1], silent[1])
    else:  # noise is drawn for the units that are left
        assert [t.shape for t in tree_leaves(small[1])] == [t.shape for t in tree_leaves(silent[1])]


@pytest.mark.filterwarnings("ignore:Gates. target .* no nearer choice was found")
def test_gates_stand_in_front_of_an_auxiliary_head_and_its_work_is_none_of_evaluations() -> None:
    model = Auxiliary()
    y = (X[:, 0] > 0).long()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    pruner = Pruner(model, optimizer, Gates(target="macs=50%", fall_steps=10, interval=5), X, steps=80)
    dense = pn.measure.macs(Auxiliary().eval(), X[:1])
    for _ in range(80):
        out, aux = model(X)
        (F.cross_entropy(out, y) + 0.3 * F.cross_entropy(aux, y)).backward()
        optimizer.step()
        optimizer.zero_grad()
        pruner.step()
    lean = pruner.finish()
    assert pruner.describe()["target"]["wanted"] == pytest.approx(dense / 2)
    assert pn.measure.macs(lean.eval(), X[:1]) <= dense / 2
    assert lean.aux.in_features == lean.a.out_features < 12


class Features(Base):
    """Training gives what it has seen on the way."""

    def forward(self, x: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        h = self.a(x).relu()
        out = self.head(self.b(h).relu())
        return (out, h) if self.training else out


class Strange(Auxiliary):
    """What training does more cannot be captured: it depends on numbers drawn."""

    def forward(self, x: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        h = self.a(x).relu()
        out = self.head(self.b(h).relu())
        if self.training and float(torch.rand(())) < 2:
            return out, self.aux(self.norm(h))
        return out


@pytest.mark.parametrize(
    ("build", "words"),
    [
        (Features, "in training mode the network's output changes its shape without some of its units"),
        (Strange, "the network does not run without some of its units: `.*` at test_in_training.py"),
    ],
    ids=["features", "strange"],
)
def test_units_that_training_needs_otherwise_stay_with_the_reason(build: Callable[[], nn.Module], words: str) -> None:
    structure = pn.trace(build(), X)
    assert not structure.group("a").removable
    assert re.search(words, structure.group("a").reason)
    assert structure.group("b").removable


class Targets(Auxiliary):
    """Training wants targets, which are not among the example inputs."""

    def forward(self, x: Tensor, y: Tensor | None = None) -> Tensor:  # type: ignore[override]
        out = self.head(self.b(self.a(x).relu()).relu())
        if self.training:
            assert y is not None
            return F.cross_entropy(out, y)
        return out


def test_a_network_that_wants_more_in_training_is_traced_as_it_evaluates() -> None:
    structure = pn.trace(Targets(), X)
    assert structure.group("a").removable
    plan = structure.plan({"a": torch.arange(12) > 2})
    assert ("aux.weight", 1) not in plan.tensors


class Momentum(Base):
    """An encoder that follows in every training pass, in place."""

    def __init__(self) -> None:
        super().__init__()
        self.slow, self.norm = nn.Linear(5, 12), nn.BatchNorm1d(12)
        self.passes = 0

    def forward(self, x: Tensor) -> Tensor:
        h = self.norm(self.a(x))
        if self.training:
            self.passes += 1
            random.random(), np.random.rand(), torch.rand(1)
            self.slow.weight.data.lerp_(self.a.weight.data, 0.5)
            h = h + self.slow(x).detach()
        return self.head(self.b(h.relu()).relu())


def test_the_trial_leaves_no_trace() -> None:
    model = Momentum().train()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    states = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state()
    pn.trace(model, X)
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
    assert model.passes == 0
    assert model.training
    assert all(parameter.grad is None and parameter.requires_grad for parameter in model.parameters())
    assert random.getstate() == states[0]
    assert np.random.get_state()[1].tolist() == states[1]
    assert torch.equal(torch.get_rng_state(), states[2])


def test_a_pass_tells_what_its_results_depend_on() -> None:
    model = Sampling()
    model.a.weight.requires_grad_(False)
    found = training_pass(model, Call((X,), {}))
    assert found.reached == {(name,) for name, _ in model.named_parameters()}
    assert found.shapes == [torch.Size((6, 3))]
    assert not model.a.weight.requires_grad


class Tied(Base):
    """One tensor under two names, in a network that asks and does nothing with the answer."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(8, 12)
        self.same = nn.Linear(8, 12)
        self.same.weight = self.head.weight

    def forward(self, x: Tensor) -> Tensor:
        z = self.b(self.a(x).relu()).relu()
        return self.head(z) + self.same(z) * (1.0 if self.training else 1)


def test_tied_weights_are_looked_at_under_any_name() -> None:
    found = first_training_pass(Tied(), X)
    assert found is not None
    assert ("head.weight", "same.weight") in found.reached
    exported = capture(copy_for_tracing(Tied()), X, {}, blocks=False).exported
    assert not found.beyond(exported)
    assert len({"head.weight", "same.weight"} & used(exported)) == 1


def mode_of(module: nn.Module) -> bool:
    return module.training


class Beside(Base):
    """A function beside the class asks."""

    def forward(self, x: Tensor) -> Tensor:
        return self.a(x) if mode_of(self) else -self.a(x)


def plain() -> nn.Sequential:
    return nn.Sequential(nn.Linear(5, 4), nn.BatchNorm1d(4), nn.Dropout(0.5), nn.MultiheadAttention(4, 2))


def hooked() -> nn.Sequential:
    model = plain()
    model[0].register_forward_hook(lambda module, args, output: output if module.training else -output)
    return model


def own_forward() -> nn.Sequential:
    model = plain()
    model.forward = lambda x: x if getattr(model, "training") else -x  # type: ignore[method-assign]  # noqa: B009
    return model


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        (plain, False),
        (Auxiliary, True),
        (Beside, True),
        (hooked, True),
        (own_forward, True),
        (lambda: pn.models.build("mlp", (5,), 3), False),
    ],
    ids=["torch's layers", "class", "function", "hook", "forward", "the package's own"],
)
def test_only_networks_that_ask_are_run_in_training(make: Callable[[], nn.Module], expected: bool) -> None:
    assert asks(make()) == expected


@pytest.mark.parametrize("in_place", [True, False])
def test_weights_that_follow_others_in_training_keep_their_units(in_place: bool) -> None:
    """The target of BYOL within the network: one unit would fit any number of others, two do not."""

    class Own(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.online, self.target = (nn.Sequential(nn.Linear(5, 8), nn.ReLU(), nn.Linear(8, 6)) for _ in range(2))
            self.head = nn.Linear(6, 6)
            self.target.requires_grad_(False)

        def forward(self, a: Tensor, b: Tensor) -> Tensor:
            with torch.no_grad():
                for own, other in zip(self.target.parameters(), self.online.parameters(), strict=True) if self.training else ():
                    if in_place:
                        own.lerp_(other, 0.1)
                    else:
                        own.data = own.data * 0.9 + other.data * 0.1
                wanted = self.target(b)
            return ((self.head(self.online(a)) - wanted) ** 2).sum(-1)  # type: ignore[no-any-return]

    groups = pn.trace(Own(), (torch.randn(3, 5), torch.randn(3, 5))).groups
    assert {group.name for group in groups} >= {"online.0", "online.2"}
    for group in groups:
        assert not group.removable
        assert "The size of tensor a" in group.reason
