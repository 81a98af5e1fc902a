"""MNIST and Fashion-MNIST: four IDX files each, on the disk or fetched."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

from parsinet.data.download import fetch
from parsinet.data.idx import decompress, read_pair
from parsinet.data.places import cache, candidates, not_found, read
from parsinet.data.standardise import Raw
from parsinet.errors import DataError

FILES = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")


@dataclass(frozen=True)
class Source:
    """Where a data set of four IDX files comes from; checksums in the order of `FILES`, written as `download.fetch` takes them."""

    name: str
    classes: tuple[str, ...]
    mirrors: tuple[str, ...]
    checksums: tuple[str, str, str, str]


MNIST = Source(
    name="mnist",
    classes=tuple("0123456789"),
    mirrors=("https://ossci-datasets.s3.amazonaws.com/mnist/", "https://storage.googleapis.com/cvdf-datasets/mnist/"),
    checksums=(
        "sha256:ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
        "sha256:65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
        "sha256:0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
        "sha256:ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
    ),
)
"""Y. LeCun, C. Cortes, C. Burges, The MNIST database of handwritten digits (1998); CC BY-SA 3.0."""

FASHION_MNIST = Source(
    name="fashion-mnist",
    classes=("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"),
    mirrors=(
        "https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion/",
        "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
    ),
    checksums=(
        "md5:8d4fb7e6c68d591d4c3dfef9ec88bf0d",
        "md5:25c81989df183df01b3e8a0aad5dffbe",
        "md5:bef4ecab320f06d8554ea6380940ec79",
        "md5:bb300cfdad3c16e7a12a480ee83cd310",
    ),
)
"""H. Xiao, K. Rasul, R. Vollgraf, Fashion-MNIST (2017), arXiv:1708.07747; MIT. MD5 sums as published with the archives."""


def read_mnist(source: Source, folder: Path | None, download: bool) -> Raw:
    """Both parts of the data set; its own split into 60,000 and 10,000 stays.

    Raises DataError where the files are nowhere, incomplete, damaged, or MNIST's own under another name (all such data sets use
    the same four file names).
    """
    train_images, train_labels, test_images, test_labels = _find(source, folder, download)
    _refuse_mnist(source, test_labels)
    count = len(source.classes)
    train, test = read_pair(train_images, train_labels, count), read_pair(test_images, test_labels, count)
    if train[0].shape[1:] != test[0].shape[1:]:
        sizes = [f"{images.shape[2]}×{images.shape[3]}" for images, _ in (train, test)]
        raise DataError(f"{test_images}: images of {sizes[1]} pixels, but those of {train_images} have {sizes[0]}.")
    return Raw(source.name, source.classes, train, test)


def _find(source: Source, folder: Path | None, download: bool) -> list[Path]:
    looked = candidates((source.name,), folder)
    for place in looked:
        found = {file: path for file in FILES for path in (place / f"{file}.gz", place / file) if path.is_file()}
        missing = [file for file in FILES if file not in found]
        if not missing:
            return [found[file] for file in FILES]
        if found and not download:
            raise DataError(f"{place}: holds part of {source.name}; missing: {', '.join(f'{file}.gz' for file in missing)}.")
    if download:
        return _download(source, cache(source.name) if folder is None else folder / source.name)
    raise not_found(source.name, f"{FILES[0]}(.gz)", looked, "Fetch it with download=True (parsinet train --set data.download=true),")


def _download(source: Source, target: Path) -> list[Path]:
    pairs = zip(FILES, source.checksums, strict=True)
    return [fetch(f"{file}.gz", source.mirrors, checksum, target) for file, checksum in pairs]


def _refuse_mnist(source: Source, labels: Path) -> None:
    if source.name == MNIST.name:
        return
    content = hashlib.sha256(decompress(read(labels), labels)).hexdigest()
    if f"sha256:{content}" == MNIST.checksums[3]:
        raise DataError(f"{labels}: these are MNIST's labels, not those of {source.name}; put {source.name} into a folder of its own.")
