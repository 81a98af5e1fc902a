"""The IDX format of MNIST: two zero bytes, a type, the number of dimensions, their sizes, then the values."""

import gzip
import math
import zlib
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from parsinet.data.places import read
from parsinet.errors import DataError

UNSIGNED_BYTE = 0x08
GZIP = b"\x1f\x8b"


def read_idx(path: Path, dimensions: int) -> Tensor:
    """The uint8 tensor in an IDX file, plain or compressed by gzip.

    Raises DataError that names the file: not IDX, values other than unsigned bytes, other than `dimensions` dimensions, truncated,
    trailing bytes, damaged gzip. Source: Y. LeCun, C. Cortes, C. Burges, The MNIST database (1998), section on file formats.
    """
    content = decompress(read(path), path)
    if len(content) < 4 or content[:2] != b"\0\0":
        raise DataError(f"{path}: not an IDX file: it must begin with two zero bytes, got {content[:4].hex(' ') or 'an empty file'}.")
    if content[2] != UNSIGNED_BYTE:
        raise DataError(f"{path}: expected unsigned bytes (IDX type 0x08), got type 0x{content[2]:02x}.")
    if content[3] != dimensions:
        raise DataError(f"{path}: expected {dimensions} dimensions, got {content[3]}; images have 3, labels 1.")
    start = 4 + 4 * dimensions
    shape = [int.from_bytes(content[at : at + 4]) for at in range(4, start, 4)]
    expected = start + math.prod(shape)
    if len(content) < start or len(content) < expected:
        raise DataError(f"{path}: truncated: {max(expected, start)} bytes announced, {len(content)} present; fetch the file again.")
    if len(content) > expected:
        raise DataError(f"{path}: {len(content) - expected} bytes follow the {expected} announced; fetch the file again.")
    if math.prod(shape) == 0:
        raise DataError(f"{path}: holds no values: its dimensions are {shape}.")
    return torch.from_numpy(np.frombuffer(content, np.uint8, offset=start).copy()).view(shape)


def read_pair(images: Path, labels: Path, classes: int) -> tuple[Tensor, Tensor]:
    """Images uint8 [n, 1, h, w] and labels int64 [n] from two IDX files; DataError where they do not belong together."""
    pixels, numbers = read_idx(images, 3), read_idx(labels, 1)
    if len(pixels) != len(numbers):
        raise DataError(f"{images} holds {len(pixels)} images but {labels} holds {len(numbers)} labels; they must be equally many.")
    if int(numbers.max()) >= classes:
        raise DataError(f"{labels}: label {int(numbers.max())} is out of range 0 … {classes - 1}.")
    return pixels.unsqueeze(1), numbers.long()


def decompress(content: bytes, path: Path) -> bytes:
    """Undo gzip where the content or the file's name says so; DataError where it is damaged."""
    if not content.startswith(GZIP) and path.suffix != ".gz":
        return content
    try:
        return gzip.decompress(content)
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path}: damaged gzip file ({error}); fetch the file again.") from error
