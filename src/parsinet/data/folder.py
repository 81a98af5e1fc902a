"""A folder of images by class: root/cat/1.png, root/dog/2.png, or the same below root/train and root/test."""

from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor

from parsinet.data.images import SUFFIXES, decode
from parsinet.data.places import read
from parsinet.data.splitting import stratified
from parsinet.data.standardise import Raw
from parsinet.errors import DataError

TEST_FRACTION = 0.2


def read_folder(root: Path, seed: int) -> Raw:
    """Classes are the sub-folders in alphabetical order; files whose suffix is no image's, and hidden ones, are passed over.

    With sub-folders train and test those are the two parts; else 20 % of every class, drawn with `seed`, is the test part.
    Raises DataError: fewer than two classes, a class without images, damaged image, several sizes, classes that differ between
    train and test.
    """
    parts = _sub_folders(root)
    if "train" in parts or "test" in parts:
        return _read_parts(root, parts)
    classes, files, labels = _list_images(root)
    alone = [name for name, count in zip(classes, torch.bincount(labels).tolist(), strict=True) if count < 2]
    if alone:
        raise DataError(f"{root / alone[0]}: holds one image; a class needs two, one to train on and one to test on.")
    images = decode(_contents(files))
    kept, held = stratified(labels, TEST_FRACTION, seed)
    return Raw(root.name, classes, (images[kept], labels[kept]), (images[held], labels[held]))


def _read_parts(root: Path, parts: list[str]) -> Raw:
    if sorted(parts) != ["test", "train"]:
        raise DataError(f"{root}: with a sub-folder train or test, it must hold exactly these two, got {', '.join(parts)}.")
    classes, train_files, train_labels = _list_images(root / "train")
    test_classes, test_files, test_labels = _list_images(root / "test")
    if different := sorted(set(classes) ^ set(test_classes)):
        raise DataError(f"{root}: train and test must have the same class folders; only one of them has {', '.join(different)}.")
    images = decode(_contents([*train_files, *test_files]))
    count = len(train_files)
    return Raw(root.name, classes, (images[:count], train_labels), (images[count:], test_labels))


def _list_images(root: Path) -> tuple[tuple[str, ...], list[Path], Tensor]:
    classes = _sub_folders(root)
    if len(classes) < 2:
        found = f"only {classes[0]}" if classes else "none"
        raise DataError(f"{root}: needs a sub-folder of images for each of at least two classes, found {found}.")
    files: list[Path] = []
    counts = []
    for name in classes:
        images = sorted(path for path in (root / name).rglob("*") if _is_image(path.relative_to(root)) and path.is_file())
        if not images:
            raise DataError(f"{root / name}: holds no images ({', '.join(sorted(SUFFIXES))}).")
        files += images
        counts.append(len(images))
    return tuple(classes), files, torch.arange(len(classes)).repeat_interleave(torch.tensor(counts))


def _sub_folders(root: Path) -> list[str]:
    try:
        return sorted(path.name for path in root.iterdir() if path.is_dir() and not path.name.startswith("."))
    except OSError as error:
        raise DataError(f"{root}: cannot be read: {error.strerror or error}.") from error


def _is_image(path: Path) -> bool:
    return path.suffix.lower() in SUFFIXES and not any(part.startswith(".") for part in path.parts)


def _contents(files: list[Path]) -> Iterator[tuple[str, bytes]]:
    return ((str(path), read(path)) for path in files)
