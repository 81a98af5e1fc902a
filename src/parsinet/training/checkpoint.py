"""Checkpoints: folders that are whole or recognised as damaged, the newest two kept."""

import hashlib
import json
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load as tensors_from
from safetensors.torch import save as bytes_of

from parsinet import files
from parsinet.errors import RunError
from parsinet.training.codec import decode, encode

FORMAT = 1
_MANIFEST, _STATE, _TENSORS = "manifest.json", "state.json", "tensors.safetensors"


@dataclass(frozen=True)
class Loaded:
    """A checkpoint that was read. warning: a sentence if newer ones were damaged and passed over, else None."""

    path: Path
    state: dict[str, Any]
    warning: str | None


def save_checkpoint(folder: Path, step: int, state: dict[str, Any], *, keep: int = 2) -> Path:
    """Write `state` as `folder/<number>-step-<step>` and delete all but the newest `keep` checkpoints.

    state.json and tensors.safetensors are written to a temporary folder, then manifest.json with their lengths and SHA-256, and
    the folder is renamed last; all is flushed to the disk on the way. A crash at any moment leaves the older checkpoints.

    Errors: StorageError, after which the older checkpoints are untouched; RunError for a state that cannot be stored.
    """
    tree, tensors = encode(state)
    contents = {_STATE: json.dumps(tree, allow_nan=False).encode(), _TENSORS: bytes_of(tensors)}
    manifest = {name: {"bytes": len(content), "sha256": _digest(content)} for name, content in contents.items()}
    contents[_MANIFEST] = json.dumps({"format": FORMAT, "step": step, "files": manifest}).encode()
    older = checkpoints(folder)
    number = int(older[-1].name.split("-")[0]) + 1 if older else 1
    target = folder / f"{number:06d}-step-{step}"
    with files.storage_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        _write_folder(target, contents)
    for path in [*checkpoints(folder)[:-keep], *folder.glob(".[0-9]*")]:
        shutil.rmtree(path, ignore_errors=True)
    return target


def load_checkpoint(folder: Path) -> Loaded:
    """Read the newest whole checkpoint in `folder`.

    Errors: RunError if there is none, saying what is wrong with those that are there.
    """
    faults: list[str] = []
    for path in reversed(checkpoints(folder)):
        try:
            state = _read(path)
        except _DamagedError as error:
            faults.append(f"{path.name} ({error})")
            continue
        warning = f"Passed over damaged checkpoints: {', '.join(faults)}. Using {path.name}." if faults else None
        return Loaded(path, state, warning)
    if faults:
        raise RunError(f"No whole checkpoint in {folder}: {', '.join(faults)}. Start again with overwrite.")
    raise RunError(f"There is no checkpoint in {folder}. Start the run anew with overwrite.")


def checkpoints(folder: Path) -> list[Path]:
    """The checkpoint folders, oldest first, whole or not."""
    if not folder.is_dir():
        return []
    return sorted(path for path in folder.iterdir() if path.is_dir() and path.name.split("-")[0].isdigit())


class _DamagedError(Exception):
    """A checkpoint is not what its manifest says."""


def _write_folder(target: Path, contents: dict[str, bytes]) -> None:
    unfinished = files.beside(target)
    unfinished.mkdir()
    try:
        for name, content in contents.items():
            files.write_bytes(unfinished / name, content)
        os.replace(unfinished, target)
        files.flush_folder(target.parent)
    except BaseException:
        shutil.rmtree(unfinished, ignore_errors=True)
        raise


def _read(path: Path) -> dict[str, Any]:
    try:
        manifest = json.loads((path / _MANIFEST).read_bytes())
        known = manifest["format"]
        expected = {name: (entry["bytes"], entry["sha256"]) for name, entry in manifest["files"].items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        raise _DamagedError("its manifest is missing or unreadable") from None
    if known != FORMAT:
        raise _DamagedError(f"format {known!r} is unknown to this parsinet")
    contents = {name: _verified(path / name, *expected.get(name, (0, ""))) for name in (_STATE, _TENSORS)}
    try:
        state = decode(json.loads(contents[_STATE]), tensors_from(contents[_TENSORS]))
    except (ValueError, RunError, SafetensorError) as error:
        raise _DamagedError(str(error)) from None
    return dict(state)


def _verified(path: Path, length: int, digest: str) -> bytes:
    try:
        content = path.read_bytes()
    except OSError:
        raise _DamagedError(f"{path.name} is missing or unreadable") from None
    if len(content) != length:
        raise _DamagedError(f"{path.name} has {len(content)} bytes instead of {length}")
    if _digest(content) != digest:
        raise _DamagedError(f"{path.name} was altered, its SHA-256 differs")
    return content


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
