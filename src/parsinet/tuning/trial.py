"""One trial: a run for each seed, gone on with where it was left, and given up where others do better."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import optuna
from rich.console import Console

from parsinet.errors import ParsinetError, StorageError
from parsinet.training import Recipe, load_recipe, train
from parsinet.training.folder import RunFolder
from parsinet.training.snapshot import foreign
from parsinet.tuning.definition import Definition
from parsinet.tuning.objectives import Measured, measured

PLACE = "trials"


class PrunedError(ParsinetError, RuntimeError):
    """A run was given up: the others of the sweep were better at the same epoch."""


def place_of(folder: Path, number: int) -> Path:
    """Where the runs of a trial lie: `trials/0007`."""
    return folder / PLACE / f"{number:04d}"


def run_trial(trial: optuna.Trial, definition: Definition, params: Mapping[str, Any], folder: Path) -> list[Measured]:
    """Train once for each seed in `folder`/seed-<n>, and return what each measured. What is there already is not trained again.

    Errors: PrunedError; those of `training.train`.
    """
    runs = []
    for seed in definition.seeds:
        watch = _Reports(trial) if definition.pruner != "none" and seed == definition.seeds[0] else None
        place = folder / f"seed-{seed}"
        numbers = _run(definition.recipe(params, seed), place, watch)
        runs.append({"seed": seed, "folder": f"{PLACE}/{folder.name}/{place.name}", **numbers})
    return runs


def _run(recipe: Recipe, place: Path, watch: "_Reports | None") -> Measured:
    """Train, or go on, or only read what the run that is there has measured."""
    run = RunFolder(place)
    begun = run.recipe.is_file()
    if begun:
        _check_same(recipe, run)
    done = measured(place) if begun else None
    if done is None:
        train(None if begun else recipe, place, resume=begun, console=Console(quiet=True), watch=watch)
        done = measured(place)
    assert done is not None, "a run that train has returned from has ended"
    return done


def _check_same(recipe: Recipe, run: RunFolder) -> None:
    if foreign({"recipe": load_recipe(run.recipe).plain()}, recipe) is not None:
        raise StorageError(f"{run.path} holds a run with another recipe than this trial's. Choose another --out.")


class _Reports:
    """Tells the study the validation error of each epoch, and ends the run where the pruner says so."""

    def __init__(self, trial: optuna.Trial) -> None:
        self.trial = trial
        self.known = set(trial.study.get_trials(deepcopy=False)[trial.number].intermediate_values)

    def __call__(self, event: Mapping[str, Any]) -> None:
        if event["event"] != "epoch":
            return
        epoch, error = event["epoch"], event["validation_error"]
        if epoch not in self.known:
            self.trial.report(error, epoch)
        if self.trial.should_prune():
            raise PrunedError(f"Given up after epoch {epoch}, at a validation error of {100 * error:.2f} %: other trials were better there")
