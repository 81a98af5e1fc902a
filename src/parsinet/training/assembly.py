"""From a recipe to everything a training needs: data, model, method, optimizer, pruner, teacher, average."""

import copy
from dataclasses import dataclass
from functools import cached_property
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor, nn

from parsinet import baselines, data, measure, methods
from parsinet.data import Batches, Dataset, Split
from parsinet.distributed import ALONE, Ranks, Replicas
from parsinet.errors import UsageError
from parsinet.methods import Method, Pruner
from parsinet.structure.cautions import LEAST, fragile
from parsinet.training.average import Average
from parsinet.training.compiled import Compiled
from parsinet.training.datasets import build_batches, fold_batches, load_data
from parsinet.training.evaluate import evaluate
from parsinet.training.networks import EXAMPLES, build_model, check_output, finished_model
from parsinet.training.optimizer import build_optimizer
from parsinet.training.precision import Precision
from parsinet.training.recipe import Recipe
from parsinet.training.teacher import DECAY, Teacher

METHODS = MappingProxyType({**methods.METHODS, **baselines.BASELINES})
"""What a recipe may name as its method."""


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
    check_effect(recipe, method)
    if recipe.data.download:
        ranks.first(lambda: load_data(recipe.data) is None)  # the others find the files
    dataset = load_data(recipe.data, recipe.dtype)
    model = build_model(recipe, dataset, device)
    example_inputs = dataset.train.inputs[:EXAMPLES].to(device)
    check_output(model, example_inputs, (*dataset.train.targets[:EXAMPLES].shape, dataset.num_classes), recipe)
    before = measure.profile(model, example_inputs, latency=False)
    if ranks.size == 1:
        check_last_batch(recipe, dataset.train, model, device)
    batches = build_batches(recipe, dataset.train, device, ranks)
    steps = recipe.epochs * steps_per_epoch(recipe, batches)
    precision = Precision(recipe.precision, device)
    teacher = build_teacher(recipe, method, model, dataset, device, steps=steps)
    judge_by_validation(method, model, dataset, device)
    check_format(recipe, method, model)
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


def check_effect(recipe: Recipe, method: Method) -> None:
    """UsageError for settings of removals under a method that removes nothing."""
    for name, given in (("inputs", recipe.inputs), ("fold", recipe.fold != "none")):
        if given and method.settled:
            raise UsageError(f"{name}: nothing leaves under method {method.name!r}, so that it has no effect. Leave it out.")


def check_last_batch(recipe: Recipe, split: Split, model: nn.Module, device: torch.device) -> None:
    """UsageError where the last batch of every epoch is one example, and the model cannot train on one: batch normalisation knows no
    spread of it."""
    batch = min(recipe.data.batch_size, len(split))
    if len(split) % batch != 1 or not any(isinstance(module, nn.modules.batchnorm._BatchNorm) for module in model.modules()):
        return
    try:
        with torch.random.fork_rng(), torch.no_grad():
            copy.deepcopy(model).train()(split.inputs[:1].to(device))
    except ValueError as error:
        other = next(size for size in range(batch + 1, len(split) + 2) if len(split) % size != 1)
        raise UsageError(
            f"data.batch_size: {len(split):,} examples in batches of {batch} leave one at the end of every epoch, on which batch "
            f"normalisation cannot train ({error}). Set data.batch_size: {other}."
        ) from error


def check_format(recipe: Recipe, method: Method, model: nn.Module) -> None:
    """UsageError where channels last would end in a crash of torch that a removal could only announce."""
    layers = fragile(model) if recipe.channels_last and not method.settled and recipe.round_to % LEAST else {}
    if layers:
        raise UsageError(
            f"channels_last: on this processor torch corrupts memory where a strided 1×1 convolution ({next(iter(layers))}) is left with "
            f"fewer than {LEAST} input channels. Set round_to: {LEAST}, or leave channels_last out."
        )


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
