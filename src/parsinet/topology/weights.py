"""Which weights of a model are masked: those of linear layers and convolutions, by the type of their module."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase

from torch import nn

from parsinet.errors import ArgumentTypeError, UsageError, few, suggest

TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
KINDS = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d, *TRANSPOSED)
COMPUTED = "its weight is computed (parametrized)"
FROZEN = "it is frozen"
TIED = "another kind of module uses its weight too"


def maskable(model: nn.Module, exclude: Sequence[str] = ()) -> dict[str, nn.Parameter]:
    """Name → weight of every Linear and convolution that trains, in the order of the model; shared ones once.

    exclude: names of layers to leave dense, or patterns of them ("layer1.*"). Weights that another kind of module uses too (tied
    embeddings), and those that are computed (parametrized), are left dense. Biases and norms are never masked.
    Raises UsageError for a pattern that fits no such layer, and if nothing is left; ArgumentTypeError for a single word.
    """
    reasons = _reasons(model, exclude)
    found: dict[str, nn.Parameter] = {}
    taken: set[int] = set()
    for name in (name for name, reason in reasons.items() if not reason):
        weight = model.get_submodule(name).weight
        assert isinstance(weight, nn.Parameter)
        if id(weight) not in taken:
            found[f"{name}.weight" if name else "weight"] = weight
            taken.add(id(weight))
    if not found:
        told = few([f"{name or 'the model'}: {reason}" for name, reason in reasons.items()], "; ") or "no layer is left"
        raise UsageError(f"This model has no weight to mask: masked are those of Linear and convolution layers that train ({told}).")
    return found


def left_dense(model: nn.Module, exclude: Sequence[str] = ()) -> dict[str, str]:
    """Name → why its weight is not masked, for every Linear and convolution that is left dense although `exclude` does not name it.

    Raises as `maskable` for what `exclude` holds.
    """
    return {name: reason for name, reason in _reasons(model, exclude).items() if reason}


def _reasons(model: nn.Module, exclude: Sequence[str]) -> dict[str, str]:
    """Name → why it stays dense, "" if it does not, of every Linear and convolution whose weight is not excluded."""
    layers = {name: module for name, module in model.named_modules() if isinstance(module, KINDS)}
    excluded = _fitting(layers, exclude)
    weights = {name: module._parameters.get("weight") for name, module in layers.items()}
    left = {id(weights[name]) for name in excluded if weights[name] is not None}
    foreign = {id(p) for m in model.modules() for key, p in m._parameters.items() if not (isinstance(m, KINDS) and key == "weight")}
    return {
        name: COMPUTED if weight is None else TIED if id(weight) in foreign else "" if weight.requires_grad else FROZEN
        for name, weight in weights.items()
        if name not in excluded and id(weight) not in left
    }


def _fitting(layers: Mapping[str, nn.Module], exclude: Sequence[str]) -> set[str]:
    """Names of the layers that `exclude` fits. Raises as `maskable`."""
    if isinstance(exclude, str):
        raise ArgumentTypeError(f"exclude must be a list of layer names, got the single word {exclude!r}. Write [{exclude!r}].")
    for pattern in exclude:
        if not any(fnmatchcase(name, pattern) for name in layers):
            raise UsageError(f"exclude: {pattern!r} fits no Linear or convolution of this model.{suggest(pattern, layers)}")
    return {name for name in layers if any(fnmatchcase(name, pattern) for pattern in exclude)}


def last_layer(model: nn.Module) -> str:
    """The name of the Linear or convolution that is defined last. Raises UsageError if there is none."""
    names: list[str] = [name for name, module in model.named_modules() if isinstance(module, KINDS)]
    if not names:
        raise UsageError("This model has no Linear or convolution.")
    return names[-1]


def unit_dims(model: nn.Module, names: Sequence[str]) -> dict[str, int]:
    """Per weight the dimension that counts output units: 0, and 1 for transposed convolutions."""
    return {name: int(isinstance(model.get_submodule(name.rpartition(".")[0]), TRANSPOSED)) for name in names}
