"""Numbers that modules keep are followed to the operators that take sizes from them, by whatever name; coincidence counts for nothing."""

from __future__ import annotations

import copy
import functools
from pathlib import Path
from typing import NamedTuple

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils._pytree import tree_leaves, tree_map

import parsinet as pn
from architectures.handwritten import NanoGPT
from architectures.strangers import Checked, Configured, CrossStage, Generator
from networks import traced
from parsinet.structure.kept import numbers_marked
from parsinet.structure.numbers import Kept, Seen, Share


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


class _Named(NamedTuple):
    """Sizes under names, and what is no number."""

    heads: int = 3
    width: int = 12
    kind: tuple[str, ...] = ("plain",)


class _NamedSizes(Configured):
    """The same network with its configuration in a named tuple, which its layers hold too."""

    def __init__(self) -> None:
        super().__init__()
        self.cfg = self.out.sizes = _Named()


def test_numbers_in_named_tuples_follow(tmp_path: Path) -> None:
    x = torch.randn(2, 5, 6)
    model = shrunk(_NamedSizes(), x)
    assert model.cfg == _Named(2, 6)
    assert type(model.cfg) is _Named
    assert model.out.sizes == _Named(), "a tuple is the module's own"
    pn.save(model, tmp_path)
    loaded = pn.load(tmp_path, _NamedSizes)
    assert torch.equal(loaded(x), model(x))
    assert loaded.cfg == model.cfg
    assert type(loaded.cfg) is _Named


class _OfClass(nn.Module):
    """A number in the body of the class."""

    pieces = 5

    def __init__(self) -> None:
        super().__init__()
        self.lift, self.out = nn.Linear(6, 10), nn.Linear(5, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.lift(x).view(-1, self.pieces, 2).prod(-1))


def test_numbers_of_a_class_follow_as_the_modules_own(tmp_path: Path) -> None:
    x, model, other = torch.randn(4, 6), _OfClass(), _OfClass()
    assert pn.trace(model, x).removable()
    assert "pieces" not in vars(model)
    shrunk(model, x)
    assert (vars(model)["pieces"], _OfClass.pieces, other.pieces) == (4, 5, 5)
    pn.save(model, tmp_path)
    loaded = pn.load(tmp_path, _OfClass)
    assert loaded.pieces == 4
    assert torch.equal(loaded(x), model(x))


def test_numbers_of_torch_modules_without_a_layer_follow() -> None:
    model = shrunk(Generator(), torch.randn(2, 7), torch.randn(2, 4))
    assert model.body[1].unflattened_size == (5, 2, 2)
    assert model.norm.num_features == 4


@pytest.mark.parametrize(
    ("norm", "attribute"),
    [
        (nn.BatchNorm2d(8, affine=False, track_running_stats=False), "num_features"),
        (nn.InstanceNorm2d(8), "num_features"),
        (nn.GroupNorm(4, 8, affine=False), "num_channels"),
        (nn.GroupNorm(1, 8, affine=False), "num_channels"),
    ],
    ids=["batch", "instance", "groups", "one group"],
)
def test_norms_without_tensors_know_their_channels(norm: nn.Module, attribute: str, tmp_path: Path) -> None:
    def build() -> nn.Module:
        return nn.Sequential(nn.Conv2d(3, 8, 1), copy.deepcopy(norm), nn.ReLU(), nn.Conv2d(8, 2, 1))

    model, x = build(), torch.randn(2, 3, 4, 4)
    structure = pn.trace(model, x)
    group = structure.group("0")
    pn.shrink(model, structure.plan({"0": torch.arange(group.size) < group.size // 2}))
    assert getattr(model[1], attribute) == 4
    pn.save(model, tmp_path)
    assert getattr(pn.load(tmp_path, build)[1], attribute) == 4


def test_an_embedding_bag_knows_its_width() -> None:
    model, bags = nn.Sequential(nn.EmbeddingBag(9, 6, mode="sum"), nn.Linear(6, 3)), torch.randint(9, (3, 4))
    pn.shrink(model, pn.trace(model, bags).plan({"0": torch.arange(6) < 2}))
    assert model[0].embedding_dim == 2


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


def test_numbers_that_code_checks_sizes_against_follow() -> None:
    model = shrunk(Checked(), torch.randn(2, 3, 9, 9))
    assert (model.down.channels, model.down.after) == (5, 7)


def test_a_check_that_holds_by_chance_is_told() -> None:
    """`steps` equals the width; without a unit it would be one less, and the network another."""

    class Chance(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.steps = 5
            self.lift, self.out = nn.Linear(3, 5), nn.Linear(5, 2)

        def forward(self, x: Tensor) -> Tensor:
            x = self.lift(x)
            for _ in range(self.steps):
                x = torch.tanh(x) * (2.0 if x.shape[1] == self.steps else 1.0)
            return self.out(x)

    group = pn.trace(Chance(), torch.randn(2, 3)).group("lift")
    assert not group.exact
    assert group.reason == "removal changes more than silence does: a size enters the computation"


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


def test_sizes_read_off_tensors_are_numbers() -> None:
    size = Seen(12, 1, 2)
    assert (size, size // 5, size * 2) == (12, 2, 24)
    assert type(size // 5) is int
    assert {12: "found"}[size] == "found"
    share = size // Kept(3, "attn", "n_head")
    assert isinstance(share, Share)
    assert (int(share), share.whole, share.divisor) == (4, 12, 3)


def test_a_width_that_is_divided_among_heads_leaves_with_them() -> None:
    """nanoGPT: `C // self.n_head` is right only while the residual stream is as wide as all heads."""
    model, tokens = NanoGPT(), torch.randint(13, (2, 7))
    structure = pn.trace(model, tokens)
    pn.shrink(model, structure.plan({"transformer.heads": [True, False, True]}))
    attention = model.transformer.h[1].attn
    assert (attention.n_head, attention.n_embd, model.lm_head.in_features) == (2, 8, 8)
    structure = pn.trace(model, tokens)
    pn.shrink(model, structure.plan({"transformer.head_dim": [True, False, True, True]}))
    assert (attention.n_head, attention.n_embd, model.lm_head.in_features) == (2, 6, 6)
    assert model(tokens).shape == (2, 7, 13)


def test_a_division_that_is_not_followed_is_named() -> None:
    class Divided(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.n_head = 3
            self.lift, self.q, self.out, self.fc = nn.Linear(5, 12), nn.Linear(12, 12), nn.Linear(12, 12), nn.Linear(12, 8)
            self.head = nn.Linear(8, 2)

        def forward(self, x: Tensor) -> Tensor:
            x = self.lift(x)
            b, t, c = x.shape
            q = self.q(x).view(b, t, self.n_head, int(c / self.n_head)).transpose(1, 2)
            y = (q @ q.transpose(2, 3)).softmax(-1) @ q
            return self.head(torch.relu(self.fc(x + self.out(y.transpose(1, 2).flatten(2)))))

    structure = pn.trace(Divided(), torch.randn(2, 4, 5))
    assert "keep `int(c / self.n_head)` as an attribute of its own" in structure.group("lift").reason
    assert "test_kept.py:" in structure.group("lift").reason
    assert structure.group("fc").removable


OVER_CHANNELS = (
    nn.ConstantPad3d((0, 0, 0, 0, 1, 2), 0.0),
    nn.AdaptiveAvgPool3d((9, 4, 5)),
    nn.AdaptiveMaxPool3d((6, 4, 5)),
    nn.AvgPool3d((2, 1, 1)),
)


@pytest.mark.parametrize("layer", OVER_CHANNELS, ids=str)
def test_numbers_of_padding_and_pooling_count_no_units(layer: nn.Module) -> None:
    """Even over channels, where what they make is of fixed size: nothing is offered that does not run."""
    model = nn.Sequential(nn.Conv2d(3, 6, 1), nn.ReLU(), nn.Conv2d(6, 6, 1), layer, nn.LazyConv2d(4, 1), nn.ReLU(), nn.Conv2d(4, 2, 1))
    x = torch.randn(2, 3, 4, 5)
    model(x)
    offered = {group.name for group in pn.trace(model, x).removable()}
    assert {"0", "4"} <= offered
    assert ("2" in offered) == isinstance(layer, nn.ConstantPad3d)
    shrunk(model, x)


@pytest.mark.parametrize("name", ["configured", "perceiver", "state-space", pytest.param("nano-gpt", marks=pytest.mark.slow)])
def test_inputs_that_are_part_of_a_larger_tensor_serve_as_well(name: str) -> None:
    """`images[:2]`, which most example inputs are: torch looks at the whole of it before it runs the model."""
    model, inputs, structure = traced(name)
    larger = tree_map(lambda leaf: torch.cat([leaf, leaf])[: len(leaf)], inputs)
    assert any(leaf._is_view() for leaf in tree_leaves(larger))
    assert pn.trace(model, larger).groups == structure.groups


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


class NoisyLayer(nn.Module):
    """A layer of one's own that knows its widths for what forward does not do: new noise."""

    def __init__(self, before: int, after: int) -> None:
        super().__init__()
        self.in_features, self.out_features = before, after
        self.middle, self.spread = nn.Parameter(torch.randn(after, before)), nn.Parameter(torch.ones(after, before))
        self.bias = nn.Parameter(torch.zeros(after))
        self.register_buffer("noise", torch.randn(after, before))

    def renew(self) -> None:
        self.noise.copy_(torch.outer(torch.randn(self.out_features), torch.randn(self.in_features)))

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.middle + self.spread * self.noise if self.training else self.middle, self.bias)


def test_widths_of_layers_of_ones_own_follow_by_name() -> None:
    model = nn.Sequential(NoisyLayer(5, 12), nn.ReLU(), NoisyLayer(12, 3))
    structure = pn.trace(model, torch.randn(2, 5))
    pn.shrink(model, structure.plan({structure.removable()[0].name: torch.arange(12) < 7}))
    assert [(layer.in_features, layer.out_features) for layer in (model[0], model[2])] == [(5, 7), (7, 3)]
    for layer in (model[0], model[2]):
        layer.renew()
    assert model(torch.randn(2, 5)).shape == (2, 3)


def test_equal_numbers_that_are_no_widths_stay() -> None:
    """`out_features` of a module whose weights do not agree with it counts nothing."""
    model = nn.Sequential(NoisyLayer(5, 12), nn.ReLU(), NoisyLayer(12, 3))
    model[0].out_features = 13
    structure = pn.trace(model, torch.randn(2, 5))
    pn.shrink(model, structure.plan({structure.removable()[0].name: torch.arange(12) < 7}))
    assert model[0].out_features == 13


class _FunctionalNorm(nn.Module):
    """A norm of one's own around torch's function, as nanoGPT has it. how: where its shape comes from."""

    def __init__(self, units: int, how: str) -> None:
        super().__init__()
        self.how, self.dim = how, units
        self.weight, self.bias = nn.Parameter(torch.randn(units)), nn.Parameter(torch.zeros(units))

    def forward(self, x: Tensor) -> Tensor:
        shapes = {"weight": self.weight.shape, "attribute": (self.dim,), "input": x.shape[1:], "written": (8,)}
        return F.layer_norm(x, tuple(shapes[self.how]), self.weight, self.bias)


@pytest.mark.parametrize("how", ["weight", "attribute", "input"])
def test_norms_by_function_follow_their_weights(how: str) -> None:
    x = torch.randn(3, 5)
    model = nn.Sequential(nn.Linear(5, 8), _FunctionalNorm(8, how), nn.Linear(8, 2))
    structure = pn.trace(model, x)
    group = structure.group("0")
    assert (group.removable, group.exact) == (True, False)
    wanted = copy.deepcopy(model)
    pn.shrink(model, structure.plan({"0": torch.arange(8) < 3}))
    for layer, part in ((wanted[0], slice(None, 3)), (wanted[1], slice(None, 3))):
        layer.weight.data, layer.bias.data = layer.weight.data[part], layer.bias.data[part]
    wanted[2].weight.data, wanted[1].dim = wanted[2].weight.data[:, :3], 3
    assert torch.allclose(model(x), wanted(x), atol=1e-6)
    assert model[1].dim == (3 if how == "attribute" else 8)


def test_a_norm_with_its_shape_in_the_code_keeps_its_units_and_says_where() -> None:
    group = pn.trace(nn.Sequential(nn.Linear(5, 8), _FunctionalNorm(8, "written"), nn.Linear(8, 2)), torch.randn(3, 5)).group("0")
    assert not group.removable
    assert "test_kept.py" in group.reason
    assert "needs its present size" in group.reason


def test_groups_of_a_norm_by_function_follow_an_attribute() -> None:
    class Grouped(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.pieces = 4

        def forward(self, x: Tensor) -> Tensor:
            return F.group_norm(x, self.pieces)

    torch.manual_seed(0)
    model, x = nn.Sequential(nn.Linear(5, 8), Grouped(), nn.Linear(8, 2)), torch.randn(3, 5)
    structure = pn.trace(model, x)
    plan = structure.plan({"0": torch.tensor([True, False, True, True])})
    with pn.silence(model, plan):
        wanted = model(x)
    pn.shrink(model, plan)
    assert model[1].pieces == 3
    assert model[0].out_features == 6
    assert torch.allclose(model(x), wanted, atol=1e-6)
