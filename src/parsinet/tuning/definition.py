"""The definition of a sweep: what is tuned, between what, judged how; the same for every worker, and checked before anything runs."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from parsinet.errors import ArgumentTypeError, ParsinetError, UsageError, suggest
from parsinet.training import Recipe, recipe_from, with_values
from parsinet.training.assembly import build_method
from parsinet.training.datasets import load_data
from parsinet.training.networks import EXAMPLES, check_output, fresh_model
from parsinet.training.snapshot import OF_THE_PLACE
from parsinet.tuning.objectives import objectives_from
from parsinet.tuning.space import Entry, Range, space_from

SAMPLERS = ("tpe", "nsga2", "random")
PRUNERS = ("none", "median", "hyperband")


@dataclass(frozen=True)
class Definition:
    """base: the recipe's entries as they were given. seeds: of the runs of each trial. seed: of the sampler."""

    base: Mapping[str, Any]
    space: Mapping[str, Entry]
    objectives: tuple[str, ...]
    seeds: tuple[int, ...]
    sampler: str
    pruner: str
    seed: int

    def recipe(self, params: Mapping[str, Any], seed: int) -> Recipe:
        """The recipe of one run of a trial. Errors: UsageError for values that do not go together."""
        return recipe_from(with_values(self.base, {**params, "seed": seed}))

    @property
    def epochs(self) -> int:
        """The most epochs a trial may have."""
        entry = self.space.get("epochs")
        return self.recipe({}, self.seeds[0]).epochs if entry is None else max(entry.ends())

    def plain(self) -> dict[str, Any]:
        """The definition as plain values, without what belongs to a machine: what all workers must agree on."""
        base = self.recipe({}, self.seeds[0]).plain()
        for place in OF_THE_PLACE:
            *parents, last = place.split(".")
            section: Any = base
            for parent in parents:
                section = section.get(parent) if isinstance(section, dict) else None
            if isinstance(section, dict):
                section.pop(last, None)
        told = {
            "recipe": base,
            "space": {path: entry.plain() for path, entry in self.space.items()},
            "objectives": list(self.objectives),
            "seeds": list(self.seeds),
            "sampler": self.sampler,
            "pruner": self.pruner,
            "seed": self.seed,
        }
        plain: dict[str, Any] = json.loads(json.dumps(told))
        return plain


def define(
    base: Mapping[str, Any],
    space: Mapping[str, Any],
    objectives: Sequence[str],
    *,
    seeds: Sequence[int] | None,
    sampler: str,
    pruner: str,
    seed: int,
) -> Definition:
    """Check a sweep whole: recipe, space, every end of every range and every choice within the recipe, the data and the networks.

    Errors: UsageError that says what to change; those of the parts for a recipe that cannot run as it is.
    """
    recipe = recipe_from(base)
    if recipe.data.validation == 0:
        raise UsageError(
            "tune: trials are judged by a validation split, never by the test split, and the recipe has none. Add data: {validation: 0.1}."
        )
    found = objectives_from(objectives)
    for word, name, known in (("sampler", sampler, SAMPLERS), ("pruner", pruner, PRUNERS)):
        if name not in known:
            raise UsageError(f"tune: there is no {word} {name!r}.{suggest(name, known)}")
    if pruner != "none" and len(found) > 1:
        raise UsageError(
            f"tune: pruner {pruner} needs one number per epoch to tell a bad trial by, but {' and '.join(found)} are two objectives: a "
            "trial with a large error may still be the smallest. Use --objectives error, or --pruner none."
        )
    entries = {path: _fitting(recipe, base, path, entry) for path, entry in space_from(space).items()}
    _try_networks(recipe, base, entries)
    chosen = (recipe.seed,) if seeds is None else _seeds(seeds)
    return Definition(dict(base), entries, found, chosen, sampler, pruner, _seeds([seed])[0])


def _seeds(seeds: Sequence[int]) -> tuple[int, ...]:
    if not isinstance(seeds, Sequence) or not all(isinstance(seed, int) and not isinstance(seed, bool) for seed in seeds):
        raise ArgumentTypeError(f"tune: seeds must be a list of whole numbers, got {seeds!r}.")
    if not seeds or min(seeds) < 0 or len(set(seeds)) < len(seeds):
        raise UsageError(f"tune: seeds must be different whole numbers ≥ 0, at least one, got {list(seeds)}.")
    return tuple(seeds)


def _fitting(recipe: Recipe, base: Mapping[str, Any], path: str, entry: Entry) -> Entry:
    """The entry, tried out in the recipe; a range from whole number to whole number of what may have a fraction has fractions too."""
    for value in entry.ends():
        changed = _within(base, path, value)
        try:
            build_method(changed)
        except ParsinetError as error:
            raise UsageError(f"Space: {path} = {value}: {error}") from error
    if isinstance(entry, Range) and entry.whole and isinstance(_at(changed.plain(), path), float):
        return Range(entry.low, entry.high, False, entry.log, entry.step)
    return entry


def _within(base: Mapping[str, Any], path: str, value: Any) -> Recipe:
    try:
        values = with_values(base, {path: value})
    except UsageError as error:
        raise UsageError(f"Space: {error}") from None
    return recipe_from(values, source=f"Space: {path} = {value}")


def _at(values: Any, path: str) -> Any:
    for key in path.split("."):
        values = values[key]
    return values


def _try_networks(recipe: Recipe, base: Mapping[str, Any], space: Mapping[str, Entry]) -> None:
    """Load the data, and build the network of the recipe and those of every end and choice below `model`; all are forgotten."""
    dataset = load_data(recipe.data, recipe.dtype)
    inputs, targets = dataset.train.inputs[:EXAMPLES], dataset.train.targets[:EXAMPLES]

    def build(changed: Recipe) -> None:
        with torch.random.fork_rng(devices=[]):
            check_output(fresh_model(changed, inputs, dataset.num_classes), inputs, (*targets.shape, dataset.num_classes), changed)

    build(recipe)
    for path, entry in space.items():
        for value in entry.ends() if path.partition(".")[0] in ("model", "skips") else ():
            try:
                build(_within(base, path, value))
            except ParsinetError as error:
                raise UsageError(f"Space: {path} = {value}: {error}") from error
