"""Numbers that modules keep are followed to the operators that take sizes from them, by whatever name; coincidence counts for nothing."""

from __future__ import annotations

import copy
import functools
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import parsinet as pn
from architectures.strangers import Configured, CrossStage, Generator
from parsinet.structure.kept import numbers_marked
from parsinet.structure.numbers import Kept


def shrunk(model: nn.Module, *inputs: Tensor) -> nn.Module:
    """The second unit of every removable group leaves."""
    structure = pn.trace(model, inputs)
    pn.shrink(model, structure.plan({group.name: torch.arange(group.size) != 1 for group in structure.removable()}))
    model(*inputs)
    return model


def test_numbers_in_containers_and_configurations_follow(tmp_path: Path) -> None:
    x = torch.randn(2, 5, 6)
    model, twin = Configured(), Configured()
    twin.cfg = model.cfg
    shrunk(model, x)
    assert (model.cfg.heads, model.cfg.width) == (2, 6)
    assert (model.grid, model.ways, model.options) == ((3, 4), [5], {"pieces": 4, "mode": 1})
    assert (twin.cfg.heads, twin.cfg.width) == (3, 12), "the object may belong to another model"
    pn.save(model, tmp_path)
    loaded = pn.load(tmp_path, Configured)
    assert torch.equal(loaded(x), model(x))
    assert (loaded.cfg, loaded.grid, loaded.ways, loaded.options) == (model.cfg, model.grid, model.ways, model.options)


def test_numbers_of_torch_modules_without_a_layer_follow() -> None:
    model = shrunk(Generator(), torch.randn(2, 7), torch.randn(2, 4))
    assert model.body[1].unflattened_size == (5, 2, 2)
    assert model.norm.num_features == 4


def test_the_width_of_a_whole_transformer_follows() -> None:
    """`nn.Transformer` compares its inputs' width with `d_model`."""

    class Whole(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.lift, self.out = nn.Linear(3, 8), nn.Linear(8, 2)
            self.body = nn.Transformer(8, 2, 1, 1, 6, batch_first=True)

        def forward(self, x: Tensor, y: Tensor) -> Tensor:
            return self.out(self.body(self.lift(x), self.lift(y)))

    model = Whole()
    structure = pn.trace(model, (torch.randn(2, 5, 3), torch.randn(2, 4, 3)))
    assert (structure.group("lift").removable, structure.group("lift").exact) == (True, False)
    pn.shrink(model, structure.plan({"lift": torch.arange(8) != 1}))
    assert model.body.d_model == 7


def test_a_number_is_counted_where_it_is_used_only() -> None:
    """`depth` equals the number of capsules and is used for something else."""

    class Coincidence(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.depth, self.capsules = 4, 4
            self.lift, self.out = nn.Linear(3, 12), nn.Linear(4, 2)

        def forward(self, x: Tensor) -> Tensor:
            y = self.lift(x).view(-1, self.capsules, 3).sum(-1)
            for _ in range(self.depth):
                y = torch.tanh(y)
            return self.out(y)

    model = shrunk(Coincidence(), torch.randn(2, 3))
    assert (model.capsules, model.depth) == (3, 4)


def test_a_number_with_two_uses_ties_them() -> None:
    """Both halves of YOLO's split have the width `c`: the units leave in pairs."""
    structure = pn.trace(CrossStage(), torch.randn(2, 3, 5, 6))
    assert structure.group("cv1").size == 4
    assert structure.group("cv1").removable


def test_a_number_that_also_sizes_something_fixed_keeps_the_units() -> None:
    class Both(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.n = 4
            self.lift, self.out = nn.Linear(3, 12), nn.Linear(4, 2)

        def forward(self, x: Tensor) -> Tensor:
            y = self.lift(x.view(-1, self.n, 3).mean(1)).view(-1, self.n, 3)
            return self.out(y.sum(-1))

    group = pn.trace(Both(), torch.randn(2, 12)).group("lift")
    assert not group.removable
    assert "self.n" in group.reason


def test_a_model_is_as_it_was_after_a_trace() -> None:
    model = Configured()
    before = copy.deepcopy(vars(model.cfg)), model.grid, list(model.ways), dict(model.options)
    with numbers_marked(model):
        assert isinstance(model.grid[0], Kept)
        assert isinstance(model.cfg.heads, Kept)
    pn.trace(model, torch.randn(2, 5, 6))
    assert (vars(model.cfg), model.grid, model.ways, model.options) == before
    assert all(type(number) is int for number in (*model.grid, *model.ways, *vars(model.cfg).values()))


def test_kept_numbers_are_numbers() -> None:
    number = Kept(6, "block", "heads")
    assert (number, number + 1, number // 4, number / 4) == (6, 7, 1, 1.5)
    assert type(number + 1) is int
    double = 2 * number
    assert isinstance(double, Kept)
    assert (int(double), double.factor, double.attribute) == (12, 2, "heads")
    assert [0] * Kept(2, "", "n") == [0, 0]
    assert type(copy.deepcopy(number)) is Kept


def test_results_kept_for_one_place_are_not_taken_for_another() -> None:
    @functools.cache
    def shape(heads: int) -> tuple[int, int]:
        return heads, 4

    assert shape(Kept(3, "a", "heads"))[0].module == "a"
    assert shape(Kept(3, "b", "heads"))[0].module == "b"
    assert type(shape(3)[0]) is int


@pytest.mark.parametrize("kind", [Configured])
def test_the_check_would_see_numbers_that_do_not_follow(kind: type[nn.Module], monkeypatch: pytest.MonkeyPatch) -> None:
    """Planted fault: no number is marked; nothing that a view splits is offered any more."""
    monkeypatch.setattr("parsinet.structure.kept._mark", lambda value, path, name: value)
    monkeypatch.setattr("parsinet.structure.kept._is_configuration", lambda value: False)
    structure = pn.trace(kind(), torch.randn(2, 5, 6))
    assert {"qkv.heads", "spread", "proj"}.isdisjoint(group.name for group in structure.removable())
