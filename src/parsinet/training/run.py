"""One run from recipe to result: everything in its folder, resumable at any moment."""

import contextlib
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

from rich.console import Console
from torch import nn

from parsinet.distributed import Ranks, device_of, joined, one_message
from parsinet.errors import UsageError
from parsinet.measure import Profile
from parsinet.training import environment
from parsinet.training.assembly import assemble
from parsinet.training.datasets import load_data
from parsinet.training.display import say
from parsinet.training.evaluate import Evaluation
from parsinet.training.folder import RunFolder
from parsinet.training.lock import held
from parsinet.training.loggers import known
from parsinet.training.monitor import Sink
from parsinet.training.networks import finished_model
from parsinet.training.random_state import seeded
from parsinet.training.recipe import Recipe
from parsinet.training.record import read_record
from parsinet.training.session import Session
from parsinet.training.snapshot import differing
from parsinet.training.stopping import RunInterrupted, stop_signals


@dataclass(frozen=True, eq=False)
class RunResult:
    """A finished run. model: plain torch modules, small. seconds: of training alone, wall time. before, after: of the whole training."""

    folder: Path
    recipe: Recipe
    model: nn.Module
    test: Evaluation
    before: Profile
    after: Profile
    seconds: float


def train(
    recipe: Recipe | None,
    out: Path,
    *,
    overwrite: bool = False,
    resume: bool | Literal["auto"] = False,
    console: Console | None = None,
    watch: Sink | None = None,
) -> RunResult:
    """Train by a recipe and leave everything in the folder `out`: recipe.yaml, record.jsonl, model/, checkpoint/.

    With `resume` the run in `out` goes on from its newest whole checkpoint, bitwise as if it had never stopped; `recipe` may then be None,
    else it must be the stored one; with "auto" it goes on if there is one, else it starts, and a run that has ended is read: nothing is
    trained. With `overwrite` a run in `out` is replaced, once the new one is ready to start.

    `watch` is given every event of the record, once it is written; what it raises ends the run, and is its record's reason.

    Under torchrun each process calls this: they train one network together, rank 0 alone looks into the folder, writes and shows, and all
    return the same result. An error on any of them ends the run on all; see docs/distributed.md.

    Torch's threads, its demand for deterministic algorithms and the global random generators (Python, NumPy, torch) are set by the
    recipe for the length of the run and are put back afterwards. This is the only place of the library that seeds them. The folder is
    locked meanwhile, so that no other run touches it.

    Errors: UsageError, DataError, StorageError, StructureError as the parts raise them, StorageError also if another run holds the
    folder; RunError if the model rejects the data, no checkpoint is whole, or the loss is not finite (the message names the checkpoint
    of the last good state); RunInterrupted.
    """
    folder = RunFolder(Path(out))
    with joined() as ranks, contextlib.ExitStack() as stack:
        console = (console or Console()) if ranks.rank == 0 else Console(quiet=True)
        if resume and overwrite:
            raise UsageError("train: overwrite and resume exclude each other. Choose one.")
        goes_on = ranks.first(folder.recipe.is_file) if resume == "auto" else resume
        if resume == "auto" and ranks.first(lambda: folder.complete):
            return _ended(ranks.first(lambda: same_recipe(recipe, folder)), folder)
        settled = partial(_recipe, recipe, folder, overwrite, goes_on)
        ranks.first(settled)  # refused before the folder is made
        if not ranks.first(lambda: stack.enter_context(held(folder.path))):
            say(console, f"The file system of {folder.path} has no locks: see to it that no other run uses this folder.")
        try:
            return _run(ranks.first(settled), folder, goes_on, console, ranks, watch)
        except KeyboardInterrupt as error:
            if not goes_on or str(error):
                raise
            raise RunInterrupted(folder.path) from None


def _run(recipe: Recipe, folder: RunFolder, resume: bool, console: Console, ranks: Ranks, watch: Sink | None) -> RunResult:
    device = environment.usable_device(device_of(recipe.device))
    known(recipe.loggers)  # refused before data are loaded
    with environment.torch_settings(threads=recipe.threads, deterministic=recipe.deterministic), seeded(recipe.seed, device):
        session = Session(assemble(recipe, device, ranks), folder, console, watch)
        with stop_signals(session.request_stop):
            if resume:
                with one_message(ranks):  # what could not be resumed is what it was: nothing has failed in it
                    session.resume()
            with session.recorded(), one_message(ranks):
                if not resume:
                    session.start()
                session.fit()
                outcome = session.conclude()
    return RunResult(folder.path, recipe, outcome.model, outcome.test, outcome.before, outcome.after, session.monitor.watch.seconds)


def _recipe(recipe: Recipe | None, folder: RunFolder, overwrite: bool, resume: bool) -> Recipe:
    if not resume:
        if recipe is None:
            raise UsageError("train: a recipe is needed, unless a run is resumed.")
        folder.check_free(overwrite)
        return recipe
    return same_recipe(recipe, folder, ended=False)


def same_recipe(recipe: Recipe | None, folder: RunFolder, *, ended: bool = True) -> Recipe:
    """The recipe stored in a run's folder, which a given one must equal.

    Errors: UsageError where it does not, where there is no run, and without `ended` for one that has ended.
    """
    stored = folder.stored_recipe(ended=ended)
    for key, there, here in () if recipe is None else differing(stored.plain(), recipe.plain()):
        raise UsageError(
            f"train: the recipe differs from the one stored in {folder.recipe}, which has {key} = {there!r}, not {here!r}. "
            "Go on without a recipe (--resume RUN), or choose another folder."
        )
    return stored


def _ended(recipe: Recipe, folder: RunFolder) -> RunResult:
    """The result of a run that has ended, as its folder tells it."""
    device = environment.usable_device(device_of(recipe.device))
    model = finished_model(folder.path, load_data(recipe.data, recipe.dtype), device, recipe)
    end = next(event for event in reversed(read_record(folder.record)) if event["event"] == "end")
    before, after = (Profile(**end[which], latency=None) for which in ("before", "after"))
    test = Evaluation(end["test_loss"], end["test_error"])
    return RunResult(folder.path, recipe, model, test, before, after, end["train_seconds"])
