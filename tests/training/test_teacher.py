"""The teacher: who it is, what it is shown, what it adds to a step, and that a resumed run has the same one."""

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from methods.runs import beginnings, same
from methods.test_resume import STEPS, Run
from methods.toys import OPTIMIZERS, network, points, start, train_step
from parsinet.data import Batches, Split
from parsinet.errors import UsageError
from parsinet.methods import Removal
from parsinet.training import Average, Teacher, distillation, fit

QUICK: dict[str, Any] = {"steps": 30, "price": 0.02, "fall_steps": 10, "interval": 4, "gated": 0.8, "theta": 0.8}


def followed(teacher: Teacher, model: nn.Module, steps: int = 30) -> list[tuple[dict[str, int], bool]]:
    """The widths after every step of a run whose units leave, and whether the teacher teaches then."""
    optimizer, pruner = start(model, **QUICK)
    told = []
    for k in range(steps):
        train_step(model, optimizer, pruner, k)
        teacher.follow(model)
        told.append((pruner.widths(), teacher.network is not None))
    return told


def widths(model: nn.Module | None) -> dict[str, int]:
    assert model is not None
    return {name: model.get_submodule(name).out_features for name in ("fc1", "fc2")}  # type: ignore[misc]


def test_the_earlier_self_is_the_network_before_its_first_units_left() -> None:
    model = network()
    teacher = Teacher.earlier_self(model, decay=0.0)
    told = followed(teacher, model)
    first = next(k for k, (now, _) in enumerate(told) if now != told[0][0])
    assert [teaches for _, teaches in told] == [k >= first for k in range(30)]
    assert widths(teacher.network) == told[0][0] != told[-1][0]
    again = network()
    followed(Teacher(network()), again, first)
    assert same(dict(teacher.network.state_dict()), dict(again.state_dict()))  # type: ignore[union-attr]


@pytest.mark.parametrize("begin", [3, 13, 25])
def test_with_a_begin_it_is_the_network_of_that_step(begin: int) -> None:
    model = network()
    teacher = Teacher.earlier_self(model, begin=begin)
    told = followed(teacher, model)
    assert [teaches for _, teaches in told] == [k + 1 >= begin for k in range(30)]
    assert widths(teacher.network) == told[begin - 1][0]


def test_it_is_plain_and_nothing_reaches_it() -> None:
    """No hooks, no gradients, no draws of gates, and training and removals go past it."""
    model = network(batch_norm=True)
    teacher = Teacher.earlier_self(model, begin=5)
    optimizer, pruner = start(model, **QUICK)
    x, _ = points()
    for k in range(30):
        train_step(model, optimizer, pruner, k)
        teacher.follow(model)
        if k == 4:
            assert teacher.network is not None
            draws = pruner.method._generator.get_state()  # type: ignore[attr-defined]
            before, answers = copy.deepcopy(teacher.network.state_dict()), teacher(x)
            assert answers is not None
            assert not answers.requires_grad
            assert not any(module._forward_pre_hooks for module in teacher.network.modules())
            assert torch.equal(draws, pruner.method._generator.get_state())  # type: ignore[attr-defined]
    assert widths(teacher.network) != pruner.widths()
    assert same(dict(teacher.network.state_dict()), dict(before))  # type: ignore[union-attr]
    assert torch.equal(teacher(x), answers)  # type: ignore[arg-type]
    assert teacher.examples == 2 * len(x)


def test_a_trained_network_is_copied_and_teaches_at_once() -> None:
    model = network()
    teacher = Teacher(model)
    x, _ = points()
    before = model(x).detach()
    followed(teacher, model)
    assert torch.equal(teacher(x), before)  # type: ignore[arg-type]


def test_the_loss_is_the_mixture() -> None:
    teacher = Teacher(network(), weight=0.25, temperature=3.0)
    z, told, loss = torch.randn(4, 2), torch.randn(4, 2), torch.tensor(0.7)
    assert torch.equal(teacher.loss(loss, z, told), 0.75 * loss + 0.25 * distillation(z, told, 3.0))
    assert teacher.loss(loss, z, None) is loss


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Teacher(network(), weight=0.0), r"weight must be in \(0, 1\], got 0"),
        (lambda: Teacher(network(), weight=1.5), "got 1.5"),
        (lambda: Teacher(network(), temperature=0.0), "temperature must be > 0 and finite, got 0"),
        (lambda: Teacher.earlier_self(network(), begin=0), "begin must be ≥ 1 step, got 0"),
        (lambda: Teacher.earlier_self(network(), decay=1.0), r"decay must be in \[0, 1\)"),
        (lambda: Teacher.earlier_self(pruned()), "before a method has touched it"),
        (lambda: restored(Teacher(network()), Teacher.earlier_self(network())), "is an earlier self, the other a trained network"),
    ],
)
def test_refusals(make: Callable[[], Teacher], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        make()


def restored(teacher: Teacher, other: Teacher) -> Teacher:
    teacher.load_state_dict(other.state_dict())
    return teacher


def pruned() -> nn.Module:
    model = network()
    start(model)
    return model


def split() -> Split:
    x, y = points()
    return Split(x, y)


class Comparing:
    """Evaluates the loss again after every step, as gates do."""

    settled = False

    def __init__(self) -> None:
        self.losses: list[Tensor] = []

    def penalty(self) -> float:
        return 0.0

    def step(self, closure: Callable[[], Tensor]) -> Removal | None:
        self.losses.append(closure().detach())
        return None


def test_fit_minimises_the_mixture_and_gates_compare_it() -> None:
    """Against a loop by hand, bit for bit; what it reports as the loss is another matter (`test_loop`)."""
    model, theirs, teacher, comparing = network(1), network(1), Teacher(network(2)), Comparing()
    pruner: Any = comparing
    fit(model, torch.optim.SGD(model.parameters(), lr=0.1), Batches(split(), 16), epochs=2, teacher=teacher, pruner=pruner)
    optimizer, batches, compared = torch.optim.SGD(theirs.parameters(), lr=0.1), Batches(split(), 16), []
    for _ in range(2):
        for x, y in batches:

            def mixed(x: Tensor = x, y: Tensor = y) -> Tensor:
                z, told = theirs(x), network(2)(x).detach()
                soft = functional.kl_div((z / 2).log_softmax(1), (told / 2).log_softmax(1), reduction="batchmean", log_target=True)
                return (1 - 0.7) * functional.cross_entropy(z, y) + 0.7 * (soft * 4)

            optimizer.zero_grad()
            mixed().backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            compared.append(mixed().detach())
    assert same(dict(model.state_dict()), dict(theirs.state_dict()))
    assert same(comparing.losses, compared)
    assert teacher.examples == 2 * len(split())


def test_fit_refuses_targets_that_are_no_classes() -> None:
    model = network()
    numbers = Split(split().inputs, torch.zeros(64, 2))
    with pytest.raises(UsageError, match=r"but the targets are numbers \(torch\.float32\)"):
        fit(
            model,
            torch.optim.SGD(model.parameters()),
            Batches(numbers, 16),
            epochs=1,
            objective=functional.mse_loss,
            teacher=Teacher(model),
        )


class Taught(Run):
    """The run of test_resume with a teacher, and the mean of its last weights."""

    def __init__(self, kind: str) -> None:
        super().__init__(OPTIMIZERS["adam"])
        before = network(batch_norm=True)
        options: dict[str, Any] = {"first removal": {}, "begin": {"begin": 17}}.get(kind, {})
        self.teacher = Teacher(network(3)) if kind == "trained" else Teacher.earlier_self(before, **options)
        self.average = Average(begin=STEPS - 6)

    def advance(self, begin: int, end: int) -> None:
        for k in range(begin, end):
            x, y = points(seed=k)
            z = self.model(x)
            self.teacher.loss(functional.cross_entropy(z, y), z, self.teacher(x)).backward()  # type: ignore[no-untyped-call]
            self.optimizer.step()
            self.optimizer.zero_grad()
            self.pruner.step()
            self.teacher.follow(self.model)
            self.average.step(self.model, self.pruner.settled)
            self.scheduler.step()

    def state(self) -> dict[str, Any]:
        return copy.deepcopy({**super().state(), "teacher": self.teacher.state_dict(), "average": self.average.state_dict()})

    def load(self, state: dict[str, Any]) -> None:
        super().load(state)
        self.teacher.load_state_dict(state["teacher"])
        self.average.load_state_dict(state["average"], self.model)


def straight(kind: str) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    run, states = Taught(kind), []
    for k in range(STEPS):
        states.append(run.state())
        run.advance(k, k + 1)
    return states, run.state()


@pytest.mark.parametrize("begin", ["telling", pytest.param("every", marks=pytest.mark.slow)])
@pytest.mark.parametrize("kind", ["first removal", *(pytest.param(kind, marks=pytest.mark.slow) for kind in ("begin", "trained"))])
def test_resume_is_bitwise_with_a_teacher_and_an_average(kind: str, begin: str) -> None:
    states, end = straight(kind)
    units = [state["pruner"]["units"] for state in states]
    assert len({str(now) for now in units}) >= 3, "several removals"
    changes = [(now, state["teacher"]["teaches"], state["average"]["averages"] is None) for now, state in zip(units, states, strict=True)]
    for k in beginnings(begin, changes):
        run = Taught(kind)
        run.load(copy.deepcopy(states[k]))
        assert same(run.state(), states[k]), k
        run.advance(k, STEPS)
        assert same(run.state(), end), k


def forget_averages(state: dict[str, Any]) -> None:
    state["average"]["averages"] = None


def forget_weights(state: dict[str, Any]) -> None:
    for tensor in state["teacher"]["weights"]["tensors"].values():
        tensor.mul_(0)


def forget_teaching(state: dict[str, Any]) -> None:
    state["teacher"]["teaches"] = False


@pytest.mark.parametrize("forget", [forget_averages, forget_weights, forget_teaching])
def test_the_law_sees_what_is_forgotten(forget: Callable[[dict[str, Any]], None]) -> None:
    states, end = straight("begin")
    state = copy.deepcopy(states[STEPS - 3])
    forget(state)
    run = Taught("begin")
    run.load(state)
    run.advance(STEPS - 3, STEPS)
    assert not same(
        {key: value for key, value in run.state().items() if key != "teacher"}, {k: v for k, v in end.items() if k != "teacher"}
    )
