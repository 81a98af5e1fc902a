"""Parquet files: images in the Hugging Face layout (image, label), or columns of numbers with a label; needs pyarrow."""

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from parsinet.data.images import decode
from parsinet.data.standardise import Raw
from parsinet.data.tables import Array, check_labels, encode, split_off_test, to_inputs
from parsinet.errors import DataError, MissingExtraError

IMAGE_COLUMNS = ("image", "img")
LABEL_COLUMNS = ("label", "target")
PANDAS_INDEX = re.compile(r"__index_level_\d+__")


def read_parquet(path: Path, seed: int) -> Raw:
    """One Parquet file; 20 % of every class, drawn with `seed`, is the test part.

    Images: column image (or img) of encoded files, column label. Table: numeric columns, one column named label or target.
    Raises DataError that names the file and column; MissingExtraError without pyarrow (or, for images, Pillow).
    """
    table = read_table(path)
    if any(name in table.column_names for name in IMAGE_COLUMNS):
        images, labels, classes = images_and_labels(path, table)
        return split_off_test(path, images, labels, classes, seed)
    label = _only(path, table, LABEL_COLUMNS)
    index = _index_names(table)
    columns = [name for name in table.column_names if name != label and name not in index and not PANDAS_INDEX.fullmatch(name)]
    if not columns:
        raise DataError(f"{path}: holds no column besides {label}.")
    values = np.stack([_numbers(path, table, name) for name in columns], axis=1)
    numbers, classes = encode(_labels(path, table, label), f"{path}: column {label}")
    return split_off_test(path, to_inputs(values, f"{path}: the columns"), numbers, classes, seed)


def images_and_labels(path: Path, table: Any) -> tuple[Tensor, Tensor, tuple[str, ...]]:
    """Images uint8 [n, c, h, w], labels int64 [n] and class names of a table in the image/label layout."""
    images = decode(_image_files(path, table, _only(path, table, IMAGE_COLUMNS)))
    label = _only(path, table, LABEL_COLUMNS)
    numbers = _labels(path, table, label)
    classes = _class_names(table, label)
    if classes is None:
        return images, *encode(numbers, f"{path}: column {label}")
    if numbers.dtype.kind not in "iu" or int(numbers.min()) < 0 or int(numbers.max()) >= len(classes):
        raise DataError(
            f"{path}: column {label} must hold class numbers 0 … {len(classes) - 1}, as its header names {len(classes)} classes."
        )
    return images, torch.from_numpy(numbers.astype(np.int64)), classes


def read_table(path: Path) -> Any:
    """The file as a pyarrow Table with at least one row; DataError where it is not Parquet or damaged."""
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise MissingExtraError("Reading Parquet needs pyarrow: pip install 'parsinet[parquet]'.") from error
    try:
        table = pyarrow.parquet.ParquetFile(path).read()
        table.validate(full=True)
        empty = not table.column_names or table.num_rows == 0
    except (OSError, UnicodeDecodeError, pyarrow.ArrowException) as error:
        raise DataError(f"{path}: cannot be read as Parquet: {str(error).strip().rstrip('.')}.") from error
    if empty:
        raise DataError(f"{path}: holds no rows.")
    if twice := sorted({name for name in table.column_names if table.column_names.count(name) > 1}):
        raise DataError(f"{path}: several columns are named {twice[0]}; rename or drop all but one.")
    return table


def _only(path: Path, table: Any, names: tuple[str, ...]) -> str:
    found: list[str] = [name for name in table.column_names if name in names]
    if len(found) != 1:
        columns = ", ".join(table.column_names) or "none"
        raise DataError(f"{path}: needs exactly one column named {' or '.join(names)}; its columns are {columns}.")
    return found[0]


def _image_files(path: Path, table: Any, column: str) -> list[tuple[str, bytes]]:
    files = []
    for row, value in enumerate(table.column(column).to_pylist()):
        content = value.get("bytes") if isinstance(value, dict) else value
        if not isinstance(content, bytes):
            raise DataError(f"{path}: column {column}, row {row}: expected an encoded image (bytes), got {type(content).__name__}.")
        files.append((f"{path}: column {column}, row {row}", content))
    return files


def _numbers(path: Path, table: Any, name: str) -> Array:
    values = _column(path, table, name)
    if values.dtype.kind not in "iufb":
        raise DataError(f"{path}: column {name} must hold numbers, got {table.schema.field(name).type}; convert or drop it.")
    if not np.isfinite(values).all():
        row = int(np.flatnonzero(~np.isfinite(values))[0])
        raise DataError(f"{path}: column {name} holds NaN or infinity, first in row {row}; remove or fill such entries.")
    return values.astype(np.float64)


def _labels(path: Path, table: Any, name: str) -> Array:
    values = _column(path, table, name)
    if values.dtype == object and all(isinstance(value, str) for value in values):
        values = values.astype(np.str_)
    check_labels(values, table.num_rows, f"{path}: column {name}")
    return values


def _column(path: Path, table: Any, name: str) -> Array:
    column = table.column(name)
    if column.null_count:
        raise DataError(f"{path}: column {name} has {column.null_count} empty entries; fill or drop these rows.")
    values: Array = column.to_numpy()
    return values


def _index_names(table: Any) -> set[str]:
    """Columns that pandas wrote as the index of a frame, by its header."""
    try:
        found = json.loads((table.schema.metadata or {})[b"pandas"])["index_columns"]
    except (KeyError, TypeError, ValueError):
        return set()
    return {name for name in found if isinstance(name, str)}


def _class_names(table: Any, label: str) -> tuple[str, ...] | None:
    """Class names from the header that the Hugging Face libraries write; None where there are none."""
    try:
        header = json.loads((table.schema.metadata or {})[b"huggingface"])
        names = header["info"]["features"][label]["names"]
    except (KeyError, TypeError, ValueError):
        return None
    return tuple(str(name) for name in names)
