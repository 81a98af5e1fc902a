"""A text file for a character language model: predict every next character of a window."""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from parsinet.data.dataset import Dataset, Split
from parsinet.data.places import read
from parsinet.errors import DataError

TEST_FRACTION = 0.1


def read_text(path: Path, validation: float, block: int) -> Dataset:
    """The text cut by position: the last 10 % is the test part, `validation` of the rest, at its end, the validation part.

    Each part is cut into windows of `block` characters that touch but do not overlap; the target of a character is the one that
    follows it. Characters left over at the end of a part are dropped. The vocabulary is that of the whole text, in Unicode order.
    Raises DataError: not UTF-8, empty, fewer than two different characters, a part shorter than block + 1.
    """
    numbers, characters = _encode(path)
    training = len(numbers) - round(TEST_FRACTION * len(numbers))
    kept = training - round(validation * training)
    parts = {"train": numbers[:kept], "validation": numbers[kept:training], "test": numbers[training:]}
    for name, part in parts.items():
        if len(part) <= block and (name != "validation" or validation > 0):
            raise DataError(f"{path}: the {name} part has {len(part)} characters, fewer than block + 1 = {block + 1}; use a smaller block.")
    return Dataset(
        name=path.stem,
        task="language",
        train=_windows(parts["train"], block),
        validation=_windows(parts["validation"], block) if validation > 0 else None,
        test=_windows(parts["test"], block),
        classes=characters,
        mean=(),
        std=(),
    )


def _encode(path: Path) -> tuple[Tensor, tuple[str, ...]]:
    try:
        text = read(path).decode()
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: not UTF-8 text: byte {error.start} is 0x{error.object[error.start]:02x}; convert the file.") from error
    if len(set(text)) < 2:
        raise DataError(f"{path}: needs at least two different characters to predict, got {len(set(text))}.")
    points, numbers = np.unique(np.frombuffer(text.encode("utf-32-le"), np.uint32), return_inverse=True)
    return torch.from_numpy(numbers.astype(np.int64)), tuple(chr(point) for point in points)


def _windows(numbers: Tensor, block: int) -> Split:
    count = (len(numbers) - 1) // block
    end = count * block
    return Split(numbers[:end].view(count, block).clone(), numbers[1 : end + 1].view(count, block).clone())
