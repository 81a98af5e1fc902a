"""All that a resume needs, taken from a run and put back into a freshly assembled one; what is said where that is not exact."""

from collections.abc import Iterator, Mapping
from typing import Any

from parsinet.errors import ParsinetError, RunError
from parsinet.training import environment
from parsinet.training.assembly import Assembly
from parsinet.training.monitor import Monitor
from parsinet.training.random_state import random_state, set_random_state
from parsinet.training.recipe import Recipe
from parsinet.training.state import LoopState

OF_THE_PLACE = ("data.source", "data.folder", "data.download", "distill.teacher", "device", "threads", "checkpoint", "loggers")
"""Entries of a recipe that may change between two parts of a run, with what lies below them: where it goes on, not what it does."""


def snapshot(parts: Assembly, state: LoopState, monitor: Monitor) -> dict[str, Any]:
    """The state of a run, for a checkpoint; call it between two steps, after a reading of the tally."""
    return {
        "recipe": parts.recipe.plain(),
        "versions": environment.versions(),
        "machine": environment.machine(parts.device),
        "processes": parts.ranks.size,
        "data": parts.fingerprint,
        "model": dict(parts.model.state_dict()),
        "optimizer": parts.optimizer.state_dict(),
        "pruner": parts.pruner.state_dict(),
        "teacher": None if parts.teacher is None else parts.teacher.state_dict(),
        "average": None if parts.average is None else parts.average.state_dict(),
        "precision": parts.precision.state_dict(),
        "batches": parts.batches.state_dict(),
        "loop": state.state_dict(),
        "monitor": monitor.state_dict(state),
        "random": random_state(parts.device),
    }


def restore(saved: Mapping[str, Any], parts: Assembly, state: LoopState, monitor: Monitor) -> None:
    """Put a snapshot into a freshly assembled run: first the removals, so that all shapes fit, the generators last.

    Errors: RunError for a snapshot that does not fit, as one of another version of parsinet may not.
    """
    try:
        restore_network(saved, parts)
        parts.optimizer.load_state_dict(saved["optimizer"])
        parts.precision.load_state_dict(saved["precision"])
        parts.batches.load_state_dict(saved["batches"])
        state.load_state_dict(saved["loop"])
        monitor.load_state_dict(saved["monitor"], state)
        set_random_state(saved["random"])
    except ParsinetError:
        raise
    except Exception as error:
        raise _unfit(error) from error


def restore_network(saved: Mapping[str, Any], parts: Assembly) -> None:
    """The part of `restore` that makes the network what it was."""
    try:
        parts.pruner.load_state_dict(saved["pruner"])
        parts.model.load_state_dict(saved["model"])
        if parts.teacher is not None:
            parts.teacher.load_state_dict(saved["teacher"])
        if parts.average is not None:
            parts.average.load_state_dict(saved["average"], parts.model)
    except ParsinetError:
        raise
    except Exception as error:
        raise _unfit(error) from error


def foreign(saved: Mapping[str, Any], recipe: Recipe, data: Mapping[str, Any] | None = None) -> str | None:
    """Why a snapshot is not one of this recipe, or not of these data; None if it is. Where a run goes on may change (`OF_THE_PLACE`).

    data: the fingerprint of the training split; its inputs need not be equal bit by bit. A single entry that the snapshot's parsinet
    did not know yet counts as its default.
    """
    theirs = saved.get("recipe")
    if not isinstance(theirs, dict):
        return "it holds no state of a run"
    usual = {key: value for key, value in Recipe().plain().items() if not isinstance(value, Mapping)}
    for key, there, here in differing({**usual, **theirs}, recipe.plain()):
        if not any(f"{key}.".startswith(f"{place}.") for place in OF_THE_PLACE):
            return f"its recipe has {key} = {there!r}, the run's recipe.yaml {here!r}"
    then = saved.get("data")
    if data is None or then is None:
        return None
    if then["examples"] != data["examples"]:
        return f"it was trained on {then['examples']:,} examples, now there are {data['examples']:,}"
    return None if then["targets"] == data["targets"] else "the targets of its training examples are not those there are now"


def differing(there: Mapping[str, Any], here: Mapping[str, Any]) -> Iterator[tuple[str, Any, Any]]:
    """The entries in which two recipes, as plain values, differ: dotted path and both values, None for an absent one."""
    theirs, ours = dict(_entries(there)), dict(_entries(here))
    for key in sorted({*theirs, *ours}):
        if theirs.get(key) != ours.get(key):
            yield key, theirs.get(key), ours.get(key)


def elsewhere(saved: Mapping[str, Any], parts: Assembly) -> str | None:
    """One sentence if the run goes on with other versions or inputs or on another machine than the snapshot's; None if on the same."""
    here = {**environment.versions(), **environment.machine(parts.device), "processes": parts.ranks.size}
    there = {**saved.get("versions", {}), **saved.get("machine", {}), "processes": saved.get("processes", 1)}
    told = ("torch", "parsinet", "processor", "threads", "processes")
    changed = [f"{key} {there.get(key)} → {here[key]}" for key in told if here[key] != there.get(key)]
    if saved.get("data", parts.fingerprint)["inputs"] != parts.fingerprint["inputs"]:
        changed.append("the inputs of the training examples")
    if not changed:
        return None
    return f"Not as when the checkpoint was written: {', '.join(changed)}. The run goes on, but bitwise equality is no longer promised."


def _unfit(error: Exception) -> RunError:
    reason = next(iter(str(error).strip().splitlines()), "").rstrip(".")
    return RunError(f"The checkpoint does not fit this run ({type(error).__name__}: {reason}). Was it written by another parsinet?")


def _entries(values: Mapping[str, Any], place: str = "") -> Iterator[tuple[str, Any]]:
    """Every value of a nested mapping with its dotted path."""
    for key, value in values.items():
        if isinstance(value, Mapping) and value:
            yield from _entries(value, f"{place}{key}.")
        else:
            yield f"{place}{key}", value
