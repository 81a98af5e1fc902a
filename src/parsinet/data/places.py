"""Where data sets lie: the folder given, the one the environment names, or the user's cache."""

import os
from pathlib import Path

from parsinet.errors import DataError

VARIABLE = "PARSINET_DATA"


def cache(name: str) -> Path:
    """The user's cache for one data set: ~/.cache/parsinet/<name>."""
    return Path.home() / ".cache" / "parsinet" / name


def candidates(names: tuple[str, ...], folder: Path | None) -> list[Path]:
    """Folders to look in, best first; `names[0]` is the data set's own name, the others are what its folder is also called.

    In `folder`, or without it in $PARSINET_DATA: the sub-folders of those names (also with underscores), then the folder itself.
    Without `folder`, the user's cache comes last.
    """
    spellings = dict.fromkeys(spelling for name in names for spelling in (name, name.replace("-", "_")))
    base = folder if folder is not None else _from_environment()
    found = [] if base is None else [*(base / spelling for spelling in spellings), base]
    return found if folder is not None else [*found, cache(names[0])]


def _from_environment() -> Path | None:
    value = os.environ.get(VARIABLE)
    return Path(value).expanduser() if value else None


def not_found(name: str, files: str, looked: list[Path], advice: str) -> DataError:
    """The error for a data set that is nowhere: what was looked for, where, and what to do."""
    places = ", ".join(str(path) for path in looked)
    return DataError(f"{name}: found no {files} in {places}. {advice} or name its folder (data.folder, or {VARIABLE} in the environment).")


def read(path: Path) -> bytes:
    """The file's bytes; DataError where it cannot be read."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror or error}.") from error
