"""Parts of forward under `no_grad` and `autocast` are traced like the rest, without taking the network apart."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

import parsinet as pn
from parsinet.structure.export import export


class Wrapped(nn.Module):
    """Inner graphs within each other, under other precision, empty, and as what the network returns."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(4, 6), nn.Linear(6, 3)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        with torch.no_grad():
            mean = x.mean(0, keepdim=True)
            with torch.enable_grad():
                mean = mean * 2
        with torch.autocast("cpu", enabled=False):
            hidden = self.first(x - mean).relu()
        with torch.no_grad():
            pass
        with torch.no_grad():
            size = hidden.sum(1, keepdim=True)
            twice = size * 2
        return self.last(hidden) * size, twice


@pytest.fixture
def whole(monkeypatch: pytest.MonkeyPatch) -> None:
    """Within, a network that is taken apart is a failure."""

    def apart(*_: object, **__: object) -> None:
        raise AssertionError("the network is taken apart")

    monkeypatch.setattr(torch.export.ExportedProgram, "run_decompositions", apart)


@pytest.mark.usefixtures("whole")
def test_inner_graphs_are_put_in_line() -> None:
    exported = export(Wrapped().eval(), torch.randn(2, 4))
    exported.graph.lint()
    assert all(node.op in ("placeholder", "call_function", "output") for node in exported.graph.nodes)
    assert not any("wrap" in str(node.target) for node in exported.graph.nodes)
    (returned,) = [node.args[0] for node in exported.graph.nodes if node.op == "output"]
    assert exported.results == tuple(node.name for node in returned)


@pytest.mark.usefixtures("whole")
def test_units_leave_through_inner_graphs() -> None:
    model, x = Wrapped().double(), torch.randn(5, 4, dtype=torch.float64)
    structure = pn.trace(model, x)
    assert structure.group("first").exact
    plan = structure.plan({"first": torch.arange(6) % 3 != 1})
    smaller = copy.deepcopy(model)
    pn.shrink(smaller, plan)
    with pn.silence(model, plan):
        wanted = model(x)
    for found, value in zip(smaller(x), wanted, strict=True):
        assert torch.allclose(found, value, atol=1e-12)
    assert smaller.first.out_features == 4


@pytest.mark.usefixtures("whole")
@pytest.mark.parametrize(("dim", "removable"), [(1, True), (2, False)])
def test_differences_and_masks_keep_units_only_along_their_axis(dim: int, removable: bool) -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.last = nn.Linear(4, 6), nn.LazyLinear(3)

        def forward(self, x: Tensor) -> Tensor:
            y = self.first(x)
            steps = torch.diff(y, dim=dim, prepend=y[:, :1] if removable else None)
            return self.last(steps * ((steps > -1) & (steps < 0) | (steps > 1)))  # type: ignore[no-any-return]

    model, x = Net().double(), torch.randn(2, 5, 4, dtype=torch.float64)
    model(x)
    structure = pn.trace(model, x)
    group = structure.group("first")
    assert group.removable is removable, group.reason
    if removable:
        plan = structure.plan({"first": torch.arange(6) < 4})
        with pn.silence(model, plan):
            wanted = model(x)
        pn.shrink(model, plan)
        assert torch.allclose(model(x), wanted, atol=1e-12)
    else:
        assert "subtracts neighbours" in group.reason


@pytest.mark.usefixtures("whole")
def test_a_number_that_is_checked_hides_no_layer() -> None:
    """Taking a network apart drops what it computes and does not use; without that layer's weights such a removal fails."""

    class Checked(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.aside, self.last = nn.Linear(4, 6), nn.LayerNorm(6), nn.Linear(6, 3)

        def forward(self, x: Tensor) -> Tensor:
            hidden = self.first(x).relu()
            self.aside(hidden)
            torch._check((x < 99).all().item())  # type: ignore[arg-type]
            return self.last(hidden)  # type: ignore[no-any-return]

    model = Checked()
    group = pn.trace(model, torch.randn(2, 4)).group("first")
    assert group.removable
    assert "aside.weight" in group.parameters
