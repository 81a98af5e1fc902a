"""A sweep: trials of one recipe over a space, shared by as many workers as run the same call, on one machine or on many."""

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from rich.console import Console

from parsinet.distributed import launched
from parsinet.errors import ArgumentTypeError, MissingExtraError, StorageError, UsageError
from parsinet.files import make_folder
from parsinet.report import Sweep, read_sweep, sweep_report
from parsinet.training import Recipe
from parsinet.tuning.definition import define
from parsinet.tuning.reference import reference_of


def tune(
    recipe: Recipe | Mapping[str, Any],
    space: Mapping[str, Any],
    out: str | Path,
    *,
    trials: int = 20,
    objectives: Sequence[str] = ("error", "macs"),
    seeds: Sequence[int] | None = None,
    sampler: str = "tpe",
    pruner: str = "none",
    seed: int = 0,
    storage: str | None = None,
    name: str | None = None,
    reference: str | Path | None = None,
    console: Console | None = None,
) -> Sweep:
    """Work on a sweep until `trials` trials of it are over, whoever runs them, and leave study.json, a picture and recipes in `out`.

    Every process that makes the same call works on the same study: `storage` is a URL of a database or the path of a journal file, by
    default SQLite in `out`; `name` is the study's there, by default the name of the folder. A call that is repeated goes on. What a worker
    that was killed had in hand is gone on with by the next one, from its checkpoint where the folder is the same.

    recipe: with a validation split, by which alone trials are judged. space: dotted entries → {low, high, log, step} | {choices}.
    objectives: ("error",) or ("error", "macs" | "params" | "bytes" | "latency"). seeds: a run of each trial for each, whose mean counts;
    the recipe's by default. sampler: tpe, nsga2 or random, drawn with `seed`. pruner: none, median or hyperband, with one objective.
    reference: a finished run that the picture shows beside the trials.

    Errors: UsageError, DataError for what is asked, before anything runs; MissingExtraError without Optuna; StorageError for a storage
    that fails, after which finished trials are safe; RunError after `FAILURES` trials in a row that failed; KeyboardInterrupt after
    Ctrl-C, with the running trial given back.
    """
    _check(recipe, space, trials)
    folder, console = Path(out), console or Console()
    base = recipe.plain() if isinstance(recipe, Recipe) else recipe
    definition = define(base, space, objectives, seeds=seeds, sampler=sampler, pruner=pruner, seed=seed)
    beside = None if reference is None else reference_of(Path(reference), definition)
    with _optuna():
        from parsinet.tuning import work

        _take(folder)
        work.work(definition, folder, storage, name or folder.resolve().name, trials, beside, console)
    found = read_sweep(folder)
    sweep_report(folder, console)
    return replace(found, folder=folder)


def _check(recipe: Any, space: Any, trials: Any) -> None:
    for word, value, kind in (("recipe", recipe, (Recipe, Mapping)), ("space", space, Mapping)):
        if not isinstance(value, kind):
            raise ArgumentTypeError(f"tune: {word} must be a mapping, got {type(value).__name__}. Read a file with training.read_values.")
    if isinstance(trials, bool) or not isinstance(trials, int):
        raise ArgumentTypeError(f"tune: trials must be a whole number, got {trials!r}.")
    if trials < 1:
        raise UsageError(f"tune: trials must be ≥ 1, got {trials}. It counts all trials of the sweep, those of earlier calls included.")
    if launched() > 1:
        raise UsageError("tune: not under torchrun. Workers share a sweep through its storage: start the same command several times.")


@contextlib.contextmanager
def _optuna() -> Any:
    """Optuna without its own messages, which are put back afterwards."""
    try:
        import optuna
    except ImportError as error:
        raise MissingExtraError("parsinet tune needs Optuna: pip install 'parsinet[tune]'.") from error
    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        yield
    finally:
        optuna.logging.set_verbosity(before)


def _take(folder: Path) -> None:
    """Make the folder; refuse one that holds something else than a sweep."""
    if folder.exists() and not folder.is_dir():
        raise StorageError(f"{folder} is a file. Choose a folder for the sweep.")
    if (folder / "recipe.yaml").exists() or (folder / "record.jsonl").exists():
        raise UsageError(f"{folder} holds a run, not a sweep. Choose another folder.")
    make_folder(folder)
