"""A suite: methods that train the same network on the same data under one recipe, from a YAML file."""

import re
from collections.abc import Mapping
from importlib import resources
from itertools import product
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError

from parsinet.bench.peers import PEERS
from parsinet.errors import UsageError, suggest
from parsinet.training import read_values, recipe_from, with_values
from parsinet.training.assembly import build_method
from parsinet.training.recipe import Recipe
from parsinet.training.recipe_parts import Count, Part, Positive, Share, Whole

OWN = ("method", "optimizer", "model", "fold", "fold_approximate", "round_to", "peer")
"""Sections of a recipe that a row may set for itself. Everything else is common: data, epochs, batches, schedule, seed."""
ABSENT = ("distill", "average", "compile", "accumulate", "precision")
"""What one training of a suite knows nothing of."""


class Strength(Part):
    """How small a row makes the network.

    option: where the number goes, as a dotted path. trials: the strengths tried on the validation split. values: the strengths of the
    table; without them the trials say which strength leaves each of the suite's sizes.
    """

    option: Annotated[str, Field(min_length=1)]
    trials: Annotated[tuple[Any, ...], Field(min_length=1)]
    values: tuple[Any, ...] | None = None


class Row(Part):
    """One method. settings: dotted path → value, what it sets beside the common recipe. tune: candidates for further settings."""

    settings: dict[str, Any] = Field(default_factory=dict)
    strength: Strength | None = None
    tune: Annotated[tuple[dict[str, Any], ...], Field(min_length=1)] = ({},)

    @property
    def peer(self) -> str | None:
        """Another library's name, if that does the work."""
        return self.settings.get("peer.name")

    @property
    def strengths(self) -> tuple[Any, ...]:
        """What is tried."""
        return (None,) if self.strength is None else self.strength.trials

    def paths(self) -> set[str]:
        """Every dotted path the row sets."""
        option = () if self.strength is None else (self.strength.option,)
        return {*self.settings, *option, *(path for candidate in self.tune for path in candidate)}


class Suite(Part):
    """What is compared.

    recipe: common to all rows. size: what counts as a network's size. sizes: at which errors are compared. errors: at which sizes are
    compared (fractions; nats per target where metric is loss). trials: trainings on the validation split that every row gets;
    validation: the share of the training split that is held out for them.
    """

    title: str
    recipe: dict[str, Any]
    rows: Annotated[dict[str, Row], Field(min_length=1)]
    size: Literal["parameters", "nonzeros", "macs"] = "parameters"
    metric: Literal["error", "loss"] = "error"
    sizes: Annotated[tuple[Count, ...], Field(min_length=1)]
    errors: tuple[Positive, ...] = ()
    seeds: Annotated[tuple[Whole, ...], Field(min_length=1)] = (0, 1, 2)
    trials: Count
    validation: Share = 0.2

    def settings(self, row: Row, candidate: Mapping[str, Any], strength: Any) -> dict[str, Any]:
        """The recipe of a training as plain values, seed and held-out share still open."""
        given = {**row.settings, **candidate} | ({} if row.strength is None else {row.strength.option: strength})
        return with_values(self.recipe, given)


def names() -> tuple[str, ...]:
    """Suites that come with parsinet."""
    return tuple(sorted(entry.name.removesuffix(".yaml") for entry in _folder().iterdir() if entry.name.endswith(".yaml")))


def load(name: str) -> Suite:
    """A suite by name, or by the path of a YAML file.

    Errors: UsageError for an unknown name, a key or value that cannot be used, in any of a row's trainings, a row that sets what is common
    to all, and a row that would get more or fewer trials than the others.
    """
    if name.endswith((".yaml", ".yml")):
        values = read_values(Path(name))
    elif name in names():
        with resources.as_file(_folder() / f"{name}.yaml") as path:
            values = read_values(path)
    else:
        raise UsageError(f"There is no suite {name!r}.{suggest(name, names())} A suite of your own is named by its .yaml file.")
    try:
        suite = Suite.model_validate(values)
    except ValidationError as error:
        finding = error.errors(include_url=False)[0]
        raise UsageError(f"Suite {name}: {'.'.join(map(str, finding['loc']))}: {finding['msg']}, got {finding['input']!r}.") from None
    for title, row in suite.rows.items():
        _check(f"Suite {name}, row {title!r}", suite, row)
    return suite


def recipe_of(settings: Mapping[str, Any], who: str) -> Recipe:
    """The checked recipe of settings; the part that tells another library what to do is not its business."""
    return recipe_from({key: value for key, value in settings.items() if key != "peer"}, source=who)


def _check(who: str, suite: Suite, row: Row) -> None:
    for path in sorted(row.paths()):
        if path.split(".")[0] not in OWN:
            raise UsageError(f"{who} sets {path}, which all rows share. A row may set {', '.join(OWN)}.")
    if len(row.strengths) * len(row.tune) != suite.trials:
        raise UsageError(
            f"{who} has {len(row.strengths)} strengths × {len(row.tune)} candidates to try, but every row gets {suite.trials} trials."
        )
    for key in ABSENT:
        if key in suite.recipe:
            raise UsageError(f"{who}: the recipe sets {key}, which suites do not train with. Leave it out.")
    values = () if row.strength is None else row.strength.values or ()
    for candidate, strength in product(row.tune, (*row.strengths, *values)):
        settings = suite.settings(row, candidate, strength)
        try:
            build_method(recipe_of(settings, who))
            _check_peer(dict(settings.get("peer", {})))
        except UsageError as error:
            message = str(error)
            raise UsageError(message if message.startswith(who) else f"{who}: {message}") from None


def _check_peer(given: dict[str, Any]) -> None:
    """UsageError for another library that is not known, and for options it has not or lacks."""
    if given:
        name = given.pop("name", None)
        if name not in PEERS:
            raise UsageError(f"There is no peer {name!r}.{suggest(str(name), PEERS)}")
        PEERS[name].options_from(given)


def slug(title: str) -> str:
    """A row's name as part of a file name."""
    return re.sub(r"[^a-z0-9]+", "-", title.lower()).strip("-")


def _folder() -> resources.abc.Traversable:
    return resources.files("parsinet.bench").joinpath("suites")
