"""Small recipes for quick runs on digits."""

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from parsinet.training import Recipe, RunResult, recipe_from, train, with_values

SMALL = {"data.source": "digits", "data.batch_size": 128, "model.name": "mlp", "model.widths": [24, 16], "epochs": 2, "threads": 1}
PRUNING = {"method.name": "gates", "method.fall_steps": 10, "method.interval": 3, "method.gated": 0.7, "method.price": 0.01}


Recipes = Callable[..., Recipe]


@pytest.fixture
def small() -> Recipes:
    """Makes a recipe that trains in a fraction of a second; keyword `data__validation` stands for `data.validation`."""

    def recipe(**dotted: Any) -> Recipe:
        return recipe_from(with_values({}, {**SMALL, **{key.replace("__", "."): value for key, value in dotted.items()}}))

    return recipe


@pytest.fixture
def pruning(small: Recipes) -> Recipes:
    """The same with gates that close within a few steps."""

    def recipe(**dotted: Any) -> Recipe:
        return recipe_from(with_values(small(**{"optimizer__lr": 1e-2, "round_to": 1, **dotted}).plain(), PRUNING))

    return recipe


@pytest.fixture
def console() -> Console:
    """A console that is no terminal and keeps what was printed in `console.file`."""
    return Console(file=io.StringIO(), width=200)


@pytest.fixture
def quick(tmp_path: Path, console: Console) -> Callable[..., RunResult]:
    """Train into a new folder below `tmp_path`."""

    def run(recipe: Recipe, name: str = "run", **options: Any) -> RunResult:
        return train(recipe, tmp_path / name, console=console, **options)

    return run
