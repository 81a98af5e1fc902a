"""Labels drawn from the model in training: estimates of whole networks against enumeration by hand, without a trace, and the refusals."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Callable
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gates.toys import check_mean
from methods.runs import same
from methods.test_comparing import Noisy, recurrent
from methods.test_drawing import built
from methods.toys import OPTIMIZERS, bank, network, points, start
from networks import call
from parsinet.errors import RunError, UsageError
from parsinet.gates import exact_flips, straight_through
from parsinet.methods import Gates, Pruner, comparing, relabelling
from parsinet.training.objective import cross_entropy, distillation

CLASSES = 3


class Small(nn.Module):
    """Two gated layers in float64; of sequences every position is a classification."""

    def __init__(self) -> None:
        super().__init__()
        self.fc1, self.fc2, self.out = nn.Linear(2, 12), nn.Linear(12, 8), nn.Linear(8, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(torch.relu(self.fc2(torch.relu(self.fc1(x)))))


class Case:
    """A network with gates at one draw, data of so many positions (0: none), and the estimates."""

    def __init__(self, positions: int, draws: str = "batch", n: int = 16) -> None:
        with torch.random.fork_rng():
            torch.manual_seed(1)
            self.model = Small().double()
            self.x = torch.randn(n, *([positions] if positions else []), 2).double()
            self.y = torch.randint(CLASSES, self.x.shape[:-1])
        method = Gates(estimator="drawn-labels", draws=draws)
        self.pruner = Pruner(self.model, OPTIMIZERS["adam"](method.param_groups(self.model)), method, self.x[:4])
        self.bank = bank(self.pruner)
        random = torch.Generator().manual_seed(2)
        self.xi = torch.bernoulli(torch.full((n if draws == "example" else 1, 20), 0.6), generator=random).double()
        self.bank.draw = lambda examples=None: self.xi if examples else self.xi[0]

    def loss(self) -> Tensor:
        return cross_entropy(self.model(self.x), self.y)

    def estimate(self, loss: Callable[[], Tensor] | None = None) -> Tensor:
        asking = self.pruner.method._estimating._asking  # type: ignore[attr-defined]
        asking.compare(loss or self.loss, self.model, self.bank)
        found: Tensor = asking.take()
        return found

    def samples(self, times: int) -> Tensor:
        return torch.stack([self.estimate() for _ in range(times)])

    def by_hand(self, xi: Tensor, x: Tensor) -> Tensor:
        """The logits of one example, layer by layer, past all hooks."""
        fc1, fc2, out = ((layer.weight, layer.bias) for layer in (self.model.fc1, self.model.fc2, self.model.out))
        h = torch.relu(F.linear(x, *fc1)) * xi[:12]
        return F.linear(torch.relu(F.linear(h, *fc2)) * xi[12:], *out)

    def enumerated(self) -> Tensor:
        """mean_n [q_n + (½ − ξ_n) E s_n²], one example, one position and one label after the other."""
        total = torch.zeros(20).double()
        for xi, x, y in zip(self.xi.expand(len(self.x), -1), self.x, self.y, strict=True):
            row = xi.clone().requires_grad_()
            logits = self.by_hand(row, x).reshape(-1, CLASSES)
            (q,) = torch.autograd.grad(F.cross_entropy(logits, y.reshape(-1)), row, retain_graph=True)
            squares = torch.zeros(20).double()
            for place, label in itertools.product(range(len(logits)), range(CLASSES)):
                surprise = -logits[place].log_softmax(0)[label]
                (s,) = torch.autograd.grad(surprise, row, retain_graph=True)
                squares += float((-surprise.detach()).exp()) * s.square() / len(logits)
            total += q + (0.5 - xi) * squares
        return total / len(self.x)


CASES = {"classes": (0, "batch"), "a draw per example": (0, "example"), "positions": (3, "batch"), "positions, draws": (3, "example")}


@pytest.mark.parametrize(("positions", "draws"), CASES.values(), ids=CASES)
def test_estimates_average_to_those_over_all_labels_by_hand_and_rank_alike(positions: int, draws: str) -> None:
    case = Case(positions, draws)
    found, expected = case.samples(250), case.enumerated()
    check_mean(found, expected)
    assert spearman(found.mean(0), expected) > 0.97


def spearman(a: Tensor, b: Tensor) -> float:
    return float(torch.corrcoef(torch.stack([a.argsort().argsort().double(), b.argsort().argsort().double()]))[0, 1])


def test_they_rank_units_as_exact_flips_do_nearer_than_straight_through() -> None:
    """All gates open, where the bias of straight-through is largest; labels that the network has learned a little."""
    case = Case(0, n=64)
    optimizer = torch.optim.Adam(case.model.parameters(), lr=0.02)
    case.xi = torch.ones(1, 20).double()
    case.y = (case.x[:, 0] > 0).long() + (case.x.norm(dim=1) > 1.2).long()
    for _ in range(30):
        optimizer.zero_grad()
        case.loss().backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    flips = exact_flips(comparing.under_gates(case.loss, case.model, case.bank), case.xi[0])
    found = case.samples(100).mean(0)
    case.pruner.method._estimating._asking._estimator = lambda q, s, xi: straight_through(q, xi)  # type: ignore[attr-defined]
    plain = case.estimate()
    assert spearman(found, flips) > 0.9
    assert spearman(found, flips) > spearman(plain, flips)
    assert (found - flips).abs().mean() < 0.5 * (plain - flips).abs().mean()


def true_labels(case: Case) -> Callable[..., Tensor]:
    return lambda logits, uniform: case.y.flatten()


FAULTS: dict[str, tuple[str, Callable[[Case], Any]]] = {
    "true labels": ("draw_labels", true_labels),
    "the likeliest label": ("draw_labels", lambda case: lambda logits, uniform: logits.argmax(-1)),
    "gates of others": ("_derivatives", lambda case: _shifted),
}


def _shifted(value: Tensor, gates: relabelling.Passes, *, keep: bool = False) -> relabelling.Passes:
    leaves = [row for each in gates for row in each.values()]
    found = iter(torch.autograd.grad(value, leaves, retain_graph=True))
    return [{group: next(found).roll(1, -1) for group in each} for each in gates]


@pytest.mark.parametrize(("name", "fault"), FAULTS.values(), ids=FAULTS)
def test_the_law_objects_to_planted_faults(monkeypatch: pytest.MonkeyPatch, name: str, fault: Callable[[Case], Any]) -> None:
    case = Case(3)
    monkeypatch.setattr(relabelling, name, fault(case))
    with pytest.raises(AssertionError):
        check_mean(case.samples(250), case.enumerated())


def test_the_law_objects_to_positions_that_are_counted_as_examples(monkeypatch: pytest.MonkeyPatch) -> None:
    case, whole = Case(3), relabelling._surprise
    monkeypatch.setattr(relabelling, "_surprise", lambda outputs, bank: whole(outputs, bank) * 3**0.5)
    with pytest.raises(AssertionError):
        check_mean(case.samples(250), case.enumerated())


def test_a_closure_of_several_passes_is_read_as_the_batch_it_makes() -> None:
    """Unequal parts, each with its share of the loss; a row of gates per example of the whole batch."""
    case, part = Case(0, "example"), slice(0, 0)
    rows = case.xi

    def parts() -> Tensor:
        nonlocal part
        total = torch.zeros(()).double()
        for part in (slice(0, 5), slice(5, 16)):
            total = total + cross_entropy(case.model(case.x[part]), case.y[part]) * len(case.y[part]) / 16
        return total

    case.bank.random = lambda shape: torch.linspace(0, 0.99, shape[0])
    whole = case.estimate()
    case.bank.draw = lambda examples=None: rows[part]
    assert torch.allclose(case.estimate(parts), whole, atol=1e-12)


@pytest.mark.parametrize(
    "name",
    [
        "mlp-batch-norm",
        "lenet-5-caffe",
        "tiny-vit",
        "blocks",
        "inputs",
        *(pytest.param(name, marks=pytest.mark.slow) for name in ("resnet-20", "char-gpt")),
    ],
)
def test_the_derivatives_are_those_that_training_hears(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """In every kind of network; then only labels make the difference. With the curvature of the true labels both estimates are one."""
    model, x, options = built(name)
    pruner = Pruner(model, torch.optim.SGD(model.parameters(), lr=0.1), Gates(estimator="drawn-labels", **options), x)
    twin, _, _ = built(name)
    heard = Pruner(twin, torch.optim.SGD(twin.parameters(), lr=0.1), Gates(**options), x)
    xi = (torch.rand(len(bank(pruner).theta), generator=torch.Generator().manual_seed(4)) < 0.6).double()
    targets: list[Tensor] = []

    def loss(net: nn.Module) -> Tensor:
        out: Tensor = call(net, x)
        targets[:] = [torch.arange(out[..., 0].numel()) % out.shape[-1]]
        return cross_entropy(out, targets[0].reshape(out.shape[:-1]))

    for each in (pruner, heard):
        bank(each).theta = bank(each).theta.double()
        monkeypatch.setattr(bank(each), "draw", lambda *examples: xi)
    monkeypatch.setattr(relabelling, "draw_labels", lambda logits, uniform: targets[0])
    asking = pruner.method._estimating._asking  # type: ignore[attr-defined]
    asking.compare(lambda: loss(model), model, bank(pruner))
    loss(twin).backward()  # type: ignore[no-untyped-call]
    told = torch.cat(list(bank(heard).estimates().values()))
    positions = len(targets[0]) / call(twin, x).shape[0]
    if positions == 1:
        assert torch.allclose(asking.take(), told, atol=1e-9)
    else:
        monkeypatch.setattr(asking, "_estimator", lambda q, s, xi: q.mean(0) + (0.5 - xi[0]) * s.square().mean(0) / positions)
        asking.compare(lambda: loss(model), model, bank(pruner))
        assert torch.allclose(asking.take(), told, atol=1e-9)


def test_groups_gated_in_weights_learn_straight_through() -> None:
    model = recurrent()
    method = Gates(estimator="drawn-labels")
    x, y = points(24)
    x = x.unsqueeze(1).expand(-1, 3, -1).contiguous()
    pruner = Pruner(model, OPTIMIZERS["adam"](method.param_groups(model)), method, x[:4])
    xi = torch.tensor([1.0, 0.0])
    bank(pruner).draw = lambda: xi
    asking = method._estimating._asking
    assert asking is not None
    asking.compare(lambda: F.cross_entropy(model(x), y), model, bank(pruner))
    found, small = asking.take(), 1e-2
    assert found is not None
    value = comparing.under_gates(lambda: F.cross_entropy(model(x), y), model, bank(pruner))
    for unit, step in enumerate(small * torch.eye(2)):
        slope = (value(xi + step) - value(xi - step)) / (2 * small)
        assert abs(float(found[unit]) - float(slope)) < 1e-3, "central differences in float32"


def test_an_evaluation_leaves_no_trace() -> None:
    model = Noisy()
    _, pruner = start(model, estimator="drawn-labels")
    x, y = points()
    model(x)
    assert not bank(pruner).hearing.pending
    before, random = copy.deepcopy(model.state_dict()), torch.get_rng_state()
    with torch.no_grad():
        pruner.method.probe(lambda: F.cross_entropy(model(x), y))  # type: ignore[attr-defined]
    assert same(model.state_dict(), before)
    assert torch.equal(torch.get_rng_state(), random)
    assert all(parameter.grad is None for parameter in model.parameters())
    assert not model._forward_hooks


class Answer(NamedTuple):
    """What other libraries' models return."""

    logits: Tensor


class Answering(nn.Module):
    """Its classifier's logits in an answer."""

    def __init__(self) -> None:
        super().__init__()
        self.net = network()

    def forward(self, x: Tensor) -> Answer:
        return Answer(self.net(x))


def test_logits_in_an_answer_are_found_and_gates_learn_from_them() -> None:
    model = Answering()
    method = Gates(estimator="drawn-labels", fall_steps=20)
    optimizer = OPTIMIZERS["adam"](method.param_groups(model))
    x, y = points()
    pruner = Pruner(model, optimizer, method, x[:2])
    before = bank(pruner).theta.clone()
    pruner.step(lambda: F.cross_entropy(model(x).logits, y))
    assert not torch.equal(bank(pruner).theta, before)


REFUSED: dict[str, tuple[Callable[[nn.Module, Tensor, Tensor], Any], str]] = {
    "numbers": (lambda model, x, y: F.mse_loss(model(x), x), "no mean cross-entropy"),
    "a sum": (lambda model, x, y: F.cross_entropy(model(x), y, reduction="sum"), "no mean cross-entropy"),
    "a teacher": (lambda model, x, y: distillation(model(x), 3 * x, 2.0), "no mean cross-entropy"),
    "no model": (lambda model, x, y: x.sum(), "did not call the model"),
    "no gradient": (lambda model, x, y: F.cross_entropy(model(x), y).detach(), "cannot be differentiated"),
    "several numbers": (lambda model, x, y: F.cross_entropy(model(x), y, reduction="none"), "must return the batch's mean loss"),
}


@pytest.mark.parametrize(("loss", "words"), REFUSED.values(), ids=REFUSED)
def test_losses_it_is_not_for_are_refused_in_words(loss: Any, words: str) -> None:
    model = network()
    _, pruner = start(model, estimator="drawn-labels")
    theta, (x, y) = bank(pruner).theta.clone(), points()
    with pytest.raises(UsageError, match=words):
        pruner.step(lambda: loss(model, x, y))
    assert torch.equal(bank(pruner).theta, theta)
    assert not model._forward_hooks


def test_outputs_that_are_no_logits_are_refused_with_what_came() -> None:
    model = nn.Sequential(nn.Linear(2, 6), nn.ReLU(), nn.Linear(6, 2), nn.Flatten(0))
    _, pruner = start(model, estimator="drawn-labels")
    x, y = points()
    with pytest.raises(UsageError, match=r'returned a tensor of shape \[128\]\. Use estimator="curvature"'):
        pruner.step(lambda: F.cross_entropy(model(x).view(-1, 2), y))


def test_a_tensor_without_the_examples_first_is_refused_with_its_name() -> None:
    class Queries(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.up, self.down, self.out = nn.Linear(3, 4), nn.Linear(4, 2), nn.Linear(2, 2)
            self.queries = nn.Parameter(torch.randn(5, 3))

        def forward(self, x: Tensor) -> Tensor:
            return self.out(x + self.down(torch.relu(self.up(self.queries))).mean(0))

    model = Queries()
    _, pruner = start(model, estimator="drawn-labels", groups=["up"])
    x, y = points()
    with pytest.raises(RunError, match=r'estimator="drawn-labels"\) want the examples first wherever up is read; the batch has 64'):
        pruner.step(lambda: F.cross_entropy(model(x), y))


def test_without_a_closure_the_step_is_refused() -> None:
    _, pruner = start(network(), estimator="drawn-labels")
    with pytest.raises(UsageError, match='estimator="drawn-labels" learns by evaluating the loss again'):
        pruner.step()


def test_a_loss_that_is_not_finite_moves_no_gate() -> None:
    model = network()
    _, pruner = start(model, estimator="drawn-labels")
    theta, (x, y) = bank(pruner).theta.clone(), points()
    pruner.step(lambda: F.cross_entropy(model(x) * torch.nan, y))
    assert torch.equal(bank(pruner).theta, theta)
    assert bool(bank(pruner).usefulness.isfinite().all())
