"""CIFAR-10: the original binary files, or copies in Parquet that go by another name."""

import re
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from parsinet.data.parquet import images_and_labels, read_table
from parsinet.data.places import candidates, not_found, read
from parsinet.data.standardise import Raw
from parsinet.errors import DataError

CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
FOLDERS = ("cifar10", "cifar-10-batches-bin", "cifar10-jpeg")
TRAIN_FILES = tuple(f"data_batch_{number}.bin" for number in range(1, 6))
TEST_FILE = "test_batch.bin"
PIXELS = 3 * 32 * 32
ADVICE = "Unpack https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz there"


def read_cifar10(folder: Path | None) -> Raw:
    """CIFAR-10 from its binary files, named "cifar10"; else from train*.parquet and test*.parquet, named "cifar10-jpeg".

    Parquet copies mostly hold JPEG, whose pixels differ from the original's: results on them must not be reported as CIFAR-10.
    Raises DataError where neither is found, or a file is missing or damaged; MissingExtraError for Parquet without pyarrow, Pillow.
    Source: A. Krizhevsky, Learning multiple layers of features from tiny images (2009).
    """
    looked = candidates(FOLDERS, folder)
    for place in looked:
        if any((place / file).is_file() for file in (*TRAIN_FILES, TEST_FILE)):
            return _read_binary(place)
    for place in looked:
        shards = {side: sorted(place.glob(f"{side}*.parquet")) for side in ("train", "test")}
        if any(shards.values()):
            return _read_copies(place, shards)
    raise not_found("cifar10", f"{TRAIN_FILES[0]} and no train.parquet", looked, ADVICE)


def _read_binary(place: Path) -> Raw:
    missing = [file for file in (*TRAIN_FILES, TEST_FILE) if not (place / file).is_file()]
    if missing:
        raise DataError(f"{place}: holds part of CIFAR-10; missing: {', '.join(missing)}.")
    parts = [read_batch(place / file) for file in TRAIN_FILES]
    images, labels = (torch.cat(tensors) for tensors in zip(*parts, strict=True))
    return Raw("cifar10", CLASSES, (images, labels), read_batch(place / TEST_FILE))


def read_batch(path: Path) -> tuple[Tensor, Tensor]:
    """Images uint8 [n, 3, 32, 32] and labels int64 [n] of one binary file: per image 1 byte label, 3,072 bytes red, green, blue."""
    content = np.frombuffer(read(path), np.uint8)
    if len(content) == 0 or len(content) % (PIXELS + 1):
        raise DataError(f"{path}: truncated, or not CIFAR-10: its {len(content)} bytes are no multiple of {PIXELS + 1}; fetch it again.")
    records = torch.from_numpy(content.copy()).view(-1, PIXELS + 1)
    labels = records[:, 0].long()
    if int(labels.max()) >= len(CLASSES):
        raise DataError(f"{path}: label {int(labels.max())} is out of range 0 … {len(CLASSES) - 1}.")
    return records[:, 1:].reshape(-1, 3, 32, 32), labels


def _read_copies(place: Path, shards: dict[str, list[Path]]) -> Raw:
    missing = [f"{side}.parquet" for side, paths in shards.items() if not paths]
    if missing:
        raise DataError(f"{place}: holds part of CIFAR-10 in Parquet; missing: {', '.join(missing)}.")
    for side, paths in shards.items():
        announced = re.fullmatch(r".*-of-(\d+)", paths[0].stem)
        if announced and int(announced[1]) != len(paths):
            raise DataError(f"{place}: {int(announced[1])} {side} files announced, {len(paths)} present; fetch the others.")
    train, test = (_read_shards(shards[side]) for side in ("train", "test"))
    return Raw("cifar10-jpeg", CLASSES, train, test)


def _read_shards(paths: list[Path]) -> tuple[Tensor, Tensor]:
    parts = []
    for path in paths:
        images, labels, classes = images_and_labels(path, read_table(path))
        if images.shape[1:] != (3, 32, 32):
            raise DataError(f"{path}: CIFAR-10 images are 3×32×32, got {'×'.join(map(str, images.shape[1:]))}.")
        if classes != CLASSES and classes != tuple("0123456789"):
            raise DataError(f"{path}: expected CIFAR-10's classes {', '.join(CLASSES)}, got {', '.join(classes)}.")
        parts.append((images, labels))
    images, labels = (torch.cat(tensors) for tensors in zip(*parts, strict=True))
    return images, labels
