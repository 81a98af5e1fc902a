"""Checkpoints: folders that are whole or recognised as damaged; the newest stay, and the best."""

import contextlib
import json
import math
import os
import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load as tensors_from
from safetensors.torch import save as bytes_of

from parsinet import files
from parsinet.errors import RunError, UsageError
from parsinet.training import manifest
from parsinet.training.codec import decode, encode
from parsinet.training.manifest import MANIFEST, DamagedError, Manifest

_STATE, _TENSORS = "state.json", "tensors.safetensors"
_NAME = re.compile(r"([0-9]{6,})-step-[0-9]+")
_AGAIN = "Start the run anew: --overwrite, or overwrite=True."

State = dict[str, Any]


@dataclass(frozen=True)
class Loaded:
    """A checkpoint that was read. warning: a sentence if newer ones were passed over, else None."""

    path: Path
    state: State
    warning: str | None


def save_checkpoint(folder: Path, step: int, state: State, *, keep: int = 2, validation_error: float | None = None) -> Path:
    """Write `state` as `folder/<number>-step-<step>`; of the whole ones the newest `keep` stay, and the one of lowest `validation_error`.

    state.json and tensors.safetensors are written to a temporary folder, then manifest.json with their lengths and SHA-256, and
    the folder is renamed last; all is flushed to the disk on the way. A crash at any moment leaves the older checkpoints.

    Errors: StorageError, after which the older checkpoints are untouched; RunError for a state that cannot be stored; UsageError for
    `keep` below 1.
    """
    if keep < 1:
        raise UsageError(f"save_checkpoint: keep is how many of the newest stay, at least 1, got {keep}.")
    tree, tensors = encode(state)
    contents = {_STATE: json.dumps(tree, allow_nan=False).encode(), _TENSORS: bytes_of(tensors)}
    contents[MANIFEST] = manifest.make(step, validation_error, contents)
    older = checkpoints(folder)
    target = folder / f"{_number(older[-1]) + 1 if older else 1:06d}-step-{step}"
    with files.storage_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        _write_folder(target, contents)
    _clear(folder, keep)
    return target


def load_checkpoint(folder: Path, fault: Callable[[State], str | None] = lambda state: None) -> Loaded:
    """Read the newest whole checkpoint in `folder`.

    fault: what keeps a state that is whole from being used, in words; None if nothing does.

    Errors: RunError if there is none, saying what is wrong with those that are there.
    """
    faults: list[str] = []
    whole = False
    for path in reversed(checkpoints(folder)):
        try:
            state = _read(path)
            reason = fault(state)
            whole = True
        except DamagedError as error:
            reason = str(error)
        if reason is None:
            warning = f"Passed over damaged checkpoints: {', '.join(faults)}. Using {path.name}." if faults else None
            return Loaded(path, state, warning)
        faults.append(f"{path.name} ({reason})")
    if whole:
        raise RunError(
            f"No checkpoint in {folder} is of this run: {', '.join(faults)}. Put recipe.yaml and the data back as they were, or begin "
            "another run in another folder."
        )
    if faults:
        raise RunError(f"No whole checkpoint in {folder}: {', '.join(faults)}. {_AGAIN}")
    raise RunError(f"There is no checkpoint in {folder}. {_AGAIN}")


def checkpoints(folder: Path) -> list[Path]:
    """The checkpoint folders, oldest first, whole or not. Whatever else lies there is nobody's business."""
    if not folder.is_dir():
        return []
    return sorted((path for path in folder.iterdir() if path.is_dir() and _NAME.fullmatch(path.name)), key=_number)


def lowest_error(folder: Path) -> float | None:
    """The lowest validation error of the checkpoints in `folder`; None if none of them knows one."""
    return min((error for _, error in _judged(_whole(folder))), default=None)


def best_checkpoint(folder: Path) -> Path | None:
    """The checkpoint of the lowest validation error, the earliest of several; None if none of them knows one."""
    return min(_judged(_whole(folder)), key=lambda judged: judged[1], default=(None, 0.0))[0]


def read_checkpoint(path: Path) -> State:
    """The state in one checkpoint. Errors: RunError for one that is damaged."""
    try:
        return _read(path)
    except DamagedError as error:
        raise RunError(f"The checkpoint {path} cannot be used: {error}.") from None


def _number(path: Path) -> int:
    return int(path.name.partition("-")[0])


def _whole(folder: Path) -> dict[Path, Manifest]:
    """The checkpoints with a manifest of their own making, oldest first."""
    found = {}
    for path in checkpoints(folder):
        try:
            found[path] = manifest.read(path)
        except DamagedError:
            continue
    return found


def _judged(whole: dict[Path, Manifest]) -> list[tuple[Path, float]]:
    judged = [(path, told.validation_error) for path, told in whole.items() if told.validation_error is not None]
    return [(path, error) for path, error in judged if not math.isnan(error)]


def _clear(folder: Path, keep: int) -> None:
    """Delete what need not stay, and what a crash has left. Each goes out of sight first, so that none is ever seen half deleted."""
    whole = _whole(folder)
    staying = {*list(whole)[-keep:], best_checkpoint(folder)}
    for path in checkpoints(folder):
        if path not in staying:
            with contextlib.suppress(OSError):
                os.replace(path, files.beside(path))
    for path in folder.glob(".[0-9]*"):
        shutil.rmtree(path, ignore_errors=True)


def _write_folder(target: Path, contents: dict[str, bytes]) -> None:
    with files.whole_folder(target) as unfinished:
        for name, content in contents.items():
            files.write_bytes(unfinished / name, content)


def _read(path: Path) -> State:
    told = manifest.read(path)
    contents = {name: manifest.verified(path / name, told) for name in (_STATE, _TENSORS)}
    try:
        state = decode(json.loads(contents[_STATE]), tensors_from(contents[_TENSORS]))
    except (ValueError, RecursionError, RunError, SafetensorError) as error:
        raise DamagedError(str(error)) from None
    if not isinstance(state, dict):
        raise DamagedError(f"its state is a {type(state).__name__}")
    return state
