"""The data a recipe names, and its batches."""

from dataclasses import replace

import torch
from torch import Tensor

from parsinet import data
from parsinet.data import Augmentation, Batches, Dataset, Split
from parsinet.distributed import ALONE, Ranks
from parsinet.training.recipe import DTYPES, DataPart, Recipe

FOLD_EXAMPLES = 1024
"""So many training inputs, evenly spread over the split, give the means that are folded."""


def load_data(part: DataPart, dtype: str = "float32") -> Dataset:
    """The data set, with inputs in `dtype` where they are numbers and not characters.

    Errors: those of `data.load`.
    """
    dataset = data.load(
        part.source, folder=part.folder, validation=part.validation, seed=part.split_seed, block=part.block, download=part.download
    )
    if dtype == "float32" or dataset.task == "language":
        return dataset
    validation = None if dataset.validation is None else _cast(dataset.validation, dtype)
    return replace(dataset, train=_cast(dataset.train, dtype), validation=validation, test=_cast(dataset.test, dtype))


def build_batches(recipe: Recipe, split: Split, device: torch.device, ranks: Ranks = ALONE) -> Batches:
    """Shuffled batches of the training split; of several ranks each has its rows of them."""
    part = recipe.data.augmentation
    augment = Augmentation(**part.model_dump()) if part != type(part)() else None
    return Batches(split, recipe.data.batch_size, seed=recipe.seed, augment=augment, device=device, rank=ranks.rank, world_size=ranks.size)


def fold_batches(recipe: Recipe, split: Split, device: torch.device) -> list[Tensor]:
    """The training inputs over which the means of leaving units are taken, without augmentation: the same at every removal."""
    step = -(-len(split) // FOLD_EXAMPLES)
    return list(torch.split(split.inputs[::step].to(device), recipe.data.batch_size))


def _cast(split: Split, dtype: str) -> Split:
    return Split(split.inputs.to(DTYPES[dtype]), split.targets)
