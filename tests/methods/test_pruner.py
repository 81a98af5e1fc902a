"""The pruner inside a user's own loop: optimizers and schedulers go on, widths are rounded, plain modules remain."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from methods.toys import OPTIMIZERS, network, points, start, train_step
from parsinet import data, models
from parsinet.baselines import MagnitudeUnits, RandomUnits
from parsinet.data import Batches
from parsinet.errors import ParsinetWarning, UsageError
from parsinet.methods import Dense, Gates, Method, Pruner
from parsinet.methods.pruner import Removal
from parsinet.methods.ranking import round_up
from parsinet.structure import shrink, trace


@pytest.mark.parametrize(
    ("mask", "scores", "multiple", "expected"),
    [
        ([1, 0, 0, 1, 0], [9, 1, 3, 9, 2], 4, [1, 0, 1, 1, 1]),
        ([1, 0, 0, 1, 0], None, 4, [1, 1, 1, 1, 0]),
        ([1, 0, 0, 1, 0], [9, 1, 3, 9, 2], 1, [1, 0, 0, 1, 0]),
        ([1, 0, 0, 1, 0], [9, 1, 3, 9, 2], 2, [1, 0, 0, 1, 0]),
        ([1, 1, 1, 0, 1], [1, 1, 1, -5, 1], 8, [1, 1, 1, 1, 1]),
        ([1, 1], [0, 0], 4, [1, 1]),
        ([0, 1, 0], [-3, 0, -2], 2, [0, 1, 1]),
    ],
)
def test_round_up_lets_the_best_of_the_leaving_stay(
    mask: list[int], scores: list[float] | None, multiple: int, expected: list[int]
) -> None:
    given = torch.tensor(mask, dtype=torch.bool)
    rounded = round_up(given, None if scores is None else torch.tensor(scores), multiple)
    assert rounded.int().tolist() == expected
    assert given.int().tolist() == mask, "the mask given is not changed"


def test_a_removal_tells_step_and_widths() -> None:
    model = network()
    optimizer, pruner = start(model, price=0.05)
    for k in range(100):
        before = pruner.widths()
        removal = train_step(model, optimizer, pruner, k)
        if removal is not None:
            assert isinstance(removal, Removal)
            assert removal.step == k + 1
            assert removal.groups == {name: (before[name], n) for name, n in pruner.widths().items() if n != before[name]}
            return
        assert pruner.widths() == before
    pytest.fail("nothing left")


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_training_goes_on_after_a_removal(name: str) -> None:
    model = network()
    optimizer, pruner = start(model, OPTIMIZERS[name], price=0.05)
    ids = [id(parameter) for parameter in model.parameters()]
    removals = 0
    for k in range(60):
        before = [parameter.detach().clone() for parameter in model.parameters()]
        removed = train_step(model, optimizer, pruner, k) is not None
        removals += removed
        if not removed:
            assert all(not torch.equal(old, new) for old, new in zip(before, model.parameters(), strict=True))
        for parameter in model.parameters():
            state = optimizer.state[parameter]
            assert {value.shape for value in state.values() if isinstance(value, Tensor) and value.dim()} == {parameter.shape}
    assert removals >= 2
    assert ids == [id(parameter) for parameter in model.parameters()]


def test_two_optimizers_and_their_schedulers() -> None:
    """One for the weights, one for the vectors; both lose the same units and keep their own rates."""
    model = network()
    method = Gates(fall_steps=20, interval=5, price=0.05)
    groups = method.param_groups(model)
    optimizers = [torch.optim.Adam([groups[0]], lr=0.01), torch.optim.SGD([groups[1]], lr=0.1, momentum=0.9)]
    schedulers = [torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.99) for optimizer in optimizers]
    pruner = Pruner(model, optimizers, method, points(4)[0])
    removals = 0
    for k in range(60):
        x, y = points(seed=k)
        nn.functional.cross_entropy(model(x), y).backward()
        for optimizer, scheduler in zip(optimizers, schedulers, strict=True):
            optimizer.step()
            scheduler.step()
            optimizer.zero_grad()
        removals += pruner.step() is not None
    assert removals >= 2
    assert optimizers[0].state[model.fc1.weight]["exp_avg"].shape == model.fc1.weight.shape
    assert optimizers[1].state[model.fc1.bias]["momentum_buffer"].shape == model.fc1.bias.shape
    assert optimizers[0].param_groups[0]["lr"] == pytest.approx(0.01 * 0.99**60)


def test_ignored_layers_keep_their_units() -> None:
    model = network()
    method = Gates(fall_steps=20, interval=5, price=10.0)
    optimizer = torch.optim.Adam(method.param_groups(model))
    pruner = Pruner(model, optimizer, method, points(4)[0], ignored_layers=["fc1"])
    for k in range(60):
        train_step(model, optimizer, pruner, k)
    assert pruner.widths() == {"fc2": 1}
    assert model.fc1.out_features == 12


def is_plain(model: nn.Module, like: nn.Module) -> bool:
    """Same classes and names as a network never trained by parsinet, no hooks, no parametrizations."""
    hooks = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks", "_state_dict_hooks")
    return (
        [(name, type(module)) for name, module in model.named_modules()] == [(name, type(module)) for name, module in like.named_modules()]
        and [*model.state_dict()] == [*like.state_dict()]
        and not any(getattr(module, hook) for module in model.modules() for hook in hooks)
        and not any(parametrize.is_parametrized(module) for module in model.modules())
    )


def test_the_loop_of_the_readme_on_digits() -> None:
    digits = data.load("digits")
    build: Callable[[], nn.Module] = lambda: models.build("lenet-300-100", digits.input_shape, digits.num_classes)  # noqa: E731
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model, epochs, batches = build(), 30, Batches(digits.train, 128)
        method = Gates(price=2e-3)
        optimizer = torch.optim.Adam(method.param_groups(model), lr=2e-3, weight_decay=1e-4)
        pruner = Pruner(model, optimizer, method, digits.train.inputs[:2], steps=epochs * len(batches), examples=len(digits.train))
        for _ in range(epochs):
            for x, y in batches:
                (nn.functional.cross_entropy(model(x), y) + pruner.penalty()).backward()
                optimizer.step()
                optimizer.zero_grad()
                pruner.step()
        lean = pruner.finish().eval()
    small, large = (sum(p.numel() for p in m.parameters()) for m in (lean, build()))
    assert small < large / 3
    with torch.no_grad():
        error = float((lean(digits.test.inputs).argmax(1) != digits.test.targets).float().mean())
        assert error < 0.06
        assert is_plain(lean, build())
        for twin in (copy.deepcopy(lean), pickle.loads(pickle.dumps(lean))):
            assert torch.equal(twin(digits.test.inputs), lean(digits.test.inputs))


def test_the_check_of_plainness_can_fail() -> None:
    model = network()
    assert is_plain(model, network())
    start(model)
    assert not is_plain(model, network())


EARLY = {
    "magnitude": lambda: MagnitudeUnits(share=0.5),
    "gates to a target": lambda: Gates(target="params=30%"),
}


@pytest.mark.filterwarnings("ignore:Gates. at the last decision the network still costs")
@pytest.mark.parametrize("method", EARLY.values(), ids=EARLY)
def test_much_that_leaves_because_the_run_is_cut_short_is_told(method: Callable[[], Method]) -> None:
    model = network()
    optimizer, made = torch.optim.SGD(model.parameters(), lr=0.1), method()
    pruner = Pruner(model, optimizer, made, points(4)[0], steps=1000)
    for k in range(10):
        train_step(model, optimizer, pruner, k)
    with pytest.warns(ParsinetWarning, match="told to have 1000 steps and finishes after 10, so [0-9]+ of 20 units leave at once"):
        pruner.finish()


def test_one_shot_pruning_is_no_run_that_is_cut_short() -> None:
    model = network()
    pruner = Pruner(model, torch.optim.SGD(model.parameters(), lr=0.1), MagnitudeUnits(share=0.5), points(4)[0], steps=1)
    pruner.finish()
    assert pruner.widths() == {"fc1": 6, "fc2": 4}


def test_weights_that_are_no_numbers_are_told() -> None:
    model = network()
    pruner = Pruner(model, torch.optim.SGD(model.parameters(), lr=0.1), Dense(), points(4)[0])
    with torch.no_grad():
        model.fc2.bias[3] = torch.nan
    with pytest.warns(ParsinetWarning, match=r"1 of 6 parameters .* hold numbers that are not finite, fc2\.bias among"):
        pruner.finish()


def test_widths_that_are_multiples_of_too_much_are_refused() -> None:
    def begin(method: Method, round_to: int) -> None:
        model = network()
        Pruner(model, torch.optim.SGD(model.parameters(), lr=0.1), method, points(4)[0], round_to=round_to)

    with pytest.raises(UsageError, match="with round_to=12 nothing could leave: the widest group, fc1, has 12 units"):
        begin(Gates(), 12)
    begin(Gates(), 11)
    begin(Dense(), 12)


class Projected(nn.Module):
    """An LSTM whose states are projected to four features."""

    def __init__(self) -> None:
        super().__init__()
        self.cells, self.head = nn.LSTM(6, 10, proj_size=4, batch_first=True), nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = self.head(self.cells(x)[0].mean(1))
        return found


@pytest.mark.filterwarnings("ignore:LSTM with projections is not supported with oneDNN")
@pytest.mark.parametrize(("first", "groups", "multiple"), [(6, ["cells"], 1), (10, None, 4)])
def test_projections_keep_another_width_than_the_states(first: int, groups: list[str] | None, multiple: int) -> None:
    model, x = Projected(), torch.randn(3, 5, 6)
    if first < 10:
        shrink(model, trace(model, x).plan({"cells": torch.arange(10) < first}))
    optimizer = torch.optim.Adam(model.parameters())
    method = RandomUnits(share=0.34 if groups == ["cells"] else 0.25 if groups else 0.6, groups=groups)
    pruner = Pruner(model, optimizer, method, x, steps=10, round_to=multiple)
    for _ in range(10):
        model(x).sum().backward()
        optimizer.step()
        optimizer.zero_grad()
        pruner.step()
    pruner.finish()
    assert model.cells.hidden_size != model.cells.proj_size
    model(x).sum().backward()
