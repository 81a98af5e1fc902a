"""Models by name: the table of the zoo and the one door that builds from it."""

import inspect
from collections.abc import Callable, Sequence
from typing import Any

from torch import nn

from parsinet.errors import ArgumentTypeError, UsageError, suggest
from parsinet.models.factories import build_from_factory
from parsinet.models.gpt import CharGPT
from parsinet.models.lenet import LeNet5Caffe, lenet_300_100
from parsinet.models.lstm import LSTMClassifier
from parsinet.models.mlp import MLP
from parsinet.models.resnet import resnet_20, resnet_56, wrn_12, wrn_18, wrn_22
from parsinet.models.vgg import VGGSmall
from parsinet.models.vit import TinyViT

ZOO: dict[str, Callable[..., nn.Module]] = {
    "char-gpt": CharGPT,
    "lenet-300-100": lenet_300_100,
    "lenet-5-caffe": LeNet5Caffe,
    "lstm": LSTMClassifier,
    "mlp": MLP,
    "resnet-20": resnet_20,
    "resnet-56": resnet_56,
    "tiny-vit": TinyViT,
    "vgg-small": VGGSmall,
    "wrn-12": wrn_12,
    "wrn-18": wrn_18,
    "wrn-22": wrn_22,
}


def names() -> tuple[str, ...]:
    """The names `build` knows, in alphabetical order."""
    return tuple(sorted(ZOO))


def build(name: str, input_shape: Sequence[int], classes: int, **options: Any) -> nn.Module:
    """A new model for examples of `input_shape` (without the batch) and `classes` outputs.

    `name` is one of `names()`, or `package.module:factory`: the user's own function or module class, imported with the current
    folder first on the path, as `python -m` does, and called with `input_shape` and `classes` (or `num_classes`) where it accepts them,
    and the options.
    Weights are drawn from torch's global generator; seed it before for a repeatable model.
    Raises UsageError or ArgumentTypeError for an unknown name or option, and for a shape the model cannot take.
    """
    if not isinstance(name, str):
        raise ArgumentTypeError(f"models.build: name must be a string, got {name!r}.")
    if ":" in name:
        return build_from_factory(name, input_shape, classes, options)
    if name not in ZOO:
        raise UsageError(f"models.build: unknown model {name!r}.{suggest(name, ZOO)} Your own model: package.module:factory.")
    known = [option for option in inspect.signature(ZOO[name]).parameters if option not in ("input_shape", "classes")]
    for option in options:
        if option not in known:
            hint = suggest(option, known) or " It has none."
            raise UsageError(f"models.build: model {name!r} has no option {option!r}.{hint}")
    return ZOO[name](input_shape, classes, **options)
