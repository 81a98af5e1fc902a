"""Which weights of a model are masked: those of linear layers and convolutions, by the type of their module."""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatchcase

from torch import nn

from parsinet.errors import ArgumentTypeError, UsageError, suggest

TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
KINDS = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d, *TRANSPOSED)


def maskable(model: nn.Module, exclude: Sequence[str] = ()) -> dict[str, nn.Parameter]:
    """Name → weight of every Linear and convolution that trains, in the order of the model; shared ones once.

    exclude: names of layers to leave dense, or patterns of them ("layer1.*"). Weights that another kind of module uses too (tied
    embeddings), and those that are computed (parametrized), are left dense. Biases and norms are never masked.
    Raises UsageError for a pattern that fits no such layer, and if nothing is left; ArgumentTypeError for a single word.
    """
    if isinstance(exclude, str):
        raise ArgumentTypeError(f"exclude must be a list of layer names, got the single word {exclude!r}. Write [{exclude!r}].")
    layers = {name: module for name, module in model.named_modules() if isinstance(module, KINDS) and "weight" in module._parameters}
    for pattern in exclude:
        if not any(fnmatchcase(name, pattern) for name in layers):
            raise UsageError(f"exclude: {pattern!r} fits no Linear or convolution of this model.{suggest(pattern, layers)}")
    foreign = {id(p) for m in model.modules() for key, p in m._parameters.items() if not (isinstance(m, KINDS) and key == "weight")}
    left = {id(module.weight) for name, module in layers.items() if any(fnmatchcase(name, pattern) for pattern in exclude)}
    found: dict[str, nn.Parameter] = {}
    for name, module in layers.items():
        weight = module.weight
        assert isinstance(weight, nn.Parameter)
        if weight.requires_grad and id(weight) not in foreign | left:
            found[f"{name}.weight" if name else "weight"] = weight
            left.add(id(weight))
    if not found:
        raise UsageError("This model has no weight to mask: no trained Linear or convolution is left.")
    return found


def last_layer(model: nn.Module) -> str:
    """The name of the Linear or convolution that is defined last. Raises UsageError if there is none."""
    names: list[str] = [name for name, module in model.named_modules() if isinstance(module, KINDS)]
    if not names:
        raise UsageError("This model has no Linear or convolution.")
    return names[-1]


def unit_dims(model: nn.Module, names: Sequence[str]) -> dict[str, int]:
    """Per weight the dimension that counts output units: 0, and 1 for transposed convolutions."""
    return {name: int(isinstance(model.get_submodule(name.rpartition(".")[0]), TRANSPOSED)) for name in names}
