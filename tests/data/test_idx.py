"""IDX files: what was written comes back; every kind of damage gives one sentence that names the file."""

import gzip
import struct
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from parsinet.data.idx import read_idx, read_pair
from parsinet.errors import DataError


def idx(tensor: Tensor, kind: int = 0x08) -> bytes:
    return struct.pack(">HBB", 0, kind, tensor.dim()) + struct.pack(f">{tensor.dim()}I", *tensor.shape) + bytes(tensor.flatten().tolist())


IMAGES = torch.arange(2 * 3 * 5, dtype=torch.uint8).view(2, 3, 5)
CONTENT = idx(IMAGES)


@pytest.mark.parametrize(("name", "pack"), [("images", bytes), ("images.gz", gzip.compress), ("packed-without-suffix", gzip.compress)])
def test_round_trip(tmp_path: Path, name: str, pack: Callable[[bytes], bytes]) -> None:
    (tmp_path / name).write_bytes(pack(CONTENT))
    assert torch.equal(read_idx(tmp_path / name, 3), IMAGES)


DAMAGE: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "an empty file"),
    "magic": (b"\x01\x02" + CONTENT[2:], "must begin with two zero bytes, got 01 02 08 03"),
    "web page": (b"<html>404</html>", "not an IDX file"),
    "type": (idx(IMAGES, kind=0x0D), "got type 0x0d"),
    "dimensions": (idx(IMAGES[0]), "expected 3 dimensions, got 2"),
    "header cut": (CONTENT[:9], "truncated"),
    "values cut": (CONTENT[:-1], "truncated: 46 bytes announced, 45 present"),
    "trailing": (CONTENT + b"\0", "1 bytes follow the 46 announced"),
    "no values": (idx(torch.zeros(0, 3, 5, dtype=torch.uint8)), r"holds no values: its dimensions are \[0, 3, 5\]"),
    "huge": (struct.pack(">HBB3I", 0, 8, 3, 2**32 - 1, 2**32 - 1, 2**32 - 1), "truncated"),
}


@pytest.mark.parametrize("case", DAMAGE)
def test_damage_is_named(tmp_path: Path, case: str) -> None:
    content, message = DAMAGE[case]
    path = tmp_path / "images"
    path.write_bytes(content)
    with pytest.raises(DataError, match=message) as caught:
        read_idx(path, 3)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize(
    "content",
    [gzip.compress(CONTENT)[:-6], gzip.compress(CONTENT)[:12] + b"xxxx" + gzip.compress(CONTENT)[16:], CONTENT, b"<html>"],
    ids=["cut", "bytes changed", "not packed", "web page"],
)
def test_damaged_gzip_is_named(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "images.gz"
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"images\.gz: damaged gzip file"):
        read_idx(path, 3)


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="absent: cannot be read: No such file"):
        read_idx(tmp_path / "absent", 1)


def write_pair(folder: Path, labels: list[int]) -> tuple[Path, Path]:
    (folder / "images").write_bytes(CONTENT)
    (folder / "labels").write_bytes(idx(torch.tensor(labels, dtype=torch.uint8)))
    return folder / "images", folder / "labels"


def test_pair(tmp_path: Path) -> None:
    images, labels = read_pair(*write_pair(tmp_path, [9, 0]), 10)
    assert images.shape == (2, 1, 3, 5)
    assert torch.equal(labels, torch.tensor([9, 0]))


@pytest.mark.parametrize(
    ("labels", "message"), [([1], "holds 2 images but .*labels holds 1 labels"), ([1, 10], r"labels: label 10 is out of range 0 … 9")]
)
def test_pair_that_does_not_fit(tmp_path: Path, labels: list[int], message: str) -> None:
    with pytest.raises(DataError, match=message):
        read_pair(*write_pair(tmp_path, labels), 10)
