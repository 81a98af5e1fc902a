"""The manifest of a checkpoint: lengths and checksums of its files, and of itself."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from parsinet.files import digest, digest_of

FORMAT = 2
MANIFEST = "manifest.json"


class DamagedError(Exception):
    """A checkpoint is not what its manifest says."""


@dataclass(frozen=True)
class Manifest:
    """What a checkpoint says of itself. files: name → (bytes, SHA-256). validation_error: of its epoch, None in the middle of one."""

    step: int
    validation_error: float | None
    files: dict[str, tuple[int, str]]


def make(step: int, validation_error: float | None, contents: Mapping[str, bytes]) -> bytes:
    """The manifest of a checkpoint with such files."""
    files = {name: {"bytes": len(content), "sha256": digest(content)} for name, content in contents.items()}
    told = {"format": FORMAT, "step": step, "validation_error": validation_error, "files": files}
    return json.dumps({**told, "sha256": digest_of(told)}).encode()


def read(path: Path) -> Manifest:
    """The manifest of the checkpoint `path`. Errors: DamagedError for one that is missing, altered or of another format."""
    try:
        told = json.loads((path / MANIFEST).read_bytes())
        known, own = told.pop("format"), told.pop("sha256", None)
    except (OSError, ValueError, RecursionError, KeyError, TypeError, AttributeError):
        raise DamagedError("its manifest is missing or unreadable") from None
    if known != FORMAT:
        raise DamagedError(f"format {known!r} is unknown to this parsinet, which reads format {FORMAT}")
    if own != digest_of({"format": known, **told}):
        raise DamagedError("its manifest was altered")
    try:
        files = {str(name): (int(entry["bytes"]), str(entry["sha256"])) for name, entry in told["files"].items()}
        error = told["validation_error"]
        return Manifest(int(told["step"]), None if error is None else float(error), files)
    except (KeyError, TypeError, ValueError, AttributeError):
        raise DamagedError("its manifest is missing or unreadable") from None


def verified(path: Path, told: Manifest) -> bytes:
    """The content of a file. Errors: DamagedError unless it is the one that was written."""
    length, sha256 = told.files.get(path.name, (0, ""))
    try:
        content = path.read_bytes()
    except OSError:
        raise DamagedError(f"{path.name} is missing or unreadable") from None
    if len(content) != length:
        raise DamagedError(f"{path.name} has {len(content)} bytes instead of {length}")
    if digest(content) != sha256:
        raise DamagedError(f"{path.name} was altered, its SHA-256 differs")
    return content
