"""The reference of a sweep: a finished run, dense as a rule, that the picture shows beside the trials."""

from pathlib import Path
from typing import Any

from parsinet.errors import UsageError
from parsinet.training import load_recipe
from parsinet.training.folder import RunFolder
from parsinet.tuning.definition import Definition
from parsinet.tuning.objectives import measured, values_of


def reference_of(path: Path, definition: Definition) -> dict[str, Any]:
    """Name, method and the objectives of a finished run.

    Errors: UsageError if it has not ended, or was judged by other examples than the trials; DataError without a validation split.
    """
    run = RunFolder(path)
    numbers = measured(path) if run.recipe.is_file() else None
    if numbers is None:
        raise UsageError(f"--reference {path} holds no finished run. Name a folder given to `parsinet train --out`.")
    theirs, ours = load_recipe(run.recipe), definition.recipe({}, definition.seeds[0])
    for key in ("source", "validation", "block", "split_seed"):
        there, here = getattr(theirs.data, key), getattr(ours.data, key)
        if there != here:
            raise UsageError(f"--reference {path} has data.{key} = {there!r}, the sweep {here!r}: their errors do not compare.")
    values = dict(zip(definition.objectives, values_of([numbers], definition.objectives), strict=True))
    return {"name": path.resolve().name, "method": theirs.method.name, "values": values}
