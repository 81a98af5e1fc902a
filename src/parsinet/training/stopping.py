"""Ctrl-C and SIGTERM as a request to stop after the running step."""

import contextlib
import shlex
import signal
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType


class RunInterrupted(KeyboardInterrupt):
    """Ctrl-C or SIGTERM ended a run; everything is saved in `folder`, and the message says how to go on."""

    def __init__(self, folder: Path) -> None:
        super().__init__(f"Interrupted; everything is saved. Continue with: parsinet train --resume {shlex.quote(str(folder))}")
        self.folder = folder


@contextlib.contextmanager
def stop_signals(request: Callable[[], bool]) -> Iterator[None]:
    """Inside, SIGINT and SIGTERM call `request`; where it returns False (nothing to finish, or asked before) KeyboardInterrupt is raised.

    Outside the main thread signals cannot be handled and stay as they are.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def handle(_signal: int, _frame: FrameType | None) -> None:
        if not request():
            raise KeyboardInterrupt

    before = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
