"""Linear maps that follow each other: their product is exact, never larger, and never made of what others read."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations

import parsinet as pn
from parsinet.errors import StructureError
from parsinet.structure import merging, products

EXACT = 1e-10
"""float64: other orders of summation differ in the last digits only."""

IMAGE = (2, 3, 7, 9)
PAIRS: dict[str, tuple[Callable[[], list[nn.Module]], tuple[int, ...]]] = {
    "linear": (lambda: [nn.Linear(5, 9), nn.Linear(9, 3)], (4, 5)),
    "linear, positions": (lambda: [nn.Linear(5, 9, bias=False), nn.Linear(9, 3)], (2, 6, 5)),
    "linear, first bias": (lambda: [nn.Linear(5, 9), nn.Linear(9, 3, bias=False)], (4, 5)),
    "linear, no bias": (lambda: [nn.Linear(5, 9, bias=False), nn.Identity(), nn.Linear(9, 3, bias=False)], (4, 5)),
    "three linear": (lambda: [nn.Linear(5, 9), nn.Linear(9, 8), nn.Linear(8, 3)], (4, 5)),
    "1x1, 3x3": (lambda: [nn.Conv2d(3, 8, 1, bias=False), nn.Conv2d(8, 2, 3, padding=1)], IMAGE),
    "1x1 with bias, 3x3 unpadded": (lambda: [nn.Conv2d(3, 8, 1), nn.Conv2d(8, 2, 3, stride=2)], IMAGE),
    "1x1 with bias, 3x3 reflected": (lambda: [nn.Conv2d(3, 8, 1), nn.Conv2d(8, 2, 3, padding=1, padding_mode="reflect")], IMAGE),
    "1x1 with bias, 1x1": (lambda: [nn.Conv2d(3, 8, 1), nn.Conv2d(8, 2, 1)], IMAGE),
    "3x3, 1x1": (lambda: [nn.Conv2d(3, 8, (3, 2), stride=2, padding=1, dilation=(1, 2)), nn.Conv2d(8, 2, 1)], IMAGE),
    "3x3, 1x1 without bias": (lambda: [nn.Conv2d(3, 8, 3, bias=False), nn.Conv2d(8, 2, 1)], IMAGE),
    "strided 1x1, 1x1": (lambda: [nn.Conv2d(3, 8, 1, stride=2), nn.Conv2d(8, 2, 1)], IMAGE),
    "one dimension": (lambda: [nn.Conv1d(3, 8, 1), nn.Conv1d(8, 2, 4, padding="valid")], (2, 3, 9)),
    "three dimensions": (lambda: [nn.Conv3d(2, 6, 3, padding="same"), nn.Conv3d(6, 1, 1)], (2, 2, 4, 5, 3)),
    "flattened": (lambda: [nn.Linear(5, 9), nn.Flatten(), nn.Linear(9, 3)], (4, 5)),
}
STAY: dict[str, tuple[Callable[[], list[nn.Module]], tuple[int, ...]]] = {
    "wider than both": (lambda: [nn.Linear(9, 2), nn.Linear(2, 9)], (4, 9)),
    "bias under zero padding": (lambda: [nn.Conv2d(3, 8, 1), nn.Conv2d(8, 2, 3, padding=1)], IMAGE),
    "bias under same padding": (lambda: [nn.Conv2d(3, 8, 1), nn.Conv2d(8, 2, 3, padding="same")], IMAGE),
    "strided 1x1, 3x3": (lambda: [nn.Conv2d(3, 8, 1, stride=2), nn.Conv2d(8, 2, 3)], IMAGE),
    "3x3, padded 1x1": (lambda: [nn.Conv2d(3, 8, 3), nn.Conv2d(8, 2, 1, padding=1)], IMAGE),
    "3x3, 3x3": (lambda: [nn.Conv2d(3, 8, 3), nn.Conv2d(8, 2, 3)], IMAGE),
    "groups first": (lambda: [nn.Conv2d(3, 9, 3, groups=3), nn.Conv2d(9, 2, 1)], IMAGE),
    "groups behind": (lambda: [nn.Conv2d(3, 8, 1), nn.Conv2d(8, 2, 3, groups=2)], IMAGE),
    "relu between": (lambda: [nn.Linear(5, 9), nn.ReLU(), nn.Linear(9, 3)], (4, 5)),
    "dropout between": (lambda: [nn.Linear(5, 9), nn.Dropout(0.5), nn.Linear(9, 3)], (4, 5)),
    "flattened image": (lambda: [nn.Conv2d(3, 8, 1), nn.Flatten(), nn.Linear(504, 3)], IMAGE),
    "positions moved": (lambda: [nn.Linear(5, 6), nn.Flatten(), nn.Linear(36, 3)], (2, 6, 5)),
    "parametrized": (lambda: [parametrizations.weight_norm(nn.Linear(5, 9)), nn.Linear(9, 3)], (4, 5)),
}


def network(layers: list[nn.Module], shape: tuple[int, ...]) -> tuple[nn.Module, Tensor]:
    """In float64 with random tensors."""
    model = nn.Sequential(*layers).double()
    generator = torch.Generator().manual_seed(0)
    for parameter in model.parameters():
        parameter.data = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
    return model, torch.randn(*shape, generator=generator, dtype=torch.float64)


def made(table: dict[str, tuple[Callable[[], list[nn.Module]], tuple[int, ...]]], name: str) -> tuple[nn.Module, Tensor]:
    layers, shape = table[name]
    with torch.random.fork_rng():
        return network(layers(), shape)


@pytest.mark.parametrize("name", PAIRS)
def test_the_product_computes_the_same_with_less(name: str, tmp_path: Path) -> None:
    model, inputs = made(PAIRS, name)
    expected = model(inputs).detach()
    before = pn.measure.profile(model, inputs, latency=False)
    merges = pn.merge_linear(model, inputs)
    after = pn.measure.profile(model, inputs, latency=False)
    assert merges
    assert (model(inputs) - expected).abs().max() < EXACT * expected.abs().max()
    assert sum(merge.parameters[0] - merge.parameters[1] for merge in merges) == before.parameters - after.parameters > 0
    assert sum(merge.macs[0] - merge.macs[1] for merge in merges) == before.macs - after.macs >= 0
    assert sum(type(module) in products.LAYERS for module in model.modules()) == 1
    left = next(module for module in model.modules() if type(module) in products.LAYERS)
    assert str(left) == str(rebuilt(left)), "sizes that the layer prints are its weight's"
    pn.save(model, tmp_path)
    loaded = pn.load(tmp_path, lambda: made(PAIRS, name)[0])
    assert torch.equal(loaded(inputs), model(inputs))
    assert str(loaded) == str(model)


def test_training_goes_on_while_an_old_loss_is_alive() -> None:
    """autograd keeps the old shape of a parameter as long as a graph does."""
    model, x = nn.Sequential(nn.Linear(4, 16), nn.Linear(16, 3)), torch.randn(5, 4)
    loss = model(x).square().mean()
    loss.backward()
    assert pn.merge_linear(model, x)
    torch.optim.SGD(model.parameters(), 0.1).zero_grad()
    model(x).square().mean().backward()
    assert [parameter.grad.shape for parameter in model.parameters()] == [parameter.shape for parameter in model.parameters()]
    assert loss.requires_grad


def rebuilt(layer: nn.Module) -> nn.Module:
    """A layer of the same kind with the sizes of the weight."""
    twin = copy.deepcopy(layer)
    sizes = ("out_features", "in_features") if isinstance(layer, nn.Linear) else ("out_channels", "in_channels")
    for name, size in zip(sizes, layer.get_parameter("weight").shape[:2], strict=True):
        setattr(twin, name, size)
    return twin


@pytest.mark.parametrize("name", STAY)
def test_what_has_no_smaller_exact_product_stays(name: str) -> None:
    model, inputs = made(STAY, name)
    picture = (str(model), {key: value.clone() for key, value in model.state_dict().items()})
    assert pn.merge_linear(model, inputs) == ()
    assert str(model) == picture[0]
    assert all(torch.equal(value, picture[1][key]) for key, value in model.state_dict().items())


class Read(nn.Module):
    """A first map whose result, or tensors, are read in one more place."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind = kind
        self.a, self.b, self.c = nn.Linear(5, 9), nn.Linear(9, 3), nn.Linear(9, 2)
        if kind == "tied":
            self.c = nn.Linear(9, 3)
            self.c.weight = self.b.weight

    def forward(self, x: Tensor) -> Tensor:
        h = self.a(x)
        y: Tensor = self.b(h)
        match self.kind:
            case "returned":
                return torch.cat([y, h], -1)
            case "two readers":
                return torch.cat([y, self.c(h)], -1)
            case "a reader that bends":
                return torch.cat([y, self.c(torch.relu(h))], -1)
            case "weight read":
                return y + self.a.weight[0, :3]
            case "called twice":
                return y + self.b(self.a(x * x))
            case "tied":
                return torch.cat([y, self.c(torch.relu(x.sum() + torch.ones(len(x), 9, dtype=x.dtype)))], -1)
        return y


def reading(kind: str) -> tuple[nn.Module, Tensor]:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return Read(kind).double(), torch.randn(4, 5, dtype=torch.float64)


@pytest.mark.parametrize("kind", ["returned", "a reader that bends", "weight read", "called twice", "tied"])
def test_what_somebody_else_reads_stays(kind: str) -> None:
    model, inputs = reading(kind)
    assert pn.merge_linear(model, inputs) == ()


def test_several_readers_all_take_the_first_in() -> None:
    model, inputs = reading("two readers")
    expected = model(inputs).detach()
    (merge,) = pn.merge_linear(model, inputs)
    assert (merge.first, merge.readers) == ("a", ("b", "c"))
    assert merge.parameters == (5 * 9 + 9 + 9 * 3 + 3 + 9 * 2 + 2, 5 * 3 + 3 + 5 * 2 + 2)
    assert merge.macs == (5 * 9 + 9 * 3 + 9 * 2, 5 * 3 + 5 * 2)
    assert (model(inputs) - expected).abs().max() < EXACT


def test_a_hook_sees_what_it_saw() -> None:
    model, inputs = reading("plain")
    handle = model.a.register_forward_hook(lambda *_: None)
    assert pn.merge_linear(model, inputs) == ()
    handle.remove()
    assert len(pn.merge_linear(model, inputs)) == 1


def test_parameters_that_stay_keep_their_identity_and_train_on() -> None:
    model, inputs = reading("plain")
    weight, bias = model.b.weight, model.b.bias
    model(inputs).square().mean().backward()
    pn.merge_linear(model, inputs)
    assert model.b.weight is weight
    assert model.b.bias is bias
    assert weight.grad is None
    assert [key for key, _ in model.named_parameters()] == ["b.weight", "b.bias", "c.weight", "c.bias"]
    optimizer = torch.optim.Adam(model.parameters())
    model(inputs).square().mean().backward()
    before = weight.detach().clone()
    optimizer.step()
    assert not torch.equal(weight, before)


def test_skips_whose_sections_have_left_become_one_map(tmp_path: Path) -> None:
    """Removal, then merging; what is saved replays both. After that nothing leaves any more."""

    def factory() -> nn.Module:
        model = pn.models.build("mlp", (7,), 3, widths=[9, 8, 8, 6]).double()
        pn.add_skips(model, inputs, start="same")
        return model

    inputs = torch.randn(4, 7, dtype=torch.float64)
    model = factory()
    for parameter in model.parameters():
        parameter.data = torch.randn_like(parameter)
    structure = pn.trace(model, inputs, blocks=True)
    alive = {f"fc{k}.block": torch.tensor([False]) for k in (1, 3, 4)}
    pn.shrink(model, structure.plan({**alive, "fc2.shortcut": torch.arange(8) != 5}))
    expected = model(inputs).detach()
    merges = pn.merge_linear(model, inputs)
    assert {merge.first for merge in merges} == {"fc1.shortcut", "fc3.shortcut", "fc4.shortcut"}
    assert (model(inputs) - expected).abs().max() < EXACT * expected.abs().max()
    assert pn.measure.macs(model, inputs[:1]) == 7 * 7 + 7 * 7 + 7 * 3
    pn.save(model, tmp_path)
    assert torch.equal(pn.load(tmp_path, factory)(inputs), model(inputs))
    assert json.loads((tmp_path / "structure.json").read_text())["format"] == 3
    again = pn.trace(model, inputs)
    group = next(group for group in again.groups if group.removable)
    plan = again.plan({group.name: torch.arange(group.size) > 0})
    with pytest.raises(StructureError, match="have been merged"):
        pn.shrink(model, plan)
    assert torch.equal(pn.load(tmp_path, factory)(inputs), model(inputs)), "and nothing has changed"


@pytest.mark.parametrize("wrong", [[["fc9", "fc2"]], [["fc1"]], [["fc2", "fc1"]], [[]], "fc1"])
def test_a_damaged_record_of_merges_is_refused(wrong: object, tmp_path: Path) -> None:
    model = pn.models.build("mlp", (7,), 3, widths=[9])
    model.act1 = nn.Identity()
    pn.merge_linear(model, torch.randn(2, 7))
    pn.save(model, tmp_path)
    content = json.loads((tmp_path / "structure.json").read_text())
    del content["sha256"]
    assert content["merges"] == [["fc1", "fc2"]]
    (tmp_path / "structure.json").write_text(json.dumps({**content, "merges": wrong}))
    with pytest.raises(StructureError):
        pn.load(tmp_path, lambda: pn.models.build("mlp", (7,), 3, widths=[9]))


@pytest.mark.parametrize("fault", ["bias forgotten", "transposed kernel", "grouped"])
def test_the_check_on_a_copy_objects_to_a_wrong_product(fault: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Planted faults: nothing is merged, and the network stays what it was."""
    true, name = products.product, "1x1 with bias, 3x3 unpadded"
    if fault == "bias forgotten":
        monkeypatch.setattr(products, "product", lambda first, second: (true(first, second)[0], second.bias.data))
    elif fault == "transposed kernel":
        monkeypatch.setattr(products, "product", lambda first, second: (true(first, second)[0].mT, true(first, second)[1]))
    else:
        name = "bias under zero padding"
        for module in (merging, products):
            monkeypatch.setattr(module, "has_product", lambda first, second: type(first) is type(second))
    model, inputs = made({**PAIRS, **STAY}, name)
    expected = model(inputs).detach()
    assert pn.merge_linear(model, inputs) == ()
    assert torch.equal(model(inputs), expected)


def test_single_precision_is_rounded_once() -> None:
    model, inputs = made(PAIRS, "three linear")
    expected = model(inputs)
    pn.merge_linear(model.float(), inputs.float())
    assert (model(inputs.float()) - expected).abs().max() < 1e-5 * expected.abs().max()
