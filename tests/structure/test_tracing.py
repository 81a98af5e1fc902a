"""Bookkeeping of a trace: first occurrences, names of makers, products in one go against one by one, the garbage collector's state."""

from __future__ import annotations

import gc
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.utils import prune

import parsinet as pn
from parsinet.errors import StructureError, UsageError
from parsinet.structure.axes import NONE, Axis, labelled
from parsinet.structure.labels import Labels
from parsinet.structure.tracing import Tracing, earliest


@pytest.mark.parametrize("stride", [-2, -1, 1, 2])
def test_earliest_is_the_first_place_for_any_memory_layout(stride: int) -> None:
    labels = np.random.default_rng(0).integers(0, 50, 400)[::stride]
    listed = labels.tolist()
    expected = [listed.index(label) if label in listed else len(listed) for label in range(60)]
    assert earliest(labels, 60).tolist() == expected


def test_units_keep_their_first_moment_and_their_first_name() -> None:
    tracing = Tracing(nn.Identity())
    rows = tracing.labels.fresh(6)
    for part, name in ((rows[4:], ""), (rows[:3], "a"), (rows[2:], "b"), (rows, "c")):
        tracing.produce(labelled(part[None]), name)
    raw, given, names = tracing.made()
    assert raw.tolist() == [4, 5, 0, 1, 2, 3]
    assert [names[number] for number in given] == ["b", "b", "a", "a", "a", "b"]


def test_products_bound_in_one_go_equal_those_bound_one_by_one() -> None:
    def split(hurdle: bool) -> list[list[int]]:
        labels = Labels()
        axis = labelled(labels.fresh(12)[None])
        if hurdle:  # a frozen label elsewhere in the row sends every index down the slow path
            labels.freeze(Axis(1, axis.rows[:, :1]), "for the test")
        labels.split(axis, (3, 4), "here")
        resolved: list[list[int]] = labels.resolve(axis).tolist()
        return resolved

    assert split(False) == split(True)
    assert len(split(False)) == 2


def test_no_label_is_its_own_class_and_stays_so() -> None:
    labels = Labels()
    rows = labels.fresh(3000)
    labels.unify(labelled(rows[None, :3]), labelled(rows[None, 2997:]), "here")
    assert labels.find(np.array([NONE, 2997, NONE])).tolist() == [NONE, 0, NONE]


@pytest.mark.parametrize("enabled", [True, False])
def test_the_garbage_collector_is_left_as_it_was(enabled: bool) -> None:
    was = gc.isenabled()
    (gc.enable if enabled else gc.disable)()
    try:
        pn.trace(nn.Linear(2, 3), torch.randn(1, 2))
        assert gc.isenabled() is enabled
        with pytest.raises(StructureError):
            pn.trace(nn.Linear(2, 3), torch.randn(1, 5))
        assert gc.isenabled() is enabled
    finally:
        (gc.enable if was else gc.disable)()


class _Positions(nn.Module):
    """Adds numbers to six units. kind: how it keeps them."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(4, 6), nn.Linear(6, 3)
        if kind == "attribute":
            self.positions = torch.linspace(-1, 1, 6)
        elif kind == "buffer":
            self.register_buffer("positions", torch.linspace(-1, 1, 6), persistent=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        added = self.positions if hasattr(self, "positions") else torch.linspace(-1, 1, 6)
        return self.last((self.first(x) + added).relu())  # type: ignore[no-any-return]


def test_a_tensor_that_is_no_buffer_is_named_where_it_keeps_units() -> None:
    found = {kind: pn.trace(_Positions(kind), torch.randn(2, 4)).group("first") for kind in ("attribute", "buffer", "made")}
    assert found["buffer"].removable
    assert found["attribute"].reason == "meets 'positions', a tensor that is no buffer"
    assert found["made"].reason.startswith("meets an axis of fixed size at `add`")


class _Listed(nn.Module):
    """Layers in a plain list, or in a dict."""

    def __init__(self, kind: type) -> None:
        super().__init__()
        layers = [nn.Linear(6, 6), nn.Linear(6, 3)]
        self.first, self.rest = nn.Linear(4, 6), layers if kind is list else dict(enumerate(layers))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.first(x)
        for key in range(2):
            x = self.rest[key](x.relu())
        return x


@pytest.mark.parametrize("kind", [list, dict])
def test_layers_in_a_plain_list_are_named_where_they_keep_units(kind: type) -> None:
    assert pn.trace(_Listed(kind), torch.randn(2, 4)).group("first").reason == "meets 'rest.0.weight', a weight in a plain list or dict"


class _Split(nn.Module):
    """Twelve units split in three times four; of the three the first is picked, the four meet the raw input or a layer."""

    def __init__(self, *, fixed: bool) -> None:
        super().__init__()
        self.first, self.beside, self.last = nn.Linear(8, 12), nn.Linear(8, 4), nn.Linear(4, 2)
        self.fixed = fixed

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        h = self.first(x).view(len(x), 3, -1)[:, 0]
        return self.last(h + (x[:, :4] if self.fixed else self.beside(x)))  # type: ignore[no-any-return]


def test_a_layer_all_of_whose_factors_stay_is_told_with_its_reasons() -> None:
    groups = pn.trace(_Split(fixed=True), torch.randn(2, 8)).groups
    first = [group for group in groups if group.name.startswith("first")]
    assert [(group.size, group.removable) for group in first] == [(3, False), (4, False)]
    assert "picks an index by its position" in first[0].reason
    assert "meets an axis of fixed size" in first[1].reason


def test_the_fixed_half_of_a_product_is_no_group_of_its_own() -> None:
    groups = pn.trace(_Split(fixed=False), torch.randn(2, 8)).groups
    assert [(group.name, group.size) for group in groups if group.removable] == [("first", 4)]
    assert all(group.size != 3 for group in groups)


@dataclass
class _Result:
    logits: torch.Tensor


class _Returning(nn.Linear):
    def forward(self, x: torch.Tensor) -> _Result:  # type: ignore[override]
        return _Result(super().forward(x))


def test_what_torch_does_not_know_is_refused_with_what_to_do() -> None:
    x = torch.randn(2, 4)
    with pytest.raises(StructureError, match=r"torch\.export\.register_dataclass"):
        pn.trace(_Returning(4, 3), x)
    lazy = nn.Sequential(nn.LazyLinear(6), nn.ReLU(), nn.LazyLinear(3))
    with pytest.raises(StructureError, match=r"call model\(example_inputs\) once before"):
        pn.trace(lazy, x)
    with pytest.raises(UsageError, match=r"call model\(example_inputs\) once before"):
        pn.methods.Gates(price=1e-3).param_groups(lazy)


class _Acting(nn.Linear):
    def forward(self, x: torch.Tensor) -> torch.distributions.Categorical:  # type: ignore[override]
        return torch.distributions.Categorical(logits=super().forward(x))


def test_distributions_and_locks_are_refused_with_what_to_do() -> None:
    x, locked = torch.randn(2, 4), nn.Sequential(nn.Linear(4, 3))
    with pytest.raises(StructureError, match="return the tensors they are made of"):
        pn.trace(_Acting(4, 3), x)
    locked[0].lock = threading.Lock()
    with pytest.raises(StructureError, match=r"Keep 0\.lock outside of the module"):
        pn.trace(locked, x)


def test_what_torch_has_pruned_is_refused_with_what_to_do() -> None:
    model, x = nn.Sequential(nn.Linear(6, 16), nn.ReLU(), nn.Linear(16, 2)), torch.randn(2, 6)
    prune.l1_unstructured(model[2], "weight", 0.3)
    with pytest.raises(StructureError, match=r'torch\.nn\.utils\.prune\.remove\(module, name\), here of "2", "weight"'):
        pn.trace(model, x)
    prune.remove(model[2], "weight")
    assert pn.trace(model, x).group("0").removable


class _Force(nn.Module):
    """The gradient of an energy: forward differentiates."""

    def __init__(self, way: str) -> None:
        super().__init__()
        self.way, self.energy = way, nn.Sequential(nn.Linear(6, 16), nn.Tanh(), nn.Linear(16, 1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.way == "func":
            return torch.func.grad(lambda x: self.energy(x).sum())(x)  # type: ignore[no-any-return]
        x = x.detach().requires_grad_()
        return torch.autograd.grad(self.energy(x).sum(), x, create_graph=True)[0]


@pytest.mark.parametrize("way", ["func", "autograd"])
def test_a_forward_that_differentiates_is_refused_with_what_to_do(way: str) -> None:
    model, x = _Force(way), torch.randn(2, 6)
    with pytest.raises(
        StructureError, match=r"Where forward takes gradients itself .* put what is differentiated into a module of its own"
    ):
        pn.trace(model, x)
    before = model(x)
    pn.shrink(model.energy, pn.trace(model.energy, x).plan({"0": torch.arange(16) != 3}))
    assert model(x).shape == before.shape


def test_a_tile_of_fewer_numbers_than_axes_repeats_the_last() -> None:
    class Tiled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.last = nn.Linear(4, 5), nn.Linear(15, 3)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.last(self.first(x).tile(3))  # type: ignore[no-any-return]

    model, x = Tiled().double(), torch.randn(2, 4, dtype=torch.float64)
    structure = pn.trace(model, x)
    plan = structure.plan({"first": torch.arange(5) != 2})
    with pn.silence(model, plan):
        wanted = model(x)
    pn.shrink(model, plan)
    assert torch.allclose(model(x), wanted, atol=1e-12)
    assert model.last.in_features == 12


@pytest.mark.parametrize("mask", ["rows", "of one position", "entries"])
def test_what_is_put_among_rows_by_a_mask_has_their_units(mask: str) -> None:
    class Pictures(nn.Module):
        """Embeddings of a text, some of them replaced by those of a picture, as in LLaVA."""

        def __init__(self) -> None:
            super().__init__()
            self.words, self.picture, self.last = nn.Embedding(7, 6), nn.Linear(4, 6), nn.Linear(6, 3)

        def forward(self, x: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
            words, seen = self.words(tokens), self.picture(x)
            held = (tokens == 0).unsqueeze(-1)
            if mask == "rows":
                held = held.expand_as(words)
            elif mask == "entries":
                held = held & (words == words)
            return self.last(words.masked_scatter(held, seen))  # type: ignore[no-any-return]

    model, inputs = Pictures().double(), (torch.randn(2, 2, 4, dtype=torch.float64), torch.tensor([[0, 3, 0], [0, 0, 2]]))
    structure = pn.trace(model, inputs)
    group = structure.group("picture" if mask == "entries" else "words")
    assert group.removable is (mask != "entries"), group.reason
    if mask == "entries":
        assert "fills places in their order" in group.reason
        return
    assert group.exact
    assert {"words.weight", "picture.weight", "last.weight"} <= set(group.parameters)
    plan = structure.plan({group.name: torch.arange(6) % 4 != 1})
    with pn.silence(model, plan):
        wanted = model(*inputs)
    pn.shrink(model, plan)
    assert torch.allclose(model(*inputs), wanted, atol=1e-12)
    assert model.picture.out_features == 4


@pytest.mark.parametrize(
    ("lookup", "removable"),
    [
        (lambda y: y * torch.bucketize(y, torch.linspace(-1, 1, 4)), True),
        (lambda y: y * torch.searchsorted(torch.linspace(-1, 1, 4), y), True),
        (lambda y: y * torch.searchsorted(y.sort().values, y), False),
        (lambda y: y - y.kthvalue(2, 1).values[:, None, :] + y.mode(1).values[:, None, :] * y.nanmedian(1).values[:, None, :], True),
        (lambda y: y.logcumsumexp(1) + y.cummin(1).values, True),
        (lambda y: y.logcumsumexp(2), False),
        (lambda y: y @ torch.linalg.inv(y.mT @ y + torch.eye(6)), False),
    ],
)
def test_lookups_sums_and_matrices_keep_units_only_where_they_run_over_them(lookup: Callable[..., Any], removable: bool) -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.last = nn.Linear(4, 6), nn.Linear(6, 3)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.last(lookup(self.first(x)))  # type: ignore[no-any-return]

    group = pn.trace(Net(), torch.randn(2, 5, 4)).group("first")
    assert group.removable is removable, group.reason
    assert group.exact


@pytest.mark.parametrize(
    "between",
    [
        lambda y: y - y.quantile(0.5, dim=-1, keepdim=True),
        lambda y: y * torch.quantile(y.flatten(2), torch.tensor([0.1], dtype=y.dtype), dim=2).permute(1, 2, 0)[..., None],
        lambda y: y * y.argmax(-1, keepdim=True),
        lambda y: y.take_along_dim(y.argmax(-1, keepdim=True), dim=-1),
        lambda y: y.diagonal(dim1=2, dim2=3).unsqueeze(-1),
        lambda y: torch.einsum("bchh->bc", y)[:, :, None, None],
        lambda y: torch.einsum("bchh,bchh->bch", y, y).unsqueeze(-1),
        lambda y: torch.hsplit(y.transpose(1, 2), 2)[0].transpose(1, 2),
        lambda y: torch.dsplit(y, [1, 3])[1],
        lambda y: torch.vsplit(y.transpose(0, 3), 3)[1].transpose(0, 3),
    ],
    ids=["quantile", "quantiles", "argmax", "take_along_dim", "diagonal", "trace", "diagonals", "hsplit", "dsplit", "vsplit"],
)
def test_operators_on_positions_let_channels_leave(between: Callable[..., Any]) -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.last = nn.Conv2d(2, 7, 3, padding=1), nn.Conv2d(7, 3, 1)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.last(between(self.first(x))).mean((2, 3))

    model, x = Net().double(), torch.randn(3, 2, 6, 6, dtype=torch.float64)
    structure = pn.trace(model, x)
    plan = structure.plan({"first": torch.arange(7) % 3 != 1})
    with pn.silence(model, plan):
        wanted = model(x)
    pn.shrink(model, plan)
    assert model.first.out_channels == 5
    assert torch.allclose(model(x), wanted, atol=1e-12)


def test_both_axes_of_a_diagonal_stay() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.last = nn.Linear(4, 6), nn.Linear(6, 3)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            y = self.first(x)
            return self.last(y) * torch.einsum("bcc->b", y)[:, None, None] + y.diagonal(dim1=1, dim2=2).sum()

    group = pn.trace(Net(), torch.randn(2, 6, 4)).group("first")
    assert not group.removable
    assert "depends on the order of its indices" in group.reason


@pytest.mark.parametrize("dimensions", [2, 3])
def test_channels_leave_through_pooling_of_drawn_windows(dimensions: int) -> None:
    conv, pool = (nn.Conv2d, nn.FractionalMaxPool2d) if dimensions == 2 else (nn.Conv3d, nn.FractionalMaxPool3d)
    model = nn.Sequential(conv(2, 6, 1), pool(2, output_size=3), conv(6, 3, 1))
    x = torch.randn(2, 2, *[7] * dimensions)
    structure = pn.trace(model, x)
    pn.shrink(model, structure.plan({"0": torch.arange(6) < 4}))
    assert model(x).shape == (2, 3, *[3] * dimensions)


class Recording(nn.Module):
    """Keeps what its layer makes, by a hook that its first pass puts there, as transformers does where hidden states are asked for."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(4, 6), nn.Linear(6, 3)
        self.seen: list[torch.Tensor] = []

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if not hasattr(self, "hooked"):
            self.first.register_forward_hook(lambda _module, _args, output: self.seen.append(output))
            self.hooked = True
        self.seen.clear()
        self.first(x)
        (made,) = self.seen
        return self.last(made.relu())  # type: ignore[no-any-return]


def test_hooks_that_a_first_pass_puts_there_are_put_there_once() -> None:
    model, x = Recording().double(), torch.randn(2, 4, dtype=torch.float64)
    structure = pn.trace(model, x)
    assert not model.first._forward_hooks
    assert structure.group("first").exact
    plan = structure.plan({"first": torch.arange(6) < 4})
    with pn.silence(model, plan):
        wanted = model(x)
    pn.shrink(model, plan)
    assert torch.allclose(model(x), wanted, atol=1e-12)


def test_a_causal_mask_that_torch_looks_at_is_named() -> None:
    class Translator(nn.Module):
        def __init__(self, **options: bool) -> None:
            super().__init__()
            self.core, self.options = nn.Transformer(16, 4, 1, 1, 32, dropout=0.0, batch_first=True), options

        def forward(self, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
            mask = nn.Transformer.generate_square_subsequent_mask(b.shape[1])
            found: torch.Tensor = self.core(a, b, tgt_mask=mask, **self.options)
            return found

    inputs = torch.randn(2, 5, 16), torch.randn(2, 4, 16)
    with pytest.raises(StructureError, match="tgt_is_causal=True"):
        pn.trace(Translator(), inputs)
    assert pn.trace(Translator(tgt_is_causal=True), inputs).removable()
