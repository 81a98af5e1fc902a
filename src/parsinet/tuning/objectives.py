"""What a sweep minimises: the error on the validation split, and a size of the network that is left."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from parsinet.errors import DataError, UsageError, suggest
from parsinet.training import read_record
from parsinet.training.folder import RunFolder

ERROR = "error"
SIZES = ("macs", "params", "bytes", "latency")
_KEYS = {"error": "validation_error", "macs": "macs", "params": "parameters", "bytes": "bytes", "latency": "latency"}

Measured = dict[str, Any]
"""What one run measured, as `measured` tells it."""


def objectives_from(names: Sequence[str]) -> tuple[str, ...]:
    """Check what is to be minimised: the error alone, or the error and one size.

    Errors: UsageError.
    """
    for name in names:
        if name not in (ERROR, *SIZES):
            raise UsageError(f"tune: there is no objective {name!r}.{suggest(name, (ERROR, *SIZES))}")
    if tuple(names) != (ERROR,) and not (len(names) == 2 and names[0] == ERROR and names[1] in SIZES):
        raise UsageError(
            f"tune: objectives must be error, or error and one of {', '.join(SIZES)}, got {','.join(names) or 'none'}. "
            "A size alone is smallest where nothing is learned."
        )
    return tuple(names)


def measured(folder: Path) -> Measured | None:
    """What a finished run in `folder` measured on its validation split and of its result; None if the run has not ended.

    validation_error: fraction of targets missed. parameters, macs, bytes: of the result, before: of the network before training.
    latency: median seconds of one forward pass of one example. The test error is not looked at.

    Errors: DataError if the run has no validation split, or a number is not finite.
    """
    run = RunFolder(folder)
    if not run.record.is_file():
        return None
    end = next((event for event in read_record(run.record) if event["event"] == "end"), None)
    if end is None:
        return None
    try:
        numbers = {"validation_error": float(end["validation_error"]), **_size(end["after"])}
        latency = next(float(row["after"]["median"]) for row in end["latency"] if row["batch"] == 1)
        return {**numbers, "latency": latency, "train_seconds": float(end["train_seconds"]), "before": _size(end["before"])}
    except (KeyError, TypeError, StopIteration, ValueError) as error:
        if end.get("validation_error") is None:
            raise DataError(f"{run.record}: the run held no examples out (data.validation), so it has no validation error.") from None
        raise DataError(f"{run.record}: the end of the run has no validation error, size or latency ({error!r}).") from None


def values_of(runs: Sequence[Measured], objectives: Sequence[str]) -> list[float]:
    """Each objective, as its mean over the runs of one trial, which differ by their seeds."""
    return [fmean(run[_KEYS[name]] for run in runs) for name in objectives]


def _size(numbers: Mapping[str, Any]) -> dict[str, int]:
    return {key: int(numbers[key]) for key in ("parameters", "macs", "bytes")}
