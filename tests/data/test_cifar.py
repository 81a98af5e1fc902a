"""CIFAR-10: binary files round trip; Parquet copies are named cifar10-jpeg; missing and damaged files are named."""

import io
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from parsinet.data import load
from parsinet.data.cifar import TRAIN_FILES, read_batch, read_cifar10
from parsinet.errors import DataError


def records(count: int, seed: int) -> tuple[bytes, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    images = torch.randint(256, (count, 3, 32, 32), dtype=torch.uint8, generator=generator)
    labels = torch.arange(count) % 10
    content = b"".join(bytes([int(label)]) + image.numpy().tobytes() for image, label in zip(images, labels, strict=True))
    return content, images, labels


def write_binary(folder: Path) -> torch.Tensor:
    folder.mkdir(exist_ok=True)
    parts = []
    for seed, file in enumerate((*TRAIN_FILES, "test_batch.bin")):
        content, images, _ = records(10, seed)
        (folder / file).write_bytes(content)
        parts.append(images)
    return torch.cat(parts[:5])


def write_parquet(path: Path, size: int = 32, kind: str = "JPEG", column: str = "image") -> None:
    files = []
    for at in range(10):
        buffer = io.BytesIO()
        Image.fromarray(np.full((size, size, 3), 20 * at, np.uint8)).save(buffer, kind)
        files.append({"bytes": buffer.getvalue(), "path": f"{at}.jpg"})
    pq.write_table(pa.table({column: files, "label": list(range(10))}), path)


@pytest.mark.parametrize("below", [".", "cifar10", "cifar-10-batches-bin"])
def test_binary_round_trip(tmp_path: Path, below: str) -> None:
    images = write_binary(tmp_path / below)
    raw = read_cifar10(tmp_path)
    assert raw.name == "cifar10"
    assert torch.equal(raw.train[0], images)
    assert torch.equal(raw.train[1], torch.arange(10).repeat(5))


def test_binary_goes_before_copies(tmp_path: Path) -> None:
    write_binary(tmp_path / "cifar-10-batches-bin")
    (tmp_path / "cifar10-jpeg").mkdir()
    for side in ("train", "test"):
        write_parquet(tmp_path / "cifar10-jpeg" / f"{side}.parquet")
    assert load("cifar10", folder=tmp_path).name == "cifar10"
    assert load("cifar10", folder=tmp_path / "cifar10-jpeg").name == "cifar10-jpeg"


@pytest.mark.parametrize("missing", ["data_batch_3.bin", "test_batch.bin"])
def test_missing_batch(tmp_path: Path, missing: str) -> None:
    write_binary(tmp_path)
    (tmp_path / missing).unlink()
    with pytest.raises(DataError, match=f"missing: {missing}"):
        load("cifar10", folder=tmp_path)


def test_damaged_batch(tmp_path: Path) -> None:
    content, _, _ = records(2, 0)
    path = tmp_path / "data_batch_1.bin"
    for damaged, message in ((content[:-1], "truncated"), (b"", "truncated"), (b"\x0b" + content[1:], "label 11 is out of range 0 … 9")):
        path.write_bytes(damaged)
        with pytest.raises(DataError, match=message) as caught:
            read_batch(path)
        assert str(path) in str(caught.value)


def test_nowhere(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"found no data_batch_1\.bin and no train\.parquet in .*cifar-10-binary\.tar\.gz"):
        load("cifar10", folder=tmp_path)


@pytest.mark.parametrize("files", [("train", "test"), ("train-00000-of-00002", "train-00001-of-00002", "test-00000-of-00001")])
def test_parquet_copies_have_their_own_name(tmp_path: Path, files: tuple[str, ...]) -> None:
    for file in files:
        write_parquet(tmp_path / f"{file}.parquet", column="img")
    data = load("cifar10", folder=tmp_path)
    assert (data.name, data.classes[0], len(data.test)) == ("cifar10-jpeg", "airplane", 10)
    assert len(data.train) == 10 * (len(files) - 1)


def test_incomplete_or_foreign_copies(tmp_path: Path) -> None:
    write_parquet(tmp_path / "train-00000-of-00002.parquet")
    with pytest.raises(DataError, match=r"missing: test\.parquet"):
        load("cifar10", folder=tmp_path)
    write_parquet(tmp_path / "test.parquet", size=28)
    with pytest.raises(DataError, match="2 train files announced, 1 present"):
        load("cifar10", folder=tmp_path)
    (tmp_path / "train-00000-of-00002.parquet").rename(tmp_path / "train.parquet")
    with pytest.raises(DataError, match=r"test\.parquet: CIFAR-10 images are 3×32×32, got 3×28×28"):
        load("cifar10", folder=tmp_path)
