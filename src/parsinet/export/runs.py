"""What is exported: the network of a finished run with its own test examples, or a saved folder with random ones."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from parsinet import models, structure
from parsinet.errors import DataError, UsageError
from parsinet.export.card import Facts
from parsinet.structure.storage import STRUCTURE
from parsinet.training import load_recipe, read_record
from parsinet.training.datasets import load_data
from parsinet.training.folder import RunFolder
from parsinet.training.networks import fresh_model

EXAMPLES = 128
"""So many test examples are compared."""


@dataclass(frozen=True, eq=False)
class Exportable:
    """A network, in evaluation mode on the processor, with inputs [examples, …] to compare on. real: whether they are the run's own data.

    factory: builds the original architecture, for `parsinet.load` and `export.load_csr`.
    """

    model: nn.Module
    inputs: Tensor
    real: bool
    facts: Facts
    factory: Callable[[], nn.Module]


def of_run(run: str | Path, *, random_inputs: bool = False) -> Exportable:
    """The finished network of a run, and the first 128 of its test examples; with `random_inputs` random numbers of their shape instead.

    Errors: UsageError if the folder holds no run or one that has not ended; DataError if its data are not found; StorageError for a damaged
    model.
    """
    folder = RunFolder(Path(run))
    start, end = _events(folder)
    recipe = load_recipe(folder.recipe)
    dataset = start["dataset"]
    shape, classes, dtype = tuple(dataset["input_shape"]), int(dataset["classes"]), getattr(torch, recipe.dtype)
    facts: dict[str, Any] = {"name": recipe.model.name.rpartition(":")[2], "dataset": dataset["name"], "start": start, "end": end}
    if "labels" in dataset:
        facts |= {"task": dataset["task"], "classes": tuple(dataset["labels"])}
        facts |= {key: tuple(dataset[key]) for key in ("mean", "std")}
        facts |= {"divided_by": dataset.get("divided_by", 1)}
    if random_inputs:
        trial = _inputs_for(lambda x: fresh_model(recipe, x, classes), shape, classes, dtype)
    else:
        try:
            loaded = load_data(recipe.data, recipe.dtype)
        except DataError as error:
            raise DataError(f"{error} Or compare on random numbers: --random-inputs.") from error
        if (loaded.input_shape, loaded.num_classes) != (shape, classes):
            raise DataError(
                f"The data of {run} have changed since it was trained: then {classes} classes and examples {list(shape)}, now "
                f"{loaded.num_classes} and {list(loaded.input_shape)}. Put them back, or compare on random numbers: --random-inputs."
            )
        known = {name: getattr(loaded, name) for name in ("task", "classes", "mean", "std", "divided_by")}
        facts = {**known, **facts}
        trial = loaded.test.inputs[:EXAMPLES]

    def factory() -> nn.Module:
        return fresh_model(recipe, trial[:2], classes)

    return Exportable(_loaded(folder.model, factory), trial, not random_inputs, Facts(**facts), factory)


def of_folder(
    folder: str | Path, name: str, input_shape: Sequence[int], classes: int, options: Mapping[str, Any] | None = None
) -> Exportable:
    """The network that `parsinet.save` has left in a folder, with random inputs. name … options: as for `models.build`.

    Inputs are normal numbers; where the network takes none such, whole numbers below `classes`.
    Errors: those of `models.build` and `parsinet.load`.
    """
    folder, shape = Path(folder), tuple(input_shape)

    def factory() -> nn.Module:
        return models.build(name, shape, classes, **(options or {}))

    trial = _inputs_for(lambda _: factory(), shape, classes, torch.float32)
    return Exportable(_loaded(folder, factory), trial, False, Facts(name=name.rpartition(":")[2]), factory)


def _events(folder: RunFolder) -> tuple[dict[str, Any], dict[str, Any]]:
    """The first and last event of a run that has ended."""
    path = folder.path
    if not folder.recipe.is_file():
        if (path / STRUCTURE).is_file():
            raise UsageError(
                f"{path} is a saved network, which does not say what built it. Add --model NAME --input-shape C,H,W (and --classes, --set)."
            )
        raise UsageError(f"{path} holds no run. Name the folder given to `parsinet train --out`, or one that parsinet.save has written.")
    events = read_record(folder.record) if folder.record.exists() else []
    if not events or events[-1]["event"] != "end":
        epochs = sum(event["event"] == "epoch" for event in events)
        raise UsageError(
            f"The run in {path} has not ended ({epochs} epochs done). Go on with: parsinet train --resume {path}. "
            "The network of its newest checkpoint: parsinet.training.recover."
        )
    return events[0], events[-1]


def _loaded(folder: Path, factory: Callable[[], nn.Module]) -> nn.Module:
    """The saved network; torch's random numbers stay as they are."""
    with torch.random.fork_rng(devices=[]):
        return structure.load(folder, factory).eval()


def _inputs_for(build: Callable[[Tensor], nn.Module], shape: tuple[int, ...], classes: int, dtype: torch.dtype) -> Tensor:
    """Random examples that the network takes: normal numbers, else whole numbers below `classes`."""
    generator = torch.Generator().manual_seed(0)
    normal = torch.randn(EXAMPLES, *shape, generator=generator, dtype=dtype)
    whole = torch.randint(classes, (EXAMPLES, *shape), generator=generator)
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        model = build(normal[:2]).eval()
        try:
            model(normal[:2])
        except (RuntimeError, TypeError, IndexError):
            return whole
    return normal
