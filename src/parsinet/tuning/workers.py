"""Who still works on a trial: a lock that ends with its worker where the folder is shared, else the silence of its pulse."""

import contextlib
import os
import secrets
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from parsinet.errors import StorageError
from parsinet.training.lock import held

PLACE = ".workers"
PULSE = 20.0
"""Seconds between two signs of life that a worker gives through the storage."""
GRACE = 150.0
"""Seconds of silence after which a worker that cannot be seen is given up."""


@contextlib.contextmanager
def at_work(folder: Path) -> Iterator[str]:
    """The name of a new worker of the sweep in `folder`, which is locked while the block runs and no longer than the process lives."""
    name = f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(3)}"
    with held(folder / PLACE / name):
        yield name


@contextlib.contextmanager
def ended(folder: Path, name: str) -> Iterator[bool | None]:
    """Whether a worker's process is over; None if that cannot be told from this folder. True is told to one process at a time.

    A worker that is over leaves its place when the block ends.
    """
    place = folder / PLACE / name
    if not name or not place.is_dir():
        yield None
        return
    with contextlib.ExitStack() as stack:
        try:
            locked = stack.enter_context(held(place))
        except StorageError:
            yield False
            return
        yield True if locked else None
    with contextlib.suppress(OSError):
        place.rmdir()


@contextlib.contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Wait until no other worker is in such a block for the same folder; where the file system has no locks, do not."""
    with contextlib.ExitStack() as stack:
        while True:
            try:
                stack.enter_context(held(folder))
                break
            except StorageError as error:
                if error.__cause__ is not None:
                    raise
                time.sleep(0.05)
        yield


@contextlib.contextmanager
def pulse(beat: Callable[[int], None]) -> Iterator[None]:
    """Call `beat` with 1, 2, … every `PULSE` seconds while the block runs; a beat that fails is left out, the next one may reach."""
    over = threading.Event()

    def beats() -> None:
        count = 0
        while not over.wait(PULSE):
            count += 1
            with contextlib.suppress(Exception):
                beat(count)

    thread = threading.Thread(target=beats, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


class Silence:
    """How long each trial has shown the same sign of life, by the clock of this process: clocks of other machines do not matter."""

    def __init__(self) -> None:
        self._seen: dict[int, tuple[object, float]] = {}

    def of(self, trial: int, sign: object) -> float:
        """Seconds since `sign` of this trial was first seen here."""
        now = time.monotonic()
        if trial not in self._seen or self._seen[trial][0] != sign:
            self._seen[trial] = (sign, now)
        return now - self._seen[trial][1]
