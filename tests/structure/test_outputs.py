"""Entries of the output that may leave: those that stay are what they were, and where others enter their values that is said."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import parsinet as pn
from parsinet.baselines import MagnitudeUnits
from parsinet.errors import UsageError
from parsinet.methods import Gates, Pruner
from parsinet.methods.units import read_units
from parsinet.structure import fold_units
from parsinet.structure.proof import DIFFERS

EXACT = 1e-12
"""float64: the same sums over the same terms."""


class Net(nn.Module):
    """Two hidden layers and what `end` makes of six features and the layer before them."""

    def __init__(self, end: Callable[[Net, Tensor, Tensor], Any], width: int = 6) -> None:
        super().__init__()
        self.end = end
        self.lift, self.out, self.norm = nn.Linear(5, 9), nn.Linear(9, width), nn.LayerNorm(width)
        self.batch, self.more = nn.BatchNorm1d(width), nn.Linear(width, 4)

    def forward(self, x: Tensor) -> Any:
        hidden = torch.tanh(self.lift(x))
        return self.end(self, self.out(hidden), hidden)


End = Callable[[Net, Tensor, Tensor], Any]
SEPARATE: dict[str, tuple[End, dict[str, dict[int, int]]]] = {
    "features": (lambda net, y, h: y, {"out": {0: 1}}),
    "each bent": (lambda net, y, h: torch.sigmoid(y) * 2, {"out": {0: 1}}),
    "batch norm": (lambda net, y, h: net.batch(y), {"out": {0: 1}}),
    "transposed": (lambda net, y, h: y.t(), {"out": {0: 0}}),
    "several": (
        lambda net, y, h: {"b": (net.more(y), y), "a": [x.cos() for x in (h, y)]},
        {"lift": {2: 1}, "out": {1: 1, 3: 1}, "more": {0: 1}},
    ),
    "twice": (lambda net, y, h: (y, None, 3, y), {"out": {0: 1, 1: 1}}),
}
"""What is returned, and per group along which dimension of which of the tensors returned its units are entries."""
TOGETHER: dict[str, tuple[End, str]] = {
    "softmax": (lambda net, y, h: y.softmax(1), "`softmax` at"),
    "log_softmax": (lambda net, y, h: F.log_softmax(y, -1), "`log_softmax` at"),
    "normalize": (lambda net, y, h: F.normalize(y, dim=1), "`linalg_vector_norm` at"),
    "layer norm": (lambda net, y, h: net.norm(y), "normalises over it"),
    "mean": (lambda net, y, h: y - y.mean(1, keepdim=True), "`mean` at"),
    "a size": (lambda net, y, h: y * y.shape[1], DIFFERS),
}
"""What makes every entry depend on the others, and what the reason speaks of."""


def built(end: End, width: int = 6) -> tuple[Net, Tensor]:
    torch.manual_seed(0)
    return Net(end, width).double().eval(), torch.randn(4, 5, dtype=torch.float64)


def outputs(model: nn.Module, x: Tensor) -> list[Tensor]:
    return [leaf for leaf in torch.utils._pytree.tree_leaves(model(x)) if isinstance(leaf, Tensor)]


@pytest.mark.parametrize(("end", "where"), SEPARATE.values(), ids=SEPARATE)
def test_entries_that_stay_are_what_they_were(end: End, where: dict[str, dict[int, int]]) -> None:
    model, x = built(end)
    structure = pn.trace(model, x, removable_outputs=True)
    assert set(structure.outputs()) == set(where)
    for name, dims in where.items():
        group, small = structure.group(name), copy.deepcopy(model)
        assert (group.removable, group.exact, group.reason) == (True, True, "")
        stay = torch.tensor([unit for unit in range(group.size) if unit % 3 != 1])
        plan = structure.plan({name: torch.arange(group.size) % 3 != 1})
        pn.shrink(small, plan)
        with pn.silence(model, plan):
            whole = outputs(model, x)
        for number, (now, before) in enumerate(zip(outputs(small, x), whole, strict=True)):
            expected = before.index_select(dims[number], stay) if number in dims else before
            assert now.shape == expected.shape
            assert (now - expected).abs().max() < EXACT


def test_entries_of_several_groups_in_one_row() -> None:
    model, x = built(lambda net, y, h: torch.cat([y, h], 1))
    structure, whole = pn.trace(model, x, removable_outputs=True), model(x)
    assert all(group.removable and group.exact for group in structure.groups)
    pn.shrink(model, structure.plan({"out": torch.arange(6) > 1}))
    assert (model(x) - whole[:, 2:]).abs().max() < EXACT


@pytest.mark.parametrize(("end", "reason"), TOGETHER.values(), ids=TOGETHER)
def test_entries_that_depend_on_each_other_leave_but_not_exactly(end: End, reason: str) -> None:
    model, x = built(end)
    group = pn.trace(model, x, removable_outputs=True).group("out")
    assert group.removable
    assert not group.exact
    assert reason in group.reason
    whole = model(x)
    pn.shrink(model, pn.trace(model, x, removable_outputs=True).plan({"out": torch.arange(6) != 2}))
    assert model(x).shape == (4, 5)
    assert not torch.allclose(model(x), whole[:, [0, 1, 3, 4, 5]])


def test_softmax_over_the_classes_that_stay_sums_to_one() -> None:
    model, x = built(lambda net, y, h: y.softmax(1))
    pn.shrink(model, pn.trace(model, x, removable_outputs=True).plan({"out": torch.arange(6) < 4}))
    assert torch.allclose(model(x).sum(1), torch.ones(4, dtype=torch.float64))


STAYS: dict[str, tuple[End, str]] = {
    "order": (lambda net, y, h: y.flip(1), "changes the order of its indices"),
    "cut": (lambda net, y, h: y[:, :3], "changes its shape without some of its units"),
    "an index": (lambda net, y, h: (y, y.argmax(1)), "returns an index into it"),
    "a size in the code": (lambda net, y, h: y.view(-1, 6), "needs its present size"),
}


@pytest.mark.parametrize(("end", "reason"), STAYS.values(), ids=STAYS)
def test_what_the_trial_cannot_follow_stays_although_it_is_asked_for(end: End, reason: str) -> None:
    group = pn.trace(*built(end), removable_outputs=True).group("out")
    assert not group.removable
    assert reason in group.reason


def test_the_trial_objects_to_a_rule_that_leaves_entries_in_the_wrong_places() -> None:
    """Shapes agree: only values tell."""
    model, x = built(lambda net, y, h: y.roll(1, 1))
    group = pn.trace(model, x, removable_outputs=True, rules={"aten::roll": lambda ctx, x, *_: x}).group("out")
    assert not group.exact
    assert group.reason == DIFFERS


def test_large_outputs_and_a_second_removal() -> None:
    """Most of many units leave before the trials; the structure after a removal knows the entries that are left."""
    model, x = built(lambda net, y, h: y, 150)
    structure = pn.trace(model, x, removable_outputs=True)
    assert structure.group("out").exact
    whole, left = model(x), torch.arange(150)
    for divisor in (3, 4):
        mask = torch.arange(len(left)) % divisor != 1
        plan = structure.plan({"out": mask})
        assert plan.returned == {(0, 1): tuple(mask.tolist())}
        pn.shrink(model, plan)
        structure, left = structure.after(plan), left[mask]
    assert (model(x) - whole[:, left]).abs().max() < EXACT


def test_without_the_flag_nothing_of_it_is_known() -> None:
    structure = pn.trace(*built(lambda net, y, h: y))
    assert structure.outputs() == []
    assert structure.plan({"lift": torch.arange(9) > 2}).returned == {}


class Auxiliary(nn.Module):
    """A second head in training, on its own or instead of the first."""

    def __init__(self, *, alone: bool) -> None:
        super().__init__()
        self.lift, self.head, self.side, self.alone = nn.Linear(5, 9), nn.Linear(9, 6), nn.Linear(9, 7), alone

    def forward(self, x: Tensor) -> Any:
        hidden = torch.relu(self.lift(x))
        if not self.training:
            return self.head(hidden)
        return (self.side(hidden), self.head(hidden)) if self.alone else (self.head(hidden), self.side(hidden))


def test_training_returns_fewer_entries_too() -> None:
    structure = pn.trace(Auxiliary(alone=False), torch.randn(4, 5), removable_outputs=True)
    assert [(group.name, group.removable) for group in structure.groups] == [("lift", True), ("head", True), ("side", True)]


def test_where_training_returns_others_first_the_output_stays() -> None:
    structure = pn.trace(Auxiliary(alone=True), torch.randn(4, 5), removable_outputs=True)
    assert not structure.group("head").removable
    assert "changes its shape" in structure.group("head").reason
    assert structure.group("lift").removable


def test_units_that_are_returned_are_read_by_more_than_weights() -> None:
    model, x = built(lambda net, y, h: (h, y))
    structure = pn.trace(model, x, removable_outputs=True)
    assert structure.group("lift").exact
    assert not structure.gateable("lift")
    assert not structure.weighers("lift")
    assert "lift" not in read_units(structure, {"out.weight": torch.zeros(6, 9, dtype=torch.bool)})


def test_a_fold_holds_against_the_entries_that_stay() -> None:
    model, x = built(lambda net, y, h: y)
    structure = pn.trace(model, x, removable_outputs=True)
    plan = structure.plan({"out": torch.arange(6) > 1, "lift": torch.arange(9) != 4})
    with torch.no_grad():
        model.lift.weight[4] = 0
    whole = model(x)
    pn.shrink(model, plan, fold=fold_units(model, plan, "constant", x))
    assert (model(x) - whole[:, 2:]).abs().max() < EXACT


def test_residual_branches_and_outputs_leave_together() -> None:
    model, x = built(lambda net, y, h: h + net.out(torch.relu(h)), 9)
    structure = pn.trace(model, x, removable_outputs=True, blocks=True)
    assert [block.removable for block in structure.blocks] == [True]
    assert structure.group("lift").removable
    plan = structure.plan({structure.blocks[0].name: torch.tensor([False]), "lift": torch.arange(9) % 2 == 0})
    expected = torch.tanh(model.lift(x))[:, ::2]
    pn.shrink(model, plan)
    assert (model(x) - expected).abs().max() < EXACT


def net() -> nn.Sequential:
    return nn.Sequential(nn.Linear(5, 9), nn.ReLU(), nn.Linear(9, 6))


def test_a_ranking_chooses_among_outputs_and_the_loop_is_told_which(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model, x, y = net(), torch.randn(16, 5), torch.randn(16, 6)
    method = MagnitudeUnits(share=0.5, groups=["2"])
    optimizer = torch.optim.Adam(method.param_groups(model), lr=1e-2)
    pruner = Pruner(model, optimizer, method, x, steps=20, removable_outputs=True)
    for _ in range(20):
        loss = (model(x) - y[:, pruner.units("2")]).square().mean()
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        pruner.step()
    lean = pruner.finish()
    assert lean(x).shape == (16, 3)
    assert pruner.widths() == {"0": 9, "2": 3}
    pn.save(lean, tmp_path / "lean")
    assert torch.equal(pn.load(tmp_path / "lean", net)(x), lean(x))


def test_gates_leave_outputs_alone_and_say_why() -> None:
    model, other, x = net(), net(), torch.randn(16, 5)
    pruner = Pruner(model, torch.optim.SGD(model.parameters(), lr=0.1), Gates(), x, removable_outputs=True)
    assert set(pruner.describe()["groups"]) == {"0"}
    with pytest.raises(UsageError, match="group '2' cannot be gated: whoever calls the model reads it, where no gate can stand"):
        Pruner(other, torch.optim.SGD(other.parameters(), lr=0.1), Gates(groups=["2"]), x, removable_outputs=True)


def test_classes_that_a_configuration_names_stay() -> None:
    """Else `id2label` would give entries others' names."""
    transformers = pytest.importorskip("transformers")
    sizes = {"vocab_size": 20, "n_embd": 8, "n_layer": 1, "n_head": 2, "num_labels": 5, "pad_token_id": 0}
    model = transformers.GPT2ForSequenceClassification(transformers.GPT2Config(**sizes)).eval()
    structure = pn.trace(model, {"input_ids": torch.randint(1, 20, (2, 6))}, removable_outputs=True)
    group = next(group for group in structure.groups if group.size == 5)
    assert not group.removable
    assert group.reason.startswith("the configuration names what the network returns (`id2label`)")
