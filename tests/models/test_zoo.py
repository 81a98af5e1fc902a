"""Every model of the zoo over one table: size, shapes, gradients, export, arguments it refuses."""

from dataclasses import dataclass, field
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from parsinet import models
from parsinet.errors import ArgumentTypeError, ParsinetError, UsageError

MNIST, CIFAR, DIGITS = (1, 28, 28), (3, 32, 32), (1, 8, 8)


@dataclass(frozen=True)
class Case:
    name: str
    shape: tuple[int, ...]
    classes: int
    parameters: int
    options: dict[str, Any] = field(default_factory=dict)

    def build(self) -> nn.Module:
        torch.manual_seed(0)
        return models.build(self.name, self.shape, self.classes, **self.options)

    def inputs(self, batch: int = 2) -> Tensor:
        generator = torch.Generator().manual_seed(1)
        if self.name == "char-gpt":
            return torch.randint(self.classes, (batch, *self.shape), generator=generator)
        return torch.randn(batch, *self.shape, generator=generator)


def linear(inputs: int, outputs: int) -> int:
    return inputs * outputs + outputs


def block(width: int, hidden: int) -> int:
    return 4 * linear(width, width) + linear(width, hidden) + linear(hidden, width) + 4 * width


CASES = [
    Case("lenet-300-100", (784,), 10, 266_610),
    Case("lenet-300-100", DIGITS, 10, linear(64, 300) + linear(300, 100) + linear(100, 10)),
    Case("lenet-5-caffe", MNIST, 10, 431_080),
    Case("lenet-5-caffe", (1, 16, 20), 10, 520 + 25_050 + linear(50 * 1 * 2, 500) + linear(500, 10)),
    Case("mlp", (7,), 3, linear(7, 5) + linear(5, 4) + linear(4, 3), {"widths": [5, 4], "activation": "tanh"}),
    Case("mlp", (2, 7), 3, linear(14, 5) + 10 + linear(5, 3), {"widths": (5,), "batch_norm": True}),
    Case("mlp", (7,), 3, linear(7, 3), {"widths": ()}),
    Case("vgg-small", CIFAR, 10, 4_660_106),
    Case("vgg-small", DIGITS, 10, 9 * (4 + 16 + 32 + 64 + 128 + 256) + 56 * 2 + linear(16, 10), {"width": 4}),
    Case("resnet-20", CIFAR, 10, 272_474),
    Case("resnet-56", CIFAR, 10, 855_770),
    Case("wrn-12", MNIST, 10, 170_298),
    Case("wrn-18", MNIST, 10, 267_514),
    Case("wrn-22", CIFAR, 10, 1_154_074),
    Case("wrn-22", (3, 64, 64), 200, 4_644_120, {"width": 64}),
    Case("wrn-12", (1, 5, 9), 10, 170_298, {"dropout": 0.1}),
    Case("tiny-vit", MNIST, 10, linear(16, 64) + 50 * 64 + 64 + 4 * block(64, 128) + 128 + linear(64, 10)),
    Case(
        "tiny-vit",
        (3, 6, 9),
        5,
        linear(27, 12) + 6 * 12 + block(12, 7) + 24 + linear(12, 5),
        {"patch": 3, "width": 12, "heads": 3, "depth": 1, "hidden": 7, "pool": "mean"},
    ),
    Case("char-gpt", (16,), 65, 65 * 64 + 16 * 64 + 2 * block(64, 256) + 128),
    Case("lstm", MNIST, 10, 4 * 128 * (28 + 128 + 2) + linear(128, 10)),
    Case("lstm", (5, 3), 4, 4 * 6 * (3 + 6 + 2) + 4 * 6 * (6 + 6 + 2) + linear(6, 4), {"hidden": 6, "layers": 2}),
]


def identify(case: Case) -> str:
    return "-".join([case.name, "x".join(map(str, case.shape)), *case.options])


every_case = pytest.mark.parametrize("case", CASES, ids=identify)


def test_every_name_has_a_case() -> None:
    assert {case.name for case in CASES} == set(models.names())


@every_case
def test_parameters_by_hand(case: Case) -> None:
    assert sum(parameter.numel() for parameter in case.build().parameters()) == case.parameters


@every_case
def test_forward_gives_one_score_per_class(case: Case) -> None:
    model = case.build().eval()
    with torch.inference_mode():
        scores = model(case.inputs())
    assert scores.shape == ((2, *case.shape, case.classes) if case.name == "char-gpt" else (2, case.classes))
    assert scores.isfinite().all()


@every_case
def test_examples_do_not_mix(case: Case) -> None:
    model, inputs = case.build().double().eval(), case.inputs(3)
    inputs = inputs.double() if inputs.is_floating_point() else inputs
    with torch.inference_mode():
        torch.testing.assert_close(model(inputs)[1:2], model(inputs[1:2]))


@every_case
def test_every_parameter_learns(case: Case) -> None:
    model = case.build()
    scores = model(case.inputs(3)).flatten(0, -2)
    F.cross_entropy(scores, torch.arange(len(scores)) % case.classes).backward()
    # a key's bias moves all scores of a query alike, a bias before batch norm is subtracted again: their gradients are 0 by law
    free = ("attn.k.bias", "fc1.bias") if case.options.get("batch_norm") else ("attn.k.bias",)
    learning = {name for name, each in model.named_parameters() if each.grad is not None and each.grad.isfinite().all() and each.grad.any()}
    assert not [name for name, _ in model.named_parameters() if name not in learning and not name.endswith(free)]


@pytest.mark.filterwarnings("ignore:The tensor attributes self.lstm._flat_weights")
@pytest.mark.parametrize(
    "case",
    [case if case.parameters < 400_000 else pytest.param(case, marks=pytest.mark.slow) for case in CASES],
    ids=identify,
)
def test_export(case: Case) -> None:
    model, inputs = case.build().eval(), case.inputs()
    program = torch.export.export(model, (inputs,), strict=False)
    with torch.no_grad():
        torch.testing.assert_close(program.module()(inputs), model(inputs))


@pytest.mark.parametrize(
    ("name", "modules"),
    [
        ("lenet-300-100", ["fc1", "fc2", "fc3"]),
        ("lenet-5-caffe", ["conv1", "conv2", "fc1", "fc2"]),
        ("vgg-small", ["conv1", "bn1", "conv6", "bn6", "fc"]),
        ("resnet-20", ["conv1", "bn1", "layer1.0.conv1", "layer1.0.bn1", "layer3.2.conv2", "layer2.0.shortcut.conv", "fc"]),
        ("wrn-22", ["layer1.0.shortcut.conv", "layer2.3.conv2", "layer3.2.bn2", "fc"]),
        ("tiny-vit", ["patch_embed", "blocks.0.attn.q", "blocks.3.attn.proj", "blocks.0.mlp.fc1", "blocks.0.mlp.fc2", "norm", "head"]),
        ("char-gpt", ["embed", "blocks.1.attn.k", "blocks.1.attn.v", "blocks.0.mlp.fc1", "head"]),
        ("lstm", ["lstm", "fc"]),
    ],
)
def test_names_of_layers(name: str, modules: list[str]) -> None:
    case = next(case for case in CASES if case.name == name)
    assert set(modules) <= {path for path, _ in case.build().named_modules()}


def test_a_repeatable_model_from_the_callers_seed() -> None:
    states = []
    for _ in range(2):
        torch.manual_seed(3)
        states.append(models.build("tiny-vit", DIGITS, 10).state_dict())
    assert all(torch.equal(states[0][key], states[1][key]) for key in states[0])


@pytest.mark.parametrize(
    ("name", "shape", "options", "words"),
    [
        ("lenet-5-caffe", DIGITS, {}, "8x8 are too small.*16x16"),
        ("lenet-5-caffe", (64,), {}, "takes images"),
        ("lenet-5-caffe", (1, 28, 15), {}, "28x15 are too small"),
        ("vgg-small", (3, 7, 32), {}, "7x32 are too small"),
        ("resnet-20", (3, 32), {}, "takes images"),
        ("resnet-20", CIFAR, {"width": 0}, "width must be ≥ 1, got 0"),
        ("wrn-12", MNIST, {"dropout": 1.0}, r"dropout must be in \[0, 1\)"),
        ("tiny-vit", MNIST, {"patch": 5}, "patch must divide"),
        ("tiny-vit", MNIST, {"heads": 5}, "multiple of heads"),
        ("tiny-vit", MNIST, {"pool": "means"}, "Did you mean 'mean'"),
        ("char-gpt", MNIST, {}, "takes character sequences"),
        ("char-gpt", (8,), {"heads": 3}, "multiple of heads"),
        ("lstm", (64,), {}, "takes sequences"),
        ("mlp", (), {}, "input_shape is empty"),
        ("mlp", (0,), {}, "each entry of input_shape must be ≥ 1"),
        ("mlp", (7,), {"widths": [5, 0]}, "each entry of widths must be ≥ 1"),
        ("mlp", (7,), {"activation": "rellu"}, "unknown activation 'rellu'. Did you mean 'relu'"),
        ("mlp", (7,), {"width": [5]}, "no option 'width'. Did you mean 'widths'"),
        ("lenet-300-100", (7,), {"widths": [5]}, "no option 'widths'. It has none"),
        ("resnet-21", CIFAR, {}, "unknown model 'resnet-21'. Did you mean 'resnet-20'"),
    ],
)
def test_refusals(name: str, shape: tuple[int, ...], options: dict[str, Any], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        models.build(name, shape, 10, **options)


@pytest.mark.parametrize("name", models.names())
def test_no_model_takes_zero_classes(name: str) -> None:
    shape = next(case.shape for case in CASES if case.name == name)
    with pytest.raises(UsageError, match="classes must be ≥ 1, got 0"):
        models.build(name, shape, 0)


@pytest.mark.parametrize(
    ("name", "shape", "options", "words"),
    [
        ("mlp", "784", {}, "input_shape must be a sequence"),
        ("mlp", (7.0,), {}, "must be a whole number, got 7.0"),
        ("mlp", (7,), {"widths": 5}, "widths must be a sequence"),
        ("resnet-20", CIFAR, {"width": True}, "must be a whole number, got True"),
        ("wrn-12", MNIST, {"dropout": "0.1"}, "dropout must be a number"),
        (7, (7,), {}, "name must be a string"),
    ],
)
def test_wrong_types(name: Any, shape: Any, options: dict[str, Any], words: str) -> None:
    with pytest.raises(ArgumentTypeError, match=words) as caught:
        models.build(name, shape, 10, **options)
    assert isinstance(caught.value, ParsinetError)


@pytest.mark.parametrize("blocks", [(1, 2), (1, 2, 0)])
def test_three_stages(blocks: tuple[int, ...]) -> None:
    with pytest.raises(UsageError, match="blocks"):
        models.ResNet(CIFAR, 10, blocks=blocks)
