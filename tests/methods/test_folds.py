"""Folding at every removal of a run: the law holds inside the loop, with any method, and what cannot be folded is refused at the start."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from methods.runs import same
from methods.toys import EARLY, network, points
from parsinet.errors import ParsinetError, StructureError, UsageError
from parsinet.methods import Dense, Gates, Pruner, Spectral
from parsinet.methods import folds as folds_module

EXACT = 1e-10
"""float64: a constant added once or through a product differs in the last digits only."""


class Drop(Dense):
    """Lets the second and every third unit after it go at each of some steps."""

    name = "drop"

    def __init__(self, *at: int) -> None:
        super().__init__()
        self.at, self.steps = at, 0

    @property
    def settled(self) -> bool:
        return self.steps >= max(self.at)

    def attach(self, model: nn.Module, structure: Any, budget: Any, optimizers: Any = ()) -> None:
        self.structure = structure

    def removed(self, structure: Any, plan: Any) -> None:
        self.structure = structure

    def step(self) -> dict[str, Tensor] | None:
        self.steps += 1
        return {group.name: torch.arange(group.size) % 3 != 1 for group in self.structure.removable()} if self.steps in self.at else None

    def state_dict(self) -> dict[str, Any]:
        return {"steps": self.steps}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.steps = state["steps"]


def net(**options: Any) -> nn.Module:
    """Units that emit a constant, and something for training mode to do."""
    model = network(batch_norm=True, **options).double()
    model.fc2 = nn.Sequential(model.fc2, nn.Sigmoid(), nn.Dropout(0.2))
    return model


def begin(model: nn.Module, method: Any, **options: Any) -> tuple[torch.optim.Optimizer, Pruner]:
    method.prepare(model)
    optimizer = torch.optim.Adam(method.param_groups(model), lr=0.01)
    return optimizer, Pruner(model, optimizer, method, points(8)[0].double(), **{"steps": 20, **options})


def learn(model: nn.Module, optimizer: torch.optim.Optimizer, k: int) -> None:
    x, y = points(seed=k)
    with torch.random.fork_rng():
        torch.manual_seed(k)
        nn.functional.cross_entropy(model(x.double()), y).backward()
    optimizer.step()
    optimizer.zero_grad()


def evaluated(model: nn.Module, x: Tensor) -> Tensor:
    """What the model computes in evaluation mode; the model stays in its own."""
    with torch.no_grad():
        return copy.deepcopy(model).eval()(x)


def emptied(model: nn.Module) -> nn.Module:
    """By hand: the leaving units have no incoming weights."""
    twin = copy.deepcopy(model)
    for layer in (twin.fc1, twin.fc2[0]):
        layer.weight.data[1::3] = 0
    return twin


def averaged(model: nn.Module, x: Tensor) -> nn.Module:
    """By hand: the leaving units' readers read their mean over x."""
    twin = copy.deepcopy(model).eval()
    with torch.no_grad():
        hidden = torch.relu(twin.norm(twin.fc1(x)))
        means = {twin.fc2[0]: hidden.mean(0), twin.out: torch.relu(twin.fc2(hidden)).mean(0)}
    for reader, mean in means.items():

        def replace(_: nn.Module, args: tuple[Tensor], mean: Tensor = mean) -> tuple[Tensor]:
            changed = args[0].clone()
            changed[..., 1::3] = mean[1::3]
            return (changed,)

        reader.register_forward_pre_hook(replace)
    return twin


@pytest.mark.parametrize("kind", ["constant", "mean"])
def test_every_removal_obeys_the_law_inside_the_loop(kind: str) -> None:
    model, x = net(), points(50)[0].double()
    optimizer, pruner = begin(model, Drop(4, 9), fold=kind, **({"fold_inputs": [x[:20], x[20:]]} if kind == "mean" else {}))
    removals = 0
    for k in range(12):
        learn(model, optimizer, k)
        expected = evaluated(emptied(model) if kind == "constant" else averaged(model, x), x)
        plain = evaluated(model, x)
        if pruner.step() is None:
            continue
        removals += 1
        assert model.training
        assert (evaluated(model, x) - expected).abs().max() < EXACT
        assert (plain - expected).abs().max() > 1e-4
    assert removals == 2
    assert pruner.widths() == {"fc1": 5, "fc2.0": 3}


def test_the_law_objects_to_a_pruner_that_does_not_fold() -> None:
    model, x = net(), points(50)[0].double()
    optimizer, pruner = begin(model, Drop(1))
    learn(model, optimizer, 0)
    expected = evaluated(emptied(model), x)
    pruner.step()
    assert (evaluated(model, x) - expected).abs().max() > 1e-3


class Watched(Gates):
    """Keeps what the gated network computes in evaluation mode when the units that leave are named."""

    def __init__(self, model: nn.Module, x: Tensor, **options: Any) -> None:
        super().__init__(**options)
        self.look = lambda: evaluated(model, x)

    def step(self) -> Any:
        alive = super().step()
        if not self.settled:
            self.seen = self.look()
        return alive

    def settle(self) -> Any:
        self.seen = self.look()
        return super().settle()


@pytest.mark.parametrize("fall_steps", [12, 60], ids=["on the way", "at the end, when the gates are gone already"])
def test_gates_have_silenced_what_leaves(fall_steps: int, **options: Any) -> None:
    """Readers read ξ·h with ξ = 0: a removal, and the last one too, changes nothing in evaluation mode."""
    model, x = net(), points(50)[0].double()
    method = Watched(model, x, price=0.05, rise=1.0, fall_steps=fall_steps, interval=4, gated=0.9, theta=0.6)
    optimizer, pruner = begin(model, method, **options)
    removals = []
    for k in range(18):
        learn(model, optimizer, k)
        removals.append(pruner.step() is not None)
        assert (evaluated(model, x) - method.seen).abs().max() < EXACT
    assert pruner.settled
    assert any(removals[:-1]) if fall_steps == 12 else removals[-1]


def test_a_fold_of_what_gates_silence_would_break_that_law(monkeypatch: pytest.MonkeyPatch) -> None:
    """Planted fault: gates that claim not to silence."""
    monkeypatch.setattr(Gates, "silences", False)
    with pytest.raises(AssertionError):
        test_gates_have_silenced_what_leaves(60, fold="constant")


def test_a_fold_is_refused_where_the_method_silences() -> None:
    with pytest.raises(UsageError, match="gates silences units"):
        begin(net(), Gates(price=0.05), fold="constant")


@pytest.mark.filterwarnings(EARLY)
@pytest.mark.parametrize("kind", ["constant", "mean"])
def test_nodes_of_spectral_layers_fold(kind: str) -> None:
    """The composed weights' law: what leaves is in the biases, also of layers that become plain afterwards."""
    model = nn.Sequential(nn.Linear(2, 9), nn.Sigmoid(), nn.Linear(9, 2)).double()
    x = points(50)[0].double()
    options = {"fold_inputs": x} if kind == "mean" else {}
    optimizer, pruner = begin(model, Spectral(0.4, schedule="post"), fold=kind, **options)
    for k in range(5):
        learn(model, optimizer, k)
        pruner.step()
    weight, bias = model[0].weight.detach().clone(), model[0].bias.detach().clone()
    out, shift = model[2].weight.detach().clone(), model[2].bias.detach().clone()
    pruner.finish()
    stay = torch.isin(bias, model[0].bias)
    assert stay.sum() == pruner.widths()["0"] < 9
    hidden = torch.sigmoid(x @ weight.T + bias)
    hidden[:, ~stay] = (torch.sigmoid(bias) if kind == "constant" else hidden.mean(0))[~stay]
    assert (model(x) - hidden @ out.T - shift).abs().max() < EXACT


def resumable(inputs: Any) -> tuple[nn.Module, torch.optim.Optimizer, Pruner]:
    model = net()
    return model, *begin(model, Drop(3, 6), fold="mean", fold_inputs=inputs)


def test_resume_is_bitwise_with_folding() -> None:
    inputs = [points(16, seed=3)[0].double(), points(8, seed=4)[0].double()]

    def states(run: tuple[Any, ...]) -> list[Any]:
        return copy.deepcopy([part.state_dict() for part in run])

    run = resumable(inputs)
    saved = []
    for k in range(9):
        saved.append(states(run))
        learn(*run[:2], k)
        run[2].step()
    for k, (model_state, optimizer_state, pruner_state) in enumerate(saved):
        model, optimizer, pruner = again = resumable(inputs)
        pruner.load_state_dict(pruner_state)
        model.load_state_dict(model_state)
        optimizer.load_state_dict(optimizer_state)
        for step in range(k, 9):
            learn(model, optimizer, step)
            pruner.step()
        assert same(states(again), states(run)), k


def test_the_replay_of_a_saved_run_folds_nothing() -> None:
    """The weights to come have it in them; a fold would ask for data of a network that has other weights."""
    asked = []

    def inputs() -> Tensor:
        asked.append(1)
        return points(16)[0].double()

    model, optimizer, pruner = resumable(inputs)
    assert len(asked) == 1
    for k in range(6):
        learn(model, optimizer, k)
        pruner.step()
    assert len(asked) == 3, "once at the start, once per removal"
    _, _, fresh = resumable(inputs)
    fresh.load_state_dict(pruner.state_dict())
    assert len(asked) == 4
    assert fresh.widths() == pruner.widths()


def convolutions(bias: bool = True, padding: int = 1) -> nn.Module:
    layers = nn.Sequential(nn.Conv1d(2, 6, 1), nn.ReLU(), nn.Conv1d(6, 4, 3, padding=padding, bias=bias), nn.Flatten())
    nn.init.zeros_(layers[0].bias)
    return layers.double()


def pruner_of(model: nn.Module, **options: Any) -> Pruner:
    return Pruner(model, torch.optim.SGD(model.parameters(), lr=0.1), Drop(1), torch.ones(3, 2, 9, dtype=torch.float64), **options)


@pytest.mark.parametrize("kind", ["constant", "mean"])
@pytest.mark.parametrize(
    ("build", "words"),
    [(lambda: convolutions(), "2: it pads its input with zeros"), (lambda: convolutions(bias=False, padding=0), "2: it has no bias")],
)
def test_what_cannot_be_folded_is_refused_at_the_start(build: Callable[[], nn.Module], words: str, kind: str) -> None:
    """Although its units emit nothing yet: biases are zero at the start."""
    model = build()
    state, random = copy.deepcopy(model.state_dict()), torch.get_rng_state()
    options = {"fold_inputs": torch.zeros(3, 2, 9, dtype=torch.float64)} if kind == "mean" else {}
    with pytest.raises(StructureError, match=f"(?s)on a trial before the run.*{words}.*ignored_layers"):
        pruner_of(model, fold=kind, **options)
    assert same(model.state_dict(), state)
    assert torch.equal(torch.get_rng_state(), random)
    pruner_of(model, fold=kind, ignored_layers=["0"], **options)


def test_the_start_objects_only_with_shifted_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    """Planted fault: the trial on the weights as they are, whose units emit nothing."""
    monkeypatch.setattr(folds_module, "SHIFT", 0.0)
    assert pruner_of(convolutions(), fold="constant").widths() == {"0": 6}


def test_a_fold_that_is_not_exact_can_be_accepted_at_the_start() -> None:
    model = convolutions()
    pruner = pruner_of(model, fold="constant", approximate=True)
    model[0].bias.data.fill_(0.5)
    twin = copy.deepcopy(model)
    twin[0].weight.data[1::3] = 0
    assert pruner.step() is not None
    x = torch.randn(3, 2, 9, dtype=torch.float64)
    difference = (model(x) - twin(x)).view(3, 4, 9).abs()
    assert difference[..., 1:-1].max() < EXACT
    assert difference.max() > 1e-3


def test_a_fold_that_fails_in_the_middle_changes_nothing() -> None:
    batches = [torch.randn(3, 2, 9, dtype=torch.float64), torch.randn(3, 5, 9, dtype=torch.float64)]
    model = convolutions(padding=0)
    pruner = pruner_of(model, fold="mean", fold_inputs=lambda: batches.pop(0))
    state, widths = copy.deepcopy(model.state_dict()), pruner.widths()
    with pytest.raises(UsageError, match="rejects a batch"):
        pruner.step()
    assert same(model.state_dict(), state)
    assert pruner.widths() == widths


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"fold": "zero"}, "'constant', 'mean' or None, got 'zero'"),
        ({"approximate": True}, "belong to fold="),
        ({"fold_inputs": torch.zeros(1, 2, 9)}, "belong to fold="),
        ({"fold": "constant", "fold_inputs": torch.zeros(1, 2, 9)}, "belongs to fold='mean'"),
        ({"fold": "mean"}, "needs fold_inputs"),
        ({"fold": "mean", "fold_inputs": iter([torch.zeros(1, 2, 9)])}, "used up at the first removal"),
        ({"fold": "mean", "fold_inputs": []}, "at least one batch"),
        ({"fold": "mean", "fold_inputs": [(torch.zeros(1, 2, 9), torch.zeros(1))]}, "without targets"),
    ],
)
def test_arguments_that_cannot_be_used(options: dict[str, Any], words: str) -> None:
    with pytest.raises(ParsinetError, match=words):
        pruner_of(convolutions(padding=0), **options)
