"""A record that grows: read anew when its file has changed, and a sentence instead while there is none."""

from dataclasses import dataclass
from pathlib import Path

from parsinet.errors import DataError, StorageError, UsageError
from parsinet.report.reading import RECORD, read
from parsinet.report.records import Run


@dataclass(frozen=True)
class State:
    """What is known of a run at one time. run: None while it cannot be read, and then reason says why. changed: when its record last grew,
    seconds since the epoch; version: another one whenever the state is another."""

    run: Run | None
    reason: str
    changed: float | None
    version: str

    @property
    def over(self) -> bool:
        """Whether the run itself said that it ended: finished, failed or interrupted."""
        return self.run is not None and self.run.status != "unfinished"


class Tail:
    """The record of the run in `folder`, which need not exist yet.

    Raises UsageError where no run can ever be seen: `folder` is a file, or it is no run but holds some.
    """

    def __init__(self, folder: Path) -> None:
        _check(folder)
        self.folder = folder
        self._seen: tuple[int, int, int] | None = None
        self._state: State | None = None

    def look(self) -> State:
        """The present state; the same object as before unless the file has changed. Raises nothing for what is not there or torn."""
        try:
            stat = (self.folder / RECORD).stat()
        except OSError:
            self._seen, self._state = None, State(None, self._absent(), None, "absent")
            return self._state
        seen = (stat.st_ino, stat.st_size, stat.st_mtime_ns)
        if self._state is None or seen != self._seen:
            self._seen, self._state = seen, self._read(stat.st_mtime, "-".join(f"{number:x}" for number in seen))
        return self._state

    def _read(self, changed: float, version: str) -> State:
        try:
            return State(read(self.folder), "", changed, version)
        except (DataError, StorageError) as error:
            return State(None, str(error), changed, version)

    def _absent(self) -> str:
        if not self.folder.exists():
            return f"There is nothing at {self.folder} yet. A run begins with `parsinet train … --out {self.folder}`."
        return f"{self.folder} has no {RECORD} yet."


def _check(folder: Path) -> None:
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"{folder} is a file, not the folder of a run.")
    inside = sorted(str(record.parent) for record in folder.glob(f"*/{RECORD}"))
    if inside and not (folder / RECORD).exists():
        raise UsageError(f"{folder} is no run, but holds runs; watch one of them: {' '.join(inside[:5])}")
