"""Wall and processor time of training alone: it can be stopped, and continued in another process."""

import contextlib
import time
from collections.abc import Iterator, Mapping


class Stopwatch:
    """Sums seconds while it runs. `seconds` is wall time, `cpu_seconds` that of all threads of this process."""

    def __init__(self) -> None:
        self._sums = (0.0, 0.0)
        self._since: tuple[float, float] | None = None

    def start(self) -> None:
        """Run from now on."""
        self._since = _now()

    def stop(self) -> None:
        """Stand still from now on."""
        self._sums, self._since = self._read(), None

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """Stand still inside."""
        self.stop()
        try:
            yield
        finally:
            self.start()

    @property
    def seconds(self) -> float:
        """Wall seconds so far."""
        return self._read()[0]

    @property
    def cpu_seconds(self) -> float:
        """Processor seconds so far."""
        return self._read()[1]

    def state_dict(self) -> dict[str, float]:
        """The sums."""
        return {"seconds": self.seconds, "cpu_seconds": self.cpu_seconds}

    def load_state_dict(self, state: Mapping[str, float]) -> None:
        """Continue the sums of `state`, standing still."""
        self._sums, self._since = (state["seconds"], state["cpu_seconds"]), None

    def _read(self) -> tuple[float, float]:
        if self._since is None:
            return self._sums
        now = _now()
        return self._sums[0] + now[0] - self._since[0], self._sums[1] + now[1] - self._since[1]


def _now() -> tuple[float, float]:
    return time.perf_counter(), time.process_time()
