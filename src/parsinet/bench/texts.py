"""Texts that are changed in memory first, and then written all or none."""

import contextlib
from pathlib import Path

from parsinet import files
from parsinet.bench.documents import read


class Texts:
    """Documents as they are to be; what nobody changed is read from its file."""

    def __init__(self) -> None:
        self._new: dict[Path, str] = {}

    def read(self, path: Path) -> str:
        """A document with its changes. Errors: DataError where it cannot be read."""
        new = self._new.get(path.resolve())
        return read(path) if new is None else new

    def put(self, path: Path, text: str) -> None:
        """Change a document, in memory."""
        self._new[path.resolve()] = text

    def write(self) -> None:
        """Write what is new. Where one file cannot be written, those before it are put back. Errors: StorageError."""
        before: dict[Path, bytes | None] = {}
        try:
            for path, text in self._new.items():
                if not path.exists() or read(path) != text:
                    before[path] = path.read_bytes() if path.exists() else None
                    files.write_text(path, text)
        except BaseException:
            for path, content in before.items():
                _put_back(path, content)
            raise


def _put_back(path: Path, content: bytes | None) -> None:
    with contextlib.suppress(Exception):
        if content is None:
            path.unlink(missing_ok=True)
        elif path.read_bytes() != content:
            files.write_bytes(path, content)
