"""A compiled forward pass: the same numbers, compiled anew only when units leave, and a plain module at all times."""

from __future__ import annotations

import copy
import shutil
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import parsinet as pn
from parsinet import baselines
from parsinet.data import Batches, Split
from parsinet.errors import RunError, UsageError
from parsinet.methods import Method, Pruner
from parsinet.training import Callback, Compiled, LoopState, fit

pytestmark = pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")
"""Torch looks at it while it traces, and hides the warning in a way that warnings made errors escape."""

METHODS: dict[str, Any] = {
    "dense": lambda: pn.methods.Dense(),
    "gates": lambda: pn.methods.Gates(price=0.02, fall_steps=6, interval=4, gated=0.6),
    "gates, a draw per example": lambda: pn.methods.Gates(price=0.02, fall_steps=6, interval=4, gated=0.6, draws="example"),
    "spectral": lambda: pn.methods.Spectral(),
    "l0": lambda: baselines.L0(),
}


@pytest.fixture(autouse=True)
def _fresh() -> Iterator[None]:
    torch.compiler.reset()
    yield
    torch.compiler.reset()


def network() -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return pn.models.build("mlp", (6,), 3, widths=[12, 8])


def split() -> Split:
    inputs = torch.randn(48, 6, generator=torch.Generator().manual_seed(3))
    return Split(inputs, (inputs.sum(1) > 0).long() + (inputs[:, 0] > 0.5).long())


class Counts(Callback):
    """How many graphs had been compiled after each step, and where units left or the structure became fixed."""

    def __init__(self, compiled: Compiled) -> None:
        self.compiled = compiled
        self.after: list[int] = []
        self.removals: list[int] = []
        self.settled = 0

    def on_step(self, state: LoopState) -> None:
        assert "forward" not in vars(state.model)
        self.after.append(self.compiled.compilations)

    def on_removal(self, state: LoopState, removal: Any) -> None:
        self.removals.append(state.step)

    def on_settled(self, state: LoopState) -> None:
        self.settled = state.step


def run(method: Method, *, batch: int = 12, compiled: bool = True, settled: bool = False) -> tuple[nn.Module, Counts]:
    """Five epochs of 48 examples; the finished network."""
    model = network()
    method.prepare(model)
    optimizer = torch.optim.Adam(method.param_groups(model), lr=0.01)
    pruner = Pruner(model, optimizer, method, split().inputs[:2], steps=20, examples=48)
    forward = Compiled(model, settled=settled, backend="eager")
    counts = Counts(forward)
    fit(model, optimizer, Batches(split(), batch), epochs=5, pruner=pruner, compiled=forward if compiled else None, callbacks=[counts])
    return pruner.finish(), counts


@pytest.mark.parametrize("name", ["dense", *(pytest.param(name, marks=pytest.mark.slow) for name in METHODS if name != "dense")])
def test_the_numbers_are_those_of_the_plain_loop_and_removals_alone_compile_anew(name: str) -> None:
    """Torch's backend "eager" runs the traced graphs with the usual kernels: bitwise the same."""
    compiled, counts = run(METHODS[name]())
    plain, none = run(METHODS[name](), compiled=False)
    assert counts.removals == none.removals
    assert compiled.state_dict().keys() == plain.state_dict().keys()
    assert all(torch.equal(a, b) for a, b in zip(compiled.parameters(), plain.parameters(), strict=True))
    assert none.after[-1] == 0
    assert counts.after[0] > 0
    more = [step for step, (now, then) in enumerate(zip(counts.after[1:], counts.after[:-1], strict=True), start=2) if now > then]
    assert set(more) <= {step + 1 for step in (*counts.removals, counts.settled)}
    assert len(counts.removals) >= {"gates": 2, "spectral": 1}.get(name, 0)


def test_a_smaller_last_batch_is_compiled_once() -> None:
    _, counts = run(pn.methods.Dense(), batch=20)
    assert counts.after[:3] == [1, 1, 2]
    assert counts.after[-1] == 2


def test_waiting_for_the_structure_compiles_once() -> None:
    _, counts = run(METHODS["gates"](), settled=True)
    assert 0 < counts.settled < 20
    assert counts.after[counts.settled - 1] == 0
    assert counts.after[-1] == 1


def test_a_layer_that_is_not_renewed_shows() -> None:
    """Torch notices itself that shapes have changed; without `renew` old graphs stay until its limit is met."""
    model = network()
    compiled = Compiled(model, backend="eager")
    x = split().inputs[:4]
    before = compiled(x)
    assert torch.equal(before, model(x))
    structure = pn.trace(model, x)
    pn.shrink(model, structure.plan({"fc1": torch.arange(12) < 7}))
    compiled.renew()
    assert torch.equal(compiled(x), model(x))
    assert compiled.compilations == 2


def test_a_forward_of_the_users_own_is_put_back() -> None:
    model = network()
    plain = model.forward
    model.forward = own = lambda x: 2 * plain(x)  # type: ignore[method-assign, assignment]
    compiled = Compiled(model, backend="eager")
    x = split().inputs[:4]
    assert torch.equal(compiled(x), 2 * plain(x))
    assert vars(model)["forward"] is own


def test_several_processes_are_refused() -> None:
    model = network()
    optimizer, batches = torch.optim.SGD(model.parameters(), lr=0.1), Batches(split(), 12)
    state = LoopState(model, optimizer, batches, 1)
    replicas: Any = object()
    state.replicas = replicas
    with pytest.raises(UsageError, match="Leave compile out"):
        fit(model, optimizer, batches, epochs=1, state=state, compiled=Compiled(model, backend="eager"))


def test_a_compiler_that_fails_says_so() -> None:
    model = network()
    compiled = Compiled(model, backend="eager")

    def broken(graph: torch.fx.GraphModule, inputs: list[torch.Tensor]) -> Any:
        raise OSError("no C++ compiler found\nlong story")

    compiled._backend = broken
    with pytest.raises(RunError, match=r"torch.compile cannot compile the network \(no C\+\+ compiler found\). Leave compile out."):
        compiled(split().inputs)
    assert "forward" not in vars(model)
    copy.deepcopy(model)(split().inputs)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.skipif(shutil.which("g++") is None, reason="needs a C++ compiler")
def test_torchs_own_compiler_trains_gates() -> None:
    """The kernels differ, so the numbers do in their last digits."""
    model, x, y = network(), split().inputs, split().targets
    method = pn.methods.Gates()
    optimizer = torch.optim.Adam(method.param_groups(model), lr=0.01)
    pruner = Pruner(model, optimizer, method, x[:2], steps=40, examples=48)
    compiled, bank = Compiled(model), method._bank
    bank._random.manual_seed(0)
    loss = F.cross_entropy(compiled(x), y)
    loss.backward()  # type: ignore[no-untyped-call]
    found = bank.estimates()
    bank._random.manual_seed(0)
    F.cross_entropy(model(x), y).backward()  # type: ignore[no-untyped-call]
    for group, estimate in bank.estimates().items():
        assert torch.allclose(found[group], estimate, rtol=1e-3, atol=1e-6)
    assert pruner.widths() == {"fc1": 12, "fc2": 8}
