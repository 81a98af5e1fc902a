"""The network in a checkpoint, finished, without training: of a run that was given up, or at its best epoch."""

from pathlib import Path

from torch import nn

from parsinet.errors import UsageError
from parsinet.training import environment
from parsinet.training.assembly import assemble
from parsinet.training.checkpoint import best_checkpoint, load_checkpoint, read_checkpoint
from parsinet.training.folder import RunFolder
from parsinet.training.random_state import seeded
from parsinet.training.resolve import load_recipe
from parsinet.training.snapshot import foreign, restore_network


def recover(run: str | Path, *, best: bool = False) -> nn.Module:
    """The network of the newest whole checkpoint of a run, or of the one with the lowest validation error, as plain modules.

    The method finishes it as it would at the end of the run: what it has not decided yet is decided. Nothing in the folder changes, so
    the run may be resumed afterwards. Weights are those of training; an average (`average:`) is of the end of a run.

    Errors: UsageError if the folder holds no run, or no checkpoint that knows a validation error; RunError if none is whole.
    """
    folder = RunFolder(Path(run))
    if not folder.recipe.is_file():
        raise UsageError(f"{folder.path} holds no run. Name the folder given to --out.")
    recipe = load_recipe(folder.recipe)
    if best:
        path = best_checkpoint(folder.checkpoint)
        if path is None:
            raise UsageError(f"No checkpoint in {folder.checkpoint} knows a validation error: best needs data.validation, and an epoch.")
        state = read_checkpoint(path)
    else:
        state = load_checkpoint(folder.checkpoint, lambda found: foreign(found, recipe)).state
    device = environment.usable_device(recipe.device)
    with seeded(recipe.seed, device):
        parts = assemble(recipe, device)
        restore_network(state, parts)
        return parts.pruner.finish()
