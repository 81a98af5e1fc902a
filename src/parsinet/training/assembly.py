"""From a recipe to everything a training needs: data, model, method, optimizer, pruner, teacher, average."""

from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor, nn

from parsinet import baselines, data, measure, methods, models, structure
from parsinet.data import Augmentation, Batches, Dataset, Split
from parsinet.distributed import ALONE, Ranks, Replicas
from parsinet.errors import RunError, UsageError
from parsinet.methods import Method, Pruner
from parsinet.training.average import Average
from parsinet.training.compiled import Compiled
from parsinet.training.evaluate import evaluate
from parsinet.training.folder import RunFolder
from parsinet.training.optimizer import build_optimizer
from parsinet.training.precision import Precision
from parsinet.training.recipe import DataPart, Recipe
from parsinet.training.resolve import load_recipe
from parsinet.training.teacher import DECAY, Teacher

EXAMPLES = 2
METHODS = MappingProxyType({**methods.METHODS, **baselines.BASELINES})
"""What a recipe may name as its method."""
FOLD_EXAMPLES = 1024
"""So many training inputs, evenly spread over the split, give the means that are folded."""


@dataclass(frozen=True, eq=False)
class Assembly:
    """A training ready to start. example_inputs: a few training inputs on the device. before: the untouched model's profile.

    replicas: of the model, where several processes train.
    """

    recipe: Recipe
    device: torch.device
    dataset: Dataset
    model: nn.Module
    method: Method
    optimizer: torch.optim.Optimizer
    pruner: Pruner
    teacher: Teacher | None
    average: Average | None
    precision: Precision
    compiled: Compiled | None
    batches: Batches
    example_inputs: Tensor
    before: measure.Profile
    replicas: Replicas | None = None

    @property
    def ranks(self) -> Ranks:
        """The processes that train together."""
        return ALONE if self.replicas is None else self.replicas.ranks

    @cached_property
    def fingerprint(self) -> dict[str, Any]:
        """Of the training split."""
        return data.fingerprint(self.dataset.train)

    @property
    def steps(self) -> int:
        """Optimizer steps of the whole run."""
        return self.recipe.epochs * self.steps_per_epoch

    @property
    def steps_per_epoch(self) -> int:
        """Optimizer steps of one epoch."""
        return steps_per_epoch(self.recipe, self.batches)


def assemble(recipe: Recipe, device: torch.device, ranks: Ranks = ALONE) -> Assembly:
    """Load, build and trace what the recipe names. ranks: the processes that train together, each of which calls this.

    The model's first weights come from torch's global generator, which `train` has seeded.

    Errors: UsageError, DataError, StructureError of the parts; RunError if the model does not take the data.
    """
    if ranks.size > 1 and recipe.compile:
        raise UsageError(f"compile: not with {ranks.size} processes, as DDP is built anew at every removal. Leave compile out.")
    method = build_method(recipe)
    if recipe.data.download:
        ranks.first(lambda: load_data(recipe.data, recipe.seed) is None)  # the others find the files
    dataset = load_data(recipe.data, recipe.seed, recipe.dtype)
    model = build_model(recipe, dataset, device)
    example_inputs = dataset.train.inputs[:EXAMPLES].to(device)
    check_output(model, example_inputs, (*dataset.train.targets[:EXAMPLES].shape, dataset.num_classes), recipe)
    before = measure.profile(model, example_inputs, latency=False)
    batches = build_batches(recipe, dataset.train, device, ranks)
    steps = recipe.epochs * steps_per_epoch(recipe, batches)
    precision = Precision(recipe.precision, device)
    teacher = build_teacher(recipe, method, model, dataset, device, steps=steps)
    judge_by_validation(method, model, dataset, device)
    method.prepare(model)
    replicas = Replicas(model) if ranks.size > 1 else None
    optimizer = build_optimizer(recipe.optimizer, method.param_groups(model))
    pruner = Pruner(
        model if replicas is None else replicas,
        optimizer,
        method,
        example_inputs,
        steps=steps,
        examples=len(dataset.train),
        round_to=recipe.round_to,
        ignored_layers=recipe.ignored_layers,
        inputs=recipe.inputs,
        fold=None if recipe.fold == "none" else recipe.fold,
        fold_inputs=fold_batches(recipe, dataset.train, device) if recipe.fold == "mean" else None,
        approximate=recipe.fold_approximate,
        scaler=precision.scaler,
    )
    lifts = (teacher, build_average(recipe, steps=steps), precision, build_compiled(recipe, model))
    return Assembly(recipe, device, dataset, model, method, optimizer, pruner, *lifts, batches, example_inputs, before, replicas)


def build_method(recipe: Recipe) -> Method:
    """The method with its options; one that draws random numbers gets the recipe's seed unless it is given one of its own."""
    options = recipe.method.options
    kind = METHODS.get(recipe.method.name)
    if kind is not None and "seed" in methods.options_of(kind):
        options = {"seed": recipe.seed, **options}
    try:
        return methods.build_from(METHODS, recipe.method.name, options)
    except TypeError as error:
        raise UsageError(f"Method {recipe.method.name!r}: an option has the wrong type ({error}).") from error


def build_teacher(
    recipe: Recipe, method: Method, model: nn.Module, dataset: Dataset, device: torch.device, *, steps: int
) -> Teacher | None:
    """The teacher of the recipe's `distill`; `model` is still untouched by the method.

    Errors: UsageError if the network is to teach itself once units leave and none will, or if there is no finished run in the folder;
    RunError if that run's network does not fit the data.
    """
    part = recipe.distill
    if part is None:
        return None
    shared = {"weight": part.weight, "temperature": part.temperature}
    if part.teacher is not None:
        return Teacher(finished_model(part.teacher, dataset, device, recipe), **shared)
    if part.begin is None and method.settled:
        raise UsageError(
            f"distill: no unit leaves under method {method.name!r}, so nobody would teach. Set distill.begin or distill.teacher."
        )
    begin = None if part.begin is None else max(1, round(part.begin * steps))
    return Teacher.earlier_self(model, begin=begin, decay=DECAY if part.decay is None else part.decay, **shared)


def finished_model(path: Path, dataset: Dataset, device: torch.device, recipe: Recipe) -> nn.Module:
    """The network a finished run has left in its folder, in this run's dtype; torch's random numbers stay as they are."""
    folder = RunFolder(path)
    if not folder.recipe.is_file() or not folder.model.is_dir():
        raise UsageError(f"distill: {path} holds no finished run. Name the folder given to --out of the run whose network is to teach.")
    theirs = load_recipe(folder.recipe)
    with torch.random.fork_rng(devices=[]):
        model = structure.load(folder.model, lambda: build_model(theirs, dataset, device)).to(device, _dtype(recipe.dtype))
    inputs = dataset.train.inputs[:EXAMPLES].to(device)
    check_output(model, inputs, (*dataset.train.targets[:EXAMPLES].shape, dataset.num_classes), theirs)
    return model


def build_average(recipe: Recipe, *, steps: int) -> Average | None:
    """The recipe's `average`."""
    part = recipe.average
    return None if part is None else Average(begin=round(part.begin * steps), kind=part.kind, decay=part.decay)


def build_compiled(recipe: Recipe, model: nn.Module) -> Compiled | None:
    """The recipe's `compile`."""
    return Compiled(model, settled=recipe.compile == "settled") if recipe.compile else None


def steps_per_epoch(recipe: Recipe, batches: Batches) -> int:
    """Optimizer steps of one epoch: `accumulate` batches each, the last one what is left."""
    return -(-len(batches) // recipe.accumulate)


def judge_by_validation(method: Method, model: nn.Module, dataset: Dataset, device: torch.device) -> None:
    """Give a method that asks for a metric, and has none, the accuracy on the validation split."""
    validation = dataset.validation
    if validation is not None and getattr(method, "metric", judge_by_validation) is None:
        method.metric = lambda: 1 - evaluate(model, validation, device=device).error  # type: ignore[attr-defined]


def build_model(recipe: Recipe, dataset: Dataset, device: torch.device) -> nn.Module:
    """The original architecture with fresh weights, on the device and in the dtype of the run."""
    return fresh_model(recipe, dataset.train.inputs[:EXAMPLES].to(device), dataset.num_classes)


def fresh_model(recipe: Recipe, inputs: Tensor, classes: int) -> nn.Module:
    """The recipe's model for such inputs, on their device, with the skips it asks for."""
    model = models.build(recipe.model.name, inputs.shape[1:], classes, **recipe.model.options)
    model.to(device=inputs.device, dtype=_dtype(recipe.dtype))
    if recipe.skips:
        structure.add_skips(model, inputs, recipe.skips)
    return model


def load_data(part: DataPart, seed: int, dtype: str = "float32") -> Dataset:
    """The data set, with inputs in `dtype` where they are numbers and not characters.

    Errors: those of `data.load`.
    """
    dataset = data.load(part.source, folder=part.folder, validation=part.validation, seed=seed, block=part.block, download=part.download)
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


def check_output(model: nn.Module, inputs: Tensor, expected: tuple[int, ...], recipe: Recipe) -> None:
    """Run the model once; refuse one that rejects the inputs or whose output has another shape than targets × classes."""
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
        raise RunError(f"{who}: from inputs {list(inputs.shape)} it makes {shape}, where {expected} is needed, one number per class.")


def _cast(split: Split, dtype: str) -> Split:
    return Split(split.inputs.to(_dtype(dtype)), split.targets)


def _dtype(name: str) -> torch.dtype:
    return {"float32": torch.float32, "float64": torch.float64}[name]
