"""One door to every data set: by name, or by the path of a folder or file."""

import os
from collections.abc import Callable
from pathlib import Path

from parsinet.data.cifar import read_cifar10
from parsinet.data.dataset import Dataset
from parsinet.data.digits import read_digits
from parsinet.data.folder import read_folder
from parsinet.data.mnist import FASHION_MNIST, MNIST, read_mnist
from parsinet.data.parquet import read_parquet
from parsinet.data.standardise import Raw, finish
from parsinet.data.tables import read_npz
from parsinet.data.text import read_text
from parsinet.errors import ArgumentTypeError, DataError, UsageError, suggest

NAMED: dict[str, Callable[[Path | None, bool], Raw]] = {
    "digits": lambda folder, download: read_digits(),
    "mnist": lambda folder, download: read_mnist(MNIST, folder, download),
    "fashion-mnist": lambda folder, download: read_mnist(FASHION_MNIST, folder, download),
    "cifar10": lambda folder, download: read_cifar10(folder),
}
TABLES: dict[str, Callable[[Path, int], Raw]] = {".npz": read_npz, ".parquet": read_parquet}
TEXT = ".txt"
BLOCK = 64


def names() -> tuple[str, ...]:
    """The data sets that `load` knows by name."""
    return tuple(NAMED)


def load(
    source: str | os.PathLike[str],
    *,
    folder: Path | None = None,
    validation: float = 0.0,
    seed: int = 0,
    block: int | None = None,
    download: bool = False,
) -> Dataset:
    """Read, check, split and standardise a data set.

    source: digits, mnist, fashion-mnist, cifar10, or a path: a folder of images by class, an .npz, .parquet or .txt file.
    folder: where mnist, fashion-mnist and cifar10 lie, without it $PARSINET_DATA, then the user's cache.
    validation: fraction of the training part held out to validate on, in [0, 1), by class; 0 for none.
    seed: draws the validation part, and the test part where the data has none of its own (folder, .npz with x and y, .parquet).
    block: window length in characters, for .txt only; 64 without it.
    download: fetch mnist or fashion-mnist where it is not found.

    Raises UsageError for arguments out of range or without effect on the source and for unknown names, DataError for data that is missing
    or not what it claims to be, MissingExtraError where images or Parquet need an optional package.
    """
    _check_arguments(validation, seed, block)
    if not isinstance(source, str | os.PathLike):
        raise ArgumentTypeError(f"load: source must be a name or a path, got {type(source).__name__}.")
    text = os.fspath(source)
    _refuse_idle(text, folder, block, download)
    if text in NAMED:
        return finish(NAMED[text](None if folder is None else Path(folder).expanduser(), download), validation, seed)
    path = Path(text).expanduser()
    if path.is_dir():
        return finish(read_folder(path.resolve(), seed), validation, seed)
    suffix = path.suffix.lower()
    if not path.exists():
        raise _missing(text, suffix)
    if suffix == TEXT:
        return read_text(path, validation, block or BLOCK)
    if suffix not in TABLES:
        raise DataError(f"{path}: cannot tell what this file is; expected one of {', '.join((*TABLES, TEXT))}, or a folder of images.")
    return finish(TABLES[suffix](path, seed), validation, seed)


def _check_arguments(validation: float, seed: int, block: int | None) -> None:
    if not isinstance(validation, int | float) or isinstance(validation, bool):
        raise ArgumentTypeError(f"load: validation must be a number in [0, 1), got {validation!r}.")
    if not 0 <= validation < 1:
        raise UsageError(f"load: validation must be in [0, 1), the fraction of the training part to hold out, got {validation}.")
    for name, value, least in (("seed", seed, 0), ("block", BLOCK if block is None else block, 1)):
        if not isinstance(value, int) or isinstance(value, bool):
            raise ArgumentTypeError(f"load: {name} must be a whole number, got {value!r}.")
        if value < least:
            raise UsageError(f"load: {name} must be ≥ {least}, got {value}.")


def _refuse_idle(source: str, folder: Path | None, block: int | None, download: bool) -> None:
    """An argument that would be accepted and ignored is a misunderstanding."""
    named = source in NAMED
    if folder is not None and (not named or source == "digits"):
        raise UsageError(f"load: folder has no effect on {source!r}: only mnist, fashion-mnist and cifar10 need it. Leave it out.")
    if download and source not in ("mnist", "fashion-mnist"):
        raise UsageError(f"load: download has no effect on {source!r}: only mnist and fashion-mnist can be fetched. Leave it out.")
    if block is not None and (named or not source.lower().endswith(TEXT)):
        raise UsageError(f"load: block has no effect on {source!r}: only text (.txt) is cut into blocks. Leave it out.")


def _missing(text: str, suffix: str) -> DataError | UsageError:
    if os.sep in text or suffix in (*TABLES, TEXT):
        return DataError(f"load: there is no file or folder {text}.")
    return UsageError(f"load: unknown data set {text!r}, and no file or folder of that name.{suggest(text, names())}")
