"""A process that kills itself at the n-th thing it does to the disk: the places are wrapped from outside, parsinet knows nothing of it."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

from parsinet import files
from parsinet.training import record


class Boundaries:
    """Counts what is done to the disk: writing, flushing, renaming, deleting, making folders.

    At number `last` the process gets SIGKILL, before the call, a write when half of it is done. The name of every boundary is added to
    `log`, if one is given.
    """

    def __init__(self, last: int | None, log: Path | None = None) -> None:
        self.last, self.log, self.count = last, log, 0

    def reached(self, name: str) -> bool:
        """Count one boundary; whether this is the one to die at."""
        self.count += 1
        if self.log is not None:
            with open(self.log, "a", encoding="utf-8") as file:
                file.write(f"{name}\n")
        return self.count == self.last

    def install(self) -> None:
        """Wrap the places, for the rest of this process."""
        for name in ("fsync", "replace", "unlink", "mkdir", "rmdir"):
            setattr(os, name, self._wrapped(name, getattr(os, name)))
        files.open = lambda *arguments: _Torn(self, open(*arguments))  # type: ignore[attr-defined]  # noqa: SIM115
        append = record._append
        record._append = lambda file, content: append(_Torn(self, file), content)  # type: ignore[arg-type, assignment]

    def _wrapped(self, name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def wrapper(*arguments: Any, **options: Any) -> Any:
            if self.reached(name):
                die()
            return call(*arguments, **options)

        return wrapper


class _Torn:
    """A file whose writing may end in the middle."""

    def __init__(self, boundaries: Boundaries, file: Any) -> None:
        self._boundaries, self._file = boundaries, file

    def write(self, content: bytes) -> int:
        """Write all, or half and die."""
        if self._boundaries.reached("write"):
            self._file.write(content[: len(content) // 2])
            self._file.flush()
            die()
        return int(self._file.write(content))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)

    def __enter__(self) -> _Torn:
        self._file.__enter__()
        return self

    def __exit__(self, *reason: object) -> None:
        self._file.__exit__(*reason)


def die() -> None:
    """SIGKILL to this very process: no handler, no `finally`, no buffer is flushed."""
    os.kill(os.getpid(), signal.SIGKILL)
