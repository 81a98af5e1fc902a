"""One run per folder: a lock of the operating system, which the kernel releases however the process ends."""

import contextlib
import errno
import os
import socket
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from parsinet import files
from parsinet.errors import StorageError

if sys.platform != "win32":
    import fcntl

NAME = ".lock"
TAKEN = {errno.EAGAIN, errno.EACCES}
UNABLE = {errno.ENOLCK, errno.ENOSYS, errno.EINVAL, errno.EOPNOTSUPP, errno.ENOTSUP}


@contextlib.contextmanager
def held(folder: Path) -> Iterator[bool]:
    """Hold `folder`, made where it is missing, against every other run; False where its file system, or Windows, cannot lock.

    The lock is advisory (`flock` on `folder/.lock`), belongs to the open file and so to this process and what it forks, and ends with
    them, kill -9 included: a `.lock` that is left over locks nothing. Other machines see it where the file system carries it over, as
    NFS does on Linux. A folder that was made here and is still empty at the end goes.

    Errors: StorageError that names the process which holds the folder; StorageError for a folder that cannot be written.
    """
    made = not folder.exists()
    files.make_folder(folder)
    path = folder / NAME
    handle, locked = _open(path)
    try:
        yield locked
    finally:
        with contextlib.suppress(OSError):
            os.unlink(path)
        os.close(handle)
        if made:
            with contextlib.suppress(OSError):
                folder.rmdir()


def _open(path: Path) -> tuple[int, bool]:
    """The open lock file and whether it is locked. Its last holder unlinks it, so the file locked must still be the one at `path`."""
    while True:
        with files.storage_errors(path.parent):
            handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            locked = _lock(handle, path.parent)
            if not locked or _is_at(handle, path):
                return handle, locked
        except BaseException:
            os.close(handle)
            raise
        os.close(handle)


def _lock(handle: int, folder: Path) -> bool:
    """Lock an open file and write into it who did; False where the file system cannot."""
    if sys.platform == "win32":
        return False
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in TAKEN:
            holder = os.read(handle, 1000).decode(errors="replace") or "another process"
            raise StorageError(f"{folder} is in use by {holder}. Wait until that run is over, or choose another folder.") from None
        if error.errno in UNABLE:
            return False
        raise StorageError(f"Cannot lock {folder}: {error.strerror}. Choose another folder.") from error
    with contextlib.suppress(OSError):
        os.ftruncate(handle, 0)
        os.write(handle, f"process {os.getpid()} on {socket.gethostname()} since {time.strftime('%Y-%m-%d %H:%M:%S')}".encode())
    return True


def _is_at(handle: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(handle), os.stat(path))
    except FileNotFoundError:
        return False
