"""Features of the model's own inputs: which may leave, that calls stay as they are, and the laws of every removal."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import parsinet as pn
from networks import call, flat
from parsinet.errors import StructureError, UsageError
from parsinet.methods.complexity import complexity
from parsinet.structure import StructureRecord, record_of, replay, selecting
from parsinet.structure.plan import Plan
from parsinet.structure.traced import Structure

EXACT = 1e-10
"""float64: sums over fewer terms differ in the last digits only."""


class Pixels(nn.Module):
    """An MLP behind a flatten, the input scaled first."""

    def __init__(self) -> None:
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(20, 7), nn.Linear(7, 3)
        self.register_buffer("mean", torch.rand(1, 4, 5))

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(torch.tanh(self.fc1(((x - self.mean) / 2).flatten(1))))


class Table(nn.Module):
    """Columns of a table, normalised, read by two layers; some also by their own."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(9)
        self.left, self.right, self.some = nn.Linear(9, 4), nn.Linear(9, 5), nn.Linear(3, 4)
        self.register_buffer("chosen", torch.tensor([7, 0, 4]))
        self.out = nn.Linear(9, 2)

    def forward(self, x: Tensor) -> Tensor:
        h = self.norm(x)
        left = torch.relu(self.left(h)) + self.some(x[:, self.chosen])
        return self.out(torch.cat([left, torch.tanh(self.right(h))], 1))


class Signal(nn.Module):
    """A convolution along time with circular padding, a linear map over the channels of every step, a recurrent layer behind it."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv1d(6, 4, 3, padding=1, padding_mode="circular")
        self.mix = nn.Linear(6, 4)
        self.lstm = nn.LSTM(4, 3, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        h = self.conv(x).transpose(1, 2) + self.mix(x.transpose(1, 2))
        return self.lstm(h)[0][:, -1]


class Image(nn.Module):
    """Channels of an image, padded; H ≠ W ≠ C."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(5, 4, 3, padding=1)
        self.fc = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(torch.relu(self.conv(F.pad(x, (1, 0, 2, 0)))).mean((2, 3)))


class Volume(nn.Module):
    """Channels of a volume."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv3d(3, 4, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x).mean((2, 3, 4))


class Siamese(nn.Module):
    """One layer reads two inputs: their features leave together; a third input has a layer of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.shared, self.own, self.out = nn.Linear(6, 5), nn.Linear(4, 5), nn.Linear(5, 2)

    def forward(self, one: Tensor, other: Tensor, side: Tensor) -> Tensor:
        return self.out(torch.tanh(self.shared(one)) * torch.tanh(self.shared(other)) + self.own(side))


class Halves(nn.Module):
    """Two layers read half of the features each, and both parts are joined again for a third."""

    def __init__(self) -> None:
        super().__init__()
        self.left, self.right, self.both = nn.Linear(4, 3), nn.Linear(6, 3), nn.Linear(10, 3)

    def forward(self, x: Tensor) -> Tensor:
        first, second = x.split([4, 6], 1)
        return torch.tanh(self.left(first) * self.right(second)) + self.both(torch.cat([second, first], 1))


NETWORKS: dict[str, tuple[Callable[[], nn.Module], tuple[tuple[int, ...], ...], dict[str, int]]] = {
    "pixels": (Pixels, ((2, 1, 4, 5),), {"input": 20}),
    "table": (Table, ((6, 9),), {"input": 3, "input#2": 6}),
    "signal": (Signal, ((2, 6, 8),), {"input": 6}),
    "image": (Image, ((2, 5, 6, 7),), {"input": 5}),
    "volume": (Volume, ((2, 3, 4, 5, 6),), {"input": 3}),
    "siamese": (Siamese, ((2, 6), (2, 6), (2, 4)), {"input.one": 6, "input.side": 4}),
    "halves": (Halves, ((5, 10),), {"input": 4, "input#2": 6}),
    "lenet": (lambda: pn.models.build("lenet-300-100", (1, 8, 8), 10), ((2, 1, 8, 8),), {"input": 64}),
}
"""Network, shapes of its inputs, and its input groups."""
CASES = pytest.mark.parametrize("name", NETWORKS)


def build(name: str) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(3)
        return NETWORKS[name][0]().double().eval()


@pytest.fixture(scope="module")
def known() -> dict[str, Structure]:
    return {}


def get(known: dict[str, Structure], name: str) -> tuple[nn.Module, tuple[Tensor, ...], Structure]:
    generator = torch.Generator().manual_seed(5)
    x = tuple(torch.randn(shape, generator=generator, dtype=torch.float64) for shape in NETWORKS[name][1])
    if name not in known:
        known[name] = pn.trace(build(name), x, inputs=True)
    return build(name), x, known[name]


def some(structure: Structure, seed: int, *, inputs_only: bool = False) -> Plan:
    """A random part of every exact group, or of the inputs only: with the first unit, which numbers the groups, without the last."""
    generator = torch.Generator().manual_seed(seed)
    alive = {}
    for group in structure.removable():
        if group.exact and group.size > 1 and (not inputs_only or group.name in structure.inputs()):
            alive[group.name] = torch.rand(group.size, generator=generator) < 0.6
            alive[group.name][0], alive[group.name][-1] = True, False
    return structure.plan(alive)


def gap(model: nn.Module, x: Any, plan: Plan) -> float:
    """Largest difference between the shrunk and the silenced network."""
    with pn.silence(model, plan), torch.no_grad():
        silenced = flat(call(model, x))
    pn.shrink(model, plan)
    with torch.no_grad():
        return float((flat(call(model, x)) - silenced).abs().max())


@CASES
def test_the_inputs_are_groups(known: dict, name: str) -> None:
    _, _, structure = get(known, name)
    found = {group: structure.group(group).size for group in structure.inputs()}
    assert found == NETWORKS[name][2]
    for group in structure.inputs():
        assert structure.group(group).removable
        assert structure.group(group).exact
        assert structure.gateable(group)
    assert structure.groups[0].name in found, "groups come in the order of computation"


@CASES
@pytest.mark.parametrize("seed", [0, 1])
def test_shrunk_equals_silenced_and_calls_stay_as_they_are(known: dict, name: str, seed: int) -> None:
    model, x, structure = get(known, name)
    plan = some(structure, seed, inputs_only=seed == 0)
    before = call(model, x)
    assert gap(model, x, plan) < EXACT
    assert not torch.allclose(call(model, x), before)


@CASES
def test_the_removed_features_do_not_matter_and_the_others_do(known: dict, name: str) -> None:
    """Change every feature of the first input in turn: exactly those that stayed show."""
    model, x, structure = get(known, name)
    pn.shrink(model, some(structure, 0, inputs_only=True))
    changed = tuple(entry.clone().requires_grad_() for entry in x)
    call(model, changed).square().sum().backward()
    told = changed[0].grad
    assert told is not None
    features = told.flatten(1).T if name in ("pixels", "lenet") else told.transpose(0, 1).flatten(1)
    shown = features.abs().sum(1) > 0
    alive = some(structure, 0, inputs_only=True).alive
    assert int(shown.sum()) == sum(sum(mask) for group, mask in alive.items() if group in ("input", "input#2", "input.one"))


@CASES
def test_twice_is_once_and_a_fresh_trace_agrees(known: dict, name: str) -> None:
    model, x, structure = get(known, name)
    first = some(structure, 2)
    pn.shrink(model, first)
    derived = structure.after(first)
    retraced = pn.trace(model, x, inputs=True)
    assert {g.name: g.size for g in derived.groups if g.size > 1} == {g.name: g.size for g in retraced.groups if g.size > 1}
    for group in derived.inputs():
        readers = [(r.module, r.axis, r.owners.tolist()) for r in derived.readers(group)]
        assert readers == [(r.module, r.axis, r.owners.tolist()) for r in retraced.readers(group)]
    second = some(derived, 3)
    assert gap(model, x, second) < EXACT
    once, _, _ = get(known, name)
    masks = {}
    for group in {*first.alive, *second.alive}:
        mask = torch.ones(structure.group(group).size, dtype=torch.bool) if group not in first.alive else torch.tensor(first.alive[group])
        if group in second.alive:
            mask[mask.clone()] = torch.tensor(second.alive[group])
        masks[group] = mask
    pn.shrink(once, structure.plan(masks))
    assert torch.equal(call(once, x), call(model, x))
    assert once.state_dict().keys() == model.state_dict().keys()
    assert all(torch.equal(value, model.state_dict()[key]) for key, value in once.state_dict().items())


@CASES
def test_saved_and_loaded_is_bitwise_the_same(known: dict, name: str, tmp_path: Path) -> None:
    model, x, structure = get(known, name)
    names = list(model.state_dict())
    plan = some(structure, 4)
    pn.shrink(model, plan)
    pn.shrink(model, some(structure.after(plan), 5))
    pn.save(model, tmp_path)
    loaded = pn.load(tmp_path, lambda: build(name))
    assert torch.equal(call(loaded, x), call(model, x))
    assert str(loaded) == str(model)
    assert [key for key in model.state_dict() if not key.endswith(".kept")] == names, "names of weights and biases stay"


@CASES
def test_a_network_that_selects_still_exports(known: dict, name: str) -> None:
    model, x, structure = get(known, name)
    pn.shrink(model, some(structure, 6))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = torch.export.export(model, x, strict=False)
    assert torch.allclose(program.module()(*x), call(model, x), atol=EXACT)


def test_multiply_adds_are_those_of_the_smaller_product(known: dict) -> None:
    model, x, structure = get(known, "lenet")
    plan = structure.plan({"input": torch.arange(64) % 4 == 0, "fc1": torch.arange(300) < 50})
    pn.shrink(model, plan)
    assert pn.measure.macs(model, x) == 16 * 50 + 50 * 100 + 100 * 10
    assert complexity("macs", model, structure.after(plan), batch=2).dense == 16 * 50 + 50 * 100 + 100 * 10
    assert model.fc1.kept.tolist() == list(range(0, 64, 4))
    assert repr(model.fc1) == "SelectedLinear(in_features=16, out_features=50, bias=True)"


@pytest.mark.parametrize("optimizer", [torch.optim.Adam, torch.optim.SGD])
def test_parameters_and_optimizer_state_go_on(known: dict, optimizer: Any) -> None:
    model, x, structure = get(known, "halves")
    trained = optimizer(model.parameters(), lr=0.1, **({"momentum": 0.9} if optimizer is torch.optim.SGD else {}))
    for _ in range(2):
        call(model, x).square().mean().backward()
        trained.step()
    identities = [id(parameter) for parameter in model.parameters()]
    key = "exp_avg" if optimizer is torch.optim.Adam else "momentum_buffer"
    average, gradient = trained.state[model.both.weight][key].clone(), model.both.weight.grad.clone()
    plan = some(structure, 1, inputs_only=True)
    pn.shrink(model, plan, optimizers=[trained])
    kept = torch.tensor(plan.tensors["both.weight", 1])
    assert torch.equal(trained.state[model.both.weight][key], average[:, kept])
    assert torch.equal(model.both.weight.grad, gradient[:, kept])
    assert identities == [id(parameter) for parameter in model.parameters()]
    before = model.both.weight.clone()
    call(model, x).square().mean().backward()
    trained.step()
    assert not torch.equal(model.both.weight, before)


def test_a_shrink_that_fails_leaves_plain_layers(known: dict, monkeypatch: pytest.MonkeyPatch) -> None:
    model, _, structure = get(known, "halves")
    state = copy.deepcopy(model.state_dict())
    monkeypatch.setattr("parsinet.structure.removal.extend_record", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        pn.shrink(model, some(structure, 1))
    assert type(model.both) is nn.Linear
    assert model.state_dict().keys() == state.keys()
    assert all(torch.equal(state[key], value) for key, value in model.state_dict().items())


def test_the_law_objects_to_a_selection_that_is_not_cut_along(known: dict, monkeypatch: pytest.MonkeyPatch) -> None:
    model, x, structure = get(known, "pixels")
    plan = some(structure, 0, inputs_only=True)
    shifted = {place: tuple(range(len(kept))) if place[0].endswith(".kept") else kept for place, kept in plan.tensors.items()}
    faulty = Plan(plan.alive, shifted, plan.sizes, plan.counts, plan.silent)
    assert gap(model, x, faulty) > 1e-6


def test_means_of_inputs_fold_into_the_readers_bias_also_the_second_time(known: dict) -> None:
    model, x, structure = get(known, "pixels")
    mean = ((x[0] - model.mean) / 2).flatten(1).mean(0)
    column, bias = model.fc1.weight.detach().clone(), model.fc1.bias.detach().clone()
    for stay in (range(2, 20), range(5, 20)):
        units = [int(unit) for unit in structure.readers("input")[0].owners if unit >= 0]
        present = [pixel for pixel, unit in enumerate(structure.readers("input")[0].owners.tolist()) if unit >= 0]
        assert units == list(range(len(present)))
        plan = structure.plan({"input": [pixel in stay for pixel in present]})
        pn.shrink(model, plan, fold="mean", example_inputs=x)
        structure = structure.after(plan)
    assert torch.allclose(model.fc1.bias, bias + column[:, :5] @ mean[:5], atol=1e-12)


def test_inputs_are_off_by_default_and_what_selects_can_be_traced(known: dict) -> None:
    model, x, structure = get(known, "table")
    plain = pn.trace(model, x)
    assert [group.name for group in plain.groups] == [group.name for group in structure.groups if not group.name.startswith("input")]
    assert plain.inputs() == []
    pn.shrink(model, some(structure, 0, inputs_only=True))
    assert pn.trace(model, x).groups == plain.groups


class Reads(nn.Module):
    """A network whose way of reading its input is given."""

    def __init__(self, forward: Callable[[Reads, Tensor], Tensor], **parts: nn.Module) -> None:
        super().__init__()
        self.run = forward
        self.w = nn.Parameter(torch.randn(8, 8))
        for name, part in parts.items():
            self.add_module(name, part)

    def forward(self, x: Tensor) -> Tensor:
        return self.run(self, x)


class Own(nn.Linear):
    """A layer of one's own."""


REFUSED: dict[str, tuple[Callable[[], Reads], str]] = {
    "residual": (lambda: Reads(lambda m, x: m.out(x + m.fc(x)), fc=nn.Linear(8, 8), out=nn.Linear(8, 2)), "`add` at .* reads it"),
    "output": (lambda: Reads(lambda m, x: (m.fc(x), x), fc=nn.Linear(8, 3)), "it is part of the model's output"),
    "no layer": (lambda: Reads(lambda m, x: F.linear(x, m.w)), "with a weight that is not a layer's own"),
    "product": (lambda: Reads(lambda m, x: x @ m.w), "`matmul` at .* reads it, and only linear layers"),
    "class": (lambda: Reads(lambda m, x: m.fc(x), fc=Own(8, 3)), "fc reads it, which is a Own"),
    "computed": (
        lambda: Reads(lambda m, x: m.fc(x), fc=nn.utils.parametrizations.weight_norm(nn.Linear(8, 3))),
        "with a weight that is not a layer's own",
    ),
    "twice": (lambda: Reads(lambda m, x: m.fc(torch.tanh(m.fc(x))), fc=nn.Linear(8, 8)), r"fc\.weight is used elsewhere"),
    "groups": (lambda: Reads(lambda m, x: m.fc(x[..., None]), fc=nn.Conv1d(8, 4, 1, groups=2)), "is a grouped convolution"),
    "norm": (lambda: Reads(lambda m, x: m.fc(F.layer_norm(x, (8,))), fc=nn.Linear(8, 3)), "`layer_norm` at"),
    "single": (lambda: Reads(lambda m, x: m.fc(x[:, None]), fc=nn.Conv1d(1, 4, 3)), "it is a single unit"),
    "recurrent": (lambda: Reads(lambda m, x: m.rnn(x[:, None])[0], rnn=nn.GRU(8, 3, batch_first=True)), "`gru` at .* reads it"),
    "written": (lambda: Reads(lambda m, x: m.fc(x.mul_(2)), fc=nn.Linear(8, 3)), "`mul_` at .* reads it"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_leave_is_refused_with_the_reason(name: str) -> None:
    build_one, reason = REFUSED[name]
    with pytest.raises(UsageError, match=rf"inputs=True: no input of this network can be removed \(.*{reason}"):
        pn.trace(build_one(), torch.randn(2, 8), inputs=True)


@pytest.mark.parametrize("value", [1.0, -1.0, 1e9])
@pytest.mark.parametrize("channels", [False, True], ids=["places", "channels"])
def test_what_a_padding_fills_in_is_no_feature(value: float, channels: bool) -> None:
    """A fill value is none of the entries' numbers, whatever number it is."""
    pads = (0, 0, 0, 0, 1, 0) if channels else (1, 1, 1, 0)
    model = Reads(
        lambda m, x: m.fc(m.conv(F.pad(x, pads, value=value)).mean((2, 3))), conv=nn.Conv2d(5 + channels, 4, 3), fc=nn.Linear(4, 2)
    )
    x = torch.randn(2, 5, 6, 7, dtype=torch.float64)
    structure = pn.trace(model.double(), x, inputs=True)
    assert structure.group("input").size == 5
    (reader,) = structure.readers("input")
    assert reader.owners.tolist() == [*([-1] if channels else []), 0, 1, 2, 3, 4]


@pytest.mark.parametrize("extra", [[3.0, 4.0], [-1.0, 2.5], [1e6, 0.0]])
def test_constants_beside_the_features_are_no_features(extra: list[float]) -> None:
    model = Reads(lambda m, x: m.out(torch.tanh(m.fc(torch.cat([x, m.extra], 1)))), fc=nn.Linear(8, 4), out=nn.Linear(4, 2)).double()
    model.register_buffer("extra", torch.tensor([extra], dtype=torch.float64))
    x = torch.randn(1, 6, dtype=torch.float64)
    structure = pn.trace(model, x, inputs=True)
    (reader,) = structure.readers("input")
    assert reader.owners.tolist() == [0, 1, 2, 3, 4, 5, -1, -1]
    assert gap(model, x, structure.plan({"input": [True, False, False, True, True, False]})) < EXACT
    assert model.fc.kept.tolist() == [0, 3, 4, 6, 7]


def test_features_of_a_contiguous_copy_may_leave() -> None:
    """A set of points [batch, features, points] is read as rows: where the copy lies is not where the input lay."""
    model = Reads(
        lambda m, x: m.out(torch.relu(m.fc(x.transpose(2, 1).contiguous().view(-1, 5))).view(len(x), -1, 8).amax(1)),
        fc=nn.Linear(5, 8),
        out=nn.Linear(8, 2),
    ).double()
    x = torch.randn(2, 5, 9, dtype=torch.float64)
    structure = pn.trace(model, x, inputs=True)
    assert (structure.group("input").size, structure.group("input").removable) == (5, True)
    assert gap(model, x, structure.plan({"input": [True, False, True, True, False]})) < EXACT
    assert model.fc.kept.tolist() == [0, 2, 3]


def test_what_only_looks_at_the_shape_of_a_weight_is_no_use_of_it() -> None:
    """A kept number has sizes watched; a write into a view has the graph taken apart, where torch reads those of weights too."""

    def run(m: Reads, x: Tensor) -> Tensor:
        h = m.fc(x)
        y = torch.zeros_like(h)
        y[:, :3] = h[:, :3]
        return m.out(y)

    model = Reads(run, fc=nn.Linear(8, 6), out=nn.Linear(6, 2)).double()
    model.kept_number = 6
    x = torch.randn(2, 8, dtype=torch.float64)
    structure = pn.trace(model, x, inputs=True)
    assert gap(model, x, structure.plan({"input": torch.arange(8) % 3 != 1})) < EXACT


def test_a_model_that_is_a_single_layer(tmp_path: Path) -> None:
    model, x = nn.Linear(6, 4).double(), torch.randn(3, 6, dtype=torch.float64)
    structure = pn.trace(model, x, inputs=True)
    for mask in ([True, False, True, True, False, True], [True, False, True, True]):
        plan = structure.plan({"input": mask})
        assert gap(model, x, plan) < EXACT
        structure = structure.after(plan)
    assert model.kept.tolist() == [0, 3, 5]
    assert pn.trace(model, x, inputs=True).group("input").size == 3
    pn.save(model, tmp_path)
    assert torch.equal(pn.load(tmp_path, lambda: nn.Linear(6, 4).double())(x), model(x))


def test_tokens_are_no_features() -> None:
    model = nn.Sequential(nn.Embedding(9, 4), nn.Flatten(), nn.Linear(12, 2))
    with pytest.raises(UsageError, match="`embedding` reads it, and only"):
        pn.trace(model, torch.randint(9, (2, 3)), inputs=True)


def test_features_that_are_needed_elsewhere_stay_and_the_others_may_leave() -> None:
    model = Reads(lambda m, x: m.fc(x) + m.out(torch.sort(x[:, :3]).values), fc=nn.Linear(8, 4), out=nn.Linear(3, 4)).double()
    x = torch.randn(4, 8, dtype=torch.float64)
    structure = pn.trace(model, x, inputs=True)
    told = {group: (structure.group(group).size, structure.group(group).removable) for group in structure.inputs()}
    assert told == {"input": (3, False), "input#2": (5, True)}
    assert "`sort` at" in structure.group("input").reason
    assert gap(model, x, structure.plan({"input#2": [True, False, False, True, True]})) < EXACT


def test_a_record_of_another_network_is_refused(known: dict, tmp_path: Path) -> None:
    model, _, structure = get(known, "halves")
    pn.shrink(model, some(structure, 0, inputs_only=True))
    pn.save(model, tmp_path)

    def wrong() -> nn.Module:
        other = build("halves")
        other.left = nn.Linear(5, 3)
        return other

    with pytest.raises(StructureError, match="left"):
        pn.load(tmp_path, wrong)


@pytest.mark.parametrize("fault", ["class", "selection"])
def test_a_damaged_record_is_refused(known: dict, fault: str) -> None:
    model, _, structure = get(known, "halves")
    pn.shrink(model, some(structure, 0, inputs_only=True))
    content = record_of(model).to_json()
    if fault == "class":
        content["attributes"]["left"]["__class__"] = "SelectedConv2d"
    else:
        del content["tensors"]["left.kept"], content["sizes"]["left.kept"]
    fresh = build("halves")
    with pytest.raises(StructureError, match=r"sets left\.__class__, which the network does not have"):
        replay(fresh, StructureRecord.from_json(content))
    assert type(fresh.left) is nn.Linear


def test_an_input_of_another_width_is_refused_in_words(known: dict) -> None:
    model, x, structure = get(known, "lenet")
    pn.shrink(model, structure.plan({"input": torch.arange(64) < 10}))
    with pytest.raises(UsageError, match="dimension -1 of its input must have all 64 features, of which it selects 10, got 81"):
        call(model, torch.randn(2, 1, 9, 9, dtype=torch.float64))
    assert call(model, x).shape == (2, 10)


def test_every_layer_that_can_select_has_a_class_of_its_own() -> None:
    assert set(selecting.SELECTED) == {"SelectedLinear", "SelectedConv1d", "SelectedConv2d", "SelectedConv3d"}
    assert all(issubclass(kind, plain) for plain, kind in selecting.KINDS.items())
