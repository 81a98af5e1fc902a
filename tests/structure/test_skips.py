"""Skips given to plain layers: the function at the start, the laws of removal afterwards, and what cannot be given one."""

from __future__ import annotations

import copy
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import parsinet as pn
from parsinet.errors import UsageError
from parsinet.structure import Skipped
from parsinet.structure.blocks_absent import Absent

EXACT = 1e-10
"""float64: sums over fewer terms differ in the last digits only."""


def lenet() -> nn.Module:
    """Convolutions without padding, one strided and grouped, as a chain of modules; H ≠ W ≠ C."""
    return nn.Sequential(
        *(nn.Conv2d(2, 4, 5), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(4, 6, 3, stride=2, padding=1, groups=2), nn.BatchNorm2d(6), nn.Tanh()),
        *(nn.Conv2d(6, 6, 3, padding=1), nn.GroupNorm(2, 6), nn.Sigmoid(), nn.Flatten()),
        *(nn.Linear(72, 12), nn.LayerNorm(12), nn.GELU(), nn.Dropout(0.2), nn.Linear(12, 12), nn.ReLU(inplace=True), nn.Linear(12, 3)),
    )


def signals() -> nn.Module:
    """One dimension, padding by name, an activation that trains."""
    return nn.Sequential(
        nn.Conv1d(2, 5, 3, padding="same"), nn.PReLU(), nn.Conv1d(5, 5, 3, stride=2), nn.SiLU(), nn.Flatten(), nn.Linear(20, 3)
    )


PLAIN: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...], int]] = {
    "mlp": (lambda: pn.models.build("mlp", (7,), 3, widths=[9, 6, 6, 8]), (4, 7), 4),
    "mlp-bn": (lambda: pn.models.build("mlp", (7,), 3, widths=[6, 6], batch_norm=True, activation="sigmoid"), (4, 7), 2),
    "lenet-5-caffe": (lambda: pn.models.build("lenet-5-caffe", (1, 16, 18), 3), (2, 1, 16, 18), 1),
    "vgg-small": (lambda: pn.models.build("vgg-small", (2, 8, 9), 3, width=3), (2, 2, 8, 9), 6),
    "lenet": (lenet, (2, 2, 14, 18), 5),
    "signals": (signals, (3, 2, 9), 2),
}
"""Name → network, shape of its inputs, how many layers fit."""
CASES = pytest.mark.parametrize("name", PLAIN)
STARTS = pytest.mark.parametrize("start", ["identity", "same"])


def plain(name: str) -> tuple[nn.Module, Tensor]:
    """The network in float64 and evaluation mode, every vector random, and inputs."""
    make, shape, _ = PLAIN[name]
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model, inputs = make(), torch.randn(*shape, dtype=torch.float64)
        for tensor in [*model.parameters(), *model.buffers()]:
            if tensor.is_floating_point() and tensor.dim() == 1:
                tensor.data = torch.rand_like(tensor) + 0.5
    return model.double().eval(), inputs


def randomised(model: nn.Module) -> nn.Module:
    """Shortcuts as training leaves them: all of their entries random."""
    generator = torch.Generator().manual_seed(1)
    for key, parameter in model.named_parameters():
        if "shortcut" in key:
            parameter.data = torch.randn(parameter.shape, generator=generator, dtype=parameter.dtype) / parameter.shape[1] ** 0.5
    return model


@cache
def skipped(name: str, start: str) -> tuple[nn.Module, Tensor, pn.Structure]:
    model, inputs = plain(name)
    pn.add_skips(model, inputs, start=start, generator=torch.Generator().manual_seed(0))  # type: ignore[arg-type]
    return randomised(model), inputs, pn.trace(model, inputs, blocks=True)


def get(name: str, start: str) -> tuple[nn.Module, Tensor, pn.Structure]:
    model, inputs, structure = skipped(name, start)
    return copy.deepcopy(model), inputs, structure


def leave(names: list[str]) -> dict[str, Tensor]:
    return {name: torch.tensor([False]) for name in names}


def units(structure: pn.Structure, seed: int) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    masks = {group.name: torch.rand(group.size, generator=generator) < 0.6 for group in structure.removable() if group.exact}
    for mask in masks.values():
        mask[0] = True
    return masks


def gap(model: nn.Module, inputs: Tensor, plan: pn.Plan) -> float:
    """Largest difference between the shrunk and the silenced network, relative to the output."""
    with pn.silence(model, plan), torch.no_grad():
        silenced = model(inputs)
    pn.shrink(model, plan)
    with torch.no_grad():
        return float((model(inputs) - silenced).abs().max() / silenced.abs().max().clamp(min=1.0))


@CASES
def test_with_maps_that_start_at_zero_the_function_stays(name: str) -> None:
    model, inputs = plain(name)
    expected, before = model(inputs), {id(parameter) for parameter in model.parameters()}
    assert len(pn.add_skips(model, inputs, start="same")) == PLAIN[name][2]
    assert torch.equal(model(inputs), expected)
    assert before < {id(parameter) for parameter in model.parameters()}, "the layers keep their parameters"


@CASES
def test_the_other_start_adds_the_input_or_an_orthonormal_map_of_it(name: str) -> None:
    model, inputs = plain(name)
    pn.add_skips(model, inputs, generator=torch.Generator().manual_seed(3))
    for module in model.modules():
        if isinstance(module, Skipped):
            seen: list[torch.Size] = []
            module.register_forward_hook(lambda _, args, output, seen=seen: seen.extend((args[0].shape, output.shape)))
            model(inputs)
            assert isinstance(module.shortcut, nn.Identity) == (seen[0] == seen[1])
            for weight in module.shortcut.parameters():
                matrix = weight.detach().flatten(1)
                gram = matrix @ matrix.T if matrix.shape[0] <= matrix.shape[1] else matrix.T @ matrix
                assert torch.allclose(gram, torch.eye(len(gram), dtype=gram.dtype))
    twin, _ = plain(name)
    pn.add_skips(twin, inputs, generator=torch.Generator().manual_seed(3))
    assert torch.equal(twin(inputs), model(inputs)), "the generator alone decides"


@STARTS
@CASES
def test_every_section_is_a_block_that_can_leave(name: str, start: str) -> None:
    model, inputs, structure = get(name, start)
    names = [block.name for block in structure.blocks if block.removable]
    layers = [path for path, module in model.named_modules() if isinstance(module, Skipped)]
    assert names == [f"{path}.block" for path in layers]
    for some in (names[:1], names[1::2], names):
        small = copy.deepcopy(model)
        assert gap(small, inputs, structure.plan(leave(some))) < EXACT
    assert not any("section" in key for key, _ in small.named_parameters())


@STARTS
@CASES
def test_sections_leave_with_units_and_after_them(name: str, start: str) -> None:
    model, inputs, structure = get(name, start)
    names = [block.name for block in structure.blocks]
    for alive in ({**units(structure, 0), **leave(names[:1])}, None, leave(names[1:])):
        plan = structure.plan(units(structure, 1) if alive is None else alive)
        assert gap(model, inputs, plan) < EXACT
        structure = structure.after(plan)


@STARTS
@CASES
def test_saved_loaded_and_exported_it_is_the_same(name: str, start: str, tmp_path: Path) -> None:
    model, inputs, structure = get(name, start)
    pn.shrink(model, structure.plan({**units(structure, 2), **leave([block.name for block in structure.blocks][::2])}))
    pn.save(model, tmp_path)
    assert {path.suffix for path in tmp_path.iterdir()} == {".json", ".safetensors"}

    def factory() -> nn.Module:
        fresh, _ = plain(name)
        pn.add_skips(fresh, inputs, start=start)  # type: ignore[arg-type]
        return fresh

    assert torch.equal(pn.load(tmp_path, factory).eval()(inputs), model(inputs))
    program = torch.export.export(model, (inputs,), strict=False)
    assert torch.allclose(program.module()(inputs), model(inputs), atol=EXACT)


def test_what_is_left_of_a_skipped_layer_is_its_shortcut() -> None:
    """A map without a section beside it costs what the map costs; an identity is gone from the network whole."""
    model, inputs, structure = get("mlp", "identity")
    pn.shrink(model, structure.plan(leave([block.name for block in structure.blocks])))
    assert isinstance(model.fc1.section, Absent)
    assert isinstance(model.fc3, Absent)
    assert [key for key, _ in model.named_parameters()] == ["fc1.shortcut.weight", "fc2.shortcut.weight", "fc4.shortcut.weight", *FC5]
    assert pn.measure.macs(model, inputs[:1]) == 7 * 9 + 9 * 6 + 6 * 8 + 8 * 3


FC5 = ("fc5.weight", "fc5.bias")


def test_names_choose_layers_and_a_second_call_adds_to_the_first() -> None:
    model, inputs = plain("mlp")
    assert pn.add_skips(model, inputs, ["fc3"]) == ("fc3",)
    assert [key for key in model.state_dict() if "fc3" in key] == ["fc3.section.layer.weight", "fc3.section.layer.bias"]
    assert pn.add_skips(model, inputs) == ("fc1", "fc2", "fc4")
    assert [type(model.get_submodule(f"act{k}")) for k in (1, 2, 3, 4)] == [nn.Identity] * 4


def test_modes_devices_and_types_are_the_layers() -> None:
    model, inputs = plain("vgg-small")
    pn.add_skips(model.bfloat16(), inputs.bfloat16())
    assert not any(module.training for module in model.modules())
    assert {parameter.dtype for parameter in model.parameters()} == {torch.bfloat16}
    model, inputs = plain("lenet")
    pn.add_skips(model.train(), inputs)
    assert all(module.training for module in model.modules())


def test_torch_numbers_are_drawn_for_maps_alone() -> None:
    """What is tried on a copy draws nothing, so that a seeded run is the same with the check and without it."""
    model, inputs = plain("mlp")
    state = torch.get_rng_state()
    pn.add_skips(model, inputs, start="same")
    assert torch.equal(torch.get_rng_state(), state)


class Written(nn.Module):
    """Forwards that stand against a skip, one by one."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind = kind
        self.fc1, self.fc2, self.fc3 = nn.Linear(4, 6), nn.Linear(6, 6), nn.Linear(6, 2)
        self.act, self.act2 = nn.ReLU(), nn.ReLU()
        self.again = self.fc1 if kind == "two names" else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        h = self.fc1(x)
        if self.kind == "function":
            return self.fc3(F.relu(h))
        y = self.act(h)
        if self.kind == "read twice":
            return self.fc3(y + h)
        if self.kind == "shared":
            return self.fc3(self.act(self.fc2(y)))
        if self.kind == "called twice":
            return self.fc3(self.act2(self.fc2(self.act2(self.fc2(y)))))
        if self.kind == "weight used":
            return self.fc3(y) + F.linear(x, self.fc1.weight)[:, :2]
        return self.fc3(self.act2(self.fc2(y)))


@pytest.mark.parametrize(
    ("kind", "layer", "words"),
    [
        ("function", "fc1", r"`relu` at test_skips\.py:\d+ .* reads fc1, where a module such as self\.act1 = nn\.ReLU"),
        ("read twice", "fc1", r"fc1 is read by `relu`.* and `add`.*, not by one module alone"),
        ("shared", "fc1", r"act is called 2 times; every layer needs one of its own"),
        ("called twice", "fc2", r"fc2 is called 2 times"),
        ("two names", "fc1", r"fc1 and again are one module"),
        ("plain", "fc3", r"fc3 is read by the model's output"),
        ("plain", "fc4", r"'fc4' is no linear layer or convolution of the network\. Did you mean"),
        ("plain", "act", r"'act' is no linear layer"),
    ],
)
def test_what_cannot_be_given_a_skip_says_why(kind: str, layer: str, words: str) -> None:
    model = Written(kind)
    picture = str(model)
    with pytest.raises(UsageError, match=words):
        pn.add_skips(model, torch.randn(3, 4), [layer])
    assert str(model) == picture


def test_a_layer_used_by_its_weight_is_refused_unchanged() -> None:
    model = Written("weight used")
    with pytest.raises(UsageError, match=r"does not run with its layers wrapped \(.*has no attribute 'weight'"):
        pn.add_skips(model, torch.randn(3, 4), ["fc1"])
    assert isinstance(model.fc1, nn.Linear)


@pytest.mark.parametrize(
    ("layers", "options", "words"),
    [
        ("fc1", {}, "must be True or a list of names, got 'fc1'"),
        ([], {}, r"must be True or a list of names, got \[\]"),
        (False, {}, "got False"),
        (True, {"start": "zero"}, "start must be 'identity' or 'same', got 'zero'"),
    ],
)
def test_arguments_are_checked(layers: object, options: dict[str, str], words: str) -> None:
    model, inputs = plain("mlp")
    with pytest.raises(UsageError, match=words):
        pn.add_skips(model, inputs, layers, **options)  # type: ignore[arg-type]


def test_a_network_without_such_layers_names_every_reason() -> None:
    model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(18, 3)).double()
    with pytest.raises(UsageError, match=r"0: 1 reads it, and a MaxPool2d is no activation; 3: 3 is read by the model's output"):
        pn.add_skips(model, torch.randn(2, 1, 8, 8, dtype=torch.float64))
    with pytest.raises(UsageError, match="no linear layer and no convolution"):
        pn.add_skips(nn.ReLU(), torch.randn(2, 3))
    dilated = nn.Sequential(nn.Conv2d(1, 2, 3, dilation=2), nn.ReLU())
    with pytest.raises(UsageError, match=r"no pooling has the positions of Conv2d"):
        pn.add_skips(dilated, torch.randn(2, 1, 8, 8), ["0"])


def test_skips_come_before_removals() -> None:
    model, inputs, structure = get("mlp", "same")
    pn.shrink(model, structure.plan(units(structure, 0)))
    with pytest.raises(UsageError, match="units have left this network already; give it skips before"):
        pn.add_skips(model, inputs)


def test_the_check_objects_to_modules_that_stay_where_they_were(monkeypatch: pytest.MonkeyPatch) -> None:
    """Planted fault: activations are applied a second time behind the sum."""
    monkeypatch.setattr("parsinet.structure.skips.nn.Identity", nn.Tanh)
    model, inputs = plain("mlp")
    with pytest.raises(UsageError, match="would compute something else"):
        pn.add_skips(model, inputs)


def test_the_laws_object_to_a_section_that_stays_in_the_sum(monkeypatch: pytest.MonkeyPatch) -> None:
    model, inputs, structure = get("vgg-small", "same")
    monkeypatch.setattr(Absent, "forward", lambda self, x: x[:, :3])
    monkeypatch.setattr(Skipped, "forward", lambda self, x: self.section(x) + self.shortcut(x))
    assert gap(model, inputs, structure.plan(leave(["conv2.block"]))) > 1e-6


@pytest.mark.parametrize("name", ["linear", "relu beside linear", "two that bend"])
def test_of_two_single_maps_the_linear_one_is_the_skip(name: str) -> None:
    """Where both terms of a sum are one layer, the one that bends is the branch; two alike are none."""

    class Sum(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.left, self.right, self.fc = nn.Linear(4, 6), nn.Linear(4, 6), nn.Linear(6, 2)

        def forward(self, x: Tensor) -> Tensor:
            left = self.left(x) if name == "linear" else torch.relu(self.left(x))
            return self.fc(left + (torch.tanh(self.right(x)) if name == "two that bend" else self.right(x)))

    found = [block.name for block in pn.trace(Sum(), torch.randn(3, 4), blocks=True).blocks if block.removable]
    assert found == (["left.block"] if name == "relu beside linear" else [])
