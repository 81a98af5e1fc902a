"""Files that are either whole or absent: write beside the target, flush to the disk, rename; and checksums, which tell."""

import contextlib
import errno
import hashlib
import json
import os
import secrets
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from parsinet.errors import StorageError

UNABLE = {errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP}
"""What file systems answer, mostly of networks, that cannot flush a folder."""

FULL = {errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC)}
"""What file systems answer where there is no room left."""


def digest(content: bytes) -> str:
    """SHA-256 in hexadecimal digits."""
    return hashlib.sha256(content).hexdigest()


def digest_of(values: Mapping[str, Any]) -> str:
    """The digest of values as JSON, whatever the order of their keys."""
    return digest(json.dumps(values, sort_keys=True).encode())


@contextlib.contextmanager
def storage_errors(path: Path) -> Iterator[None]:
    """Turn an operating-system error (full disk, read-only folder) into one sentence that names the path."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error)
        way_out = "Free space or choose another folder" if error.errno in FULL else "Choose another folder"
        raise StorageError(f"Cannot write {path}: {reason}. {way_out}.") from error


def make_folder(path: Path) -> None:
    """Create `path` and its parents."""
    with storage_errors(path):
        path.mkdir(parents=True, exist_ok=True)


def write_bytes(path: Path, content: bytes) -> None:
    """Write `content` to `path` atomically: a reader, or a crash at any moment, sees the old file or the new one.

    The temporary file lies in the same folder, is flushed to the disk (fsync) and renamed (`os.replace`); the
    folder is flushed last, so that the rename survives a power cut.
    """
    with storage_errors(path):
        unfinished = beside(path)
        try:
            with open(unfinished, "xb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            os.replace(unfinished, path)
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(unfinished)
            raise
        flush_folder(path.parent)


def write_text(path: Path, content: str) -> None:
    """Write UTF-8 text atomically; see `write_bytes`."""
    write_bytes(path, content.encode())


def check_free(path: Path) -> None:
    """Refuse a path that is taken, by anything but an empty folder. Raises StorageError."""
    with storage_errors(path):
        if path.is_symlink() or path.is_file() or (path.is_dir() and any(path.iterdir())):
            raise StorageError(f"{path} exists already. Delete it, or choose another place.")


@contextlib.contextmanager
def whole_folder(path: Path) -> Iterator[Path]:
    """A folder to fill, which takes the name `path` when the block ends; after an error it is gone, with the parents made for it.

    Raises StorageError if `path` is taken, or cannot be written.
    """
    check_free(path)
    missing = [parent for parent in path.absolute().parents if not parent.exists()]
    unfinished = beside(path)
    try:
        with storage_errors(path):
            unfinished.mkdir(parents=True)
        yield unfinished
        with storage_errors(path):
            os.replace(unfinished, path)
            flush_folder(path.absolute().parent)
    except BaseException:
        shutil.rmtree(unfinished, ignore_errors=True)
        with contextlib.suppress(OSError):
            for parent in missing:
                parent.rmdir()
        raise


def beside(path: Path) -> Path:
    """A hidden name in the same folder that nothing else has, for what is not whole yet."""
    return path.with_name(f".{path.name}.{secrets.token_hex(6)}")


def flush_folder(folder: Path) -> None:
    """Make a renaming inside `folder` survive a power cut, where its file system can flush folders."""
    if os.name != "posix":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno not in UNABLE:
            raise
    finally:
        os.close(handle)
