"""The network a recipe names: fresh, or as a finished run has left it."""

from pathlib import Path

import torch
from torch import Tensor, nn

from parsinet import models, structure
from parsinet.data import Dataset
from parsinet.errors import RunError, UsageError
from parsinet.models.factories import ALIAS
from parsinet.training.folder import RunFolder
from parsinet.training.recipe import DTYPES, Recipe
from parsinet.training.resolve import load_recipe

EXAMPLES = 2
"""So many training inputs does a network see when it is tried and traced."""


def build_model(recipe: Recipe, dataset: Dataset, device: torch.device) -> nn.Module:
    """The original architecture with fresh weights, on the device and in the dtype of the run."""
    return fresh_model(recipe, dataset.train.inputs[:EXAMPLES].to(device), dataset.num_classes)


def fresh_model(recipe: Recipe, inputs: Tensor, classes: int) -> nn.Module:
    """The recipe's model for such inputs, on their device, with the skips and the memory format it asks for."""
    model = models.build(recipe.model.name, inputs.shape[1:], classes, **recipe.model.options)
    model.to(device=inputs.device, dtype=DTYPES[recipe.dtype])
    if recipe.skips:
        structure.add_skips(model, inputs, recipe.skips)
    if recipe.channels_last:
        _to_channels_last(model, recipe)
    return model


def _to_channels_last(model: nn.Module, recipe: Recipe) -> None:
    if not any(parameter.dim() == 4 for parameter in model.parameters()):
        raise UsageError(f"channels_last: model {recipe.model.name!r} has no two-dimensional convolution. Leave it out.")
    model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]


def finished_model(path: Path, dataset: Dataset, device: torch.device, recipe: Recipe) -> nn.Module:
    """The network a finished run has left in its folder, in this run's dtype; torch's random numbers stay as they are."""
    folder = RunFolder(path)
    if not folder.recipe.is_file() or not folder.model.is_dir():
        raise UsageError(f"distill: {path} holds no finished run. Name the folder given to --out of the run whose network is to teach.")
    theirs = load_recipe(folder.recipe)
    with torch.random.fork_rng(devices=[]):
        model = structure.load(folder.model, lambda: build_model(theirs, dataset, device)).to(device, DTYPES[recipe.dtype])
    inputs = dataset.train.inputs[:EXAMPLES].to(device)
    check_output(model, inputs, (*dataset.train.targets[:EXAMPLES].shape, dataset.num_classes), theirs)
    return model


def check_output(model: nn.Module, inputs: Tensor, expected: tuple[int, ...], recipe: Recipe, advice: str = "") -> None:
    """Run the model once; refuse one that rejects the inputs or whose output has another shape than targets × classes.

    advice: what to do about a wrong number of classes, a sentence; without it what a factory is given is told.
    """
    who = f"Model {recipe.model.name!r} does not fit the data"
    training = {module for module in model.modules() if module.training}
    try:
        with torch.no_grad(), torch.random.fork_rng(devices=[]):
            output = model.eval()(inputs)
    except Exception as error:
        reason = next(iter(str(error).strip().splitlines()), "").rstrip(".") or type(error).__name__
        raise RunError(
            f"{who}: inputs of shape {list(inputs.shape)} make it fail ({reason}). Choose another model, or its options."
        ) from error
    finally:
        for module in training:
            module.training = True
    shape = tuple(output.shape) if isinstance(output, Tensor) else type(output).__name__
    if shape != expected:
        told = f"from inputs {list(inputs.shape)} it makes {shape}, where {expected} is needed, one number per class"
        only_classes = isinstance(output, Tensor) and output.shape[:-1] == expected[:-1]
        raise RunError(f"{who}: {told}." + (f" {advice or _way_out(recipe, expected[-1])}" if only_classes else ""))


def _way_out(recipe: Recipe, classes: int) -> str:
    """How a network comes by the right number of outputs."""
    for option in ("classes", ALIAS):
        if option in recipe.model.options:
            return f"Leave out model.{option}, or write --set model.{option}={classes}."
    return (
        f"Its factory is given {classes} if it has an argument classes or {ALIAS}; under another name give it as an option, "
        f"--set model.NAME={classes}."
    )
