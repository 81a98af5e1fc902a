"""MNIST and Fashion-MNIST: where they are looked for, what is refused, and fetching from (local) mirrors."""

import dataclasses
import gzip
import hashlib
import struct
from pathlib import Path

import pytest
import torch

from parsinet.data import load
from parsinet.data.download import fetch
from parsinet.data.mnist import FILES, MNIST, read_mnist
from parsinet.errors import DataError


def contents(size: int = 4) -> list[bytes]:
    """Four small IDX files: 20 training and 10 test images."""
    result = []
    for count in (20, 10):
        pixels = bytes((7 * at) % 251 for at in range(count * size * size))
        result.append(struct.pack(">HBB3I", 0, 8, 3, count, size, size) + pixels)
        result.append(struct.pack(">HBBI", 0, 8, 1, count) + bytes(at % 10 for at in range(count)))
    return result


def write(folder: Path, packed: bool = True) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for file, content in zip(FILES, contents(), strict=True):
        (folder / (f"{file}.gz" if packed else file)).write_bytes(gzip.compress(content) if packed else content)


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """No data but the test's own: an empty home folder, no PARSINET_DATA."""
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.delenv("PARSINET_DATA", raising=False)
    return tmp_path / "home"


@pytest.mark.parametrize("packed", [True, False])
@pytest.mark.parametrize("below", [".", "fashion-mnist", "fashion_mnist"])
@pytest.mark.parametrize("by", ["argument", "environment"])
def test_places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, below: str, by: str, packed: bool) -> None:
    write(tmp_path / below, packed)
    if by == "environment":
        monkeypatch.setenv("PARSINET_DATA", str(tmp_path))
    data = load("fashion-mnist", folder=tmp_path if by == "argument" else None)
    assert (data.name, data.input_shape, data.num_classes, len(data.train), len(data.test)) == ("fashion-mnist", (1, 4, 4), 10, 20, 10)
    assert data.classes[9] == "Ankle boot"


def test_cache_comes_last(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(home / ".cache" / "parsinet" / "mnist")
    monkeypatch.setenv("PARSINET_DATA", str(tmp_path / "elsewhere"))
    assert len(load("mnist").train) == 20


def test_absent_says_where_it_looked(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PARSINET_DATA", str(tmp_path / "data"))
    with pytest.raises(DataError, match="download=True") as caught:
        load("fashion-mnist")
    for place in ("data/fashion-mnist", "data/fashion_mnist", "home/.cache/parsinet/fashion-mnist"):
        assert str(tmp_path / place) in str(caught.value)
    assert "PARSINET_DATA" in str(caught.value)


def test_argument_is_the_only_place(home: Path, tmp_path: Path) -> None:
    write(home / ".cache" / "parsinet" / "mnist")
    with pytest.raises(DataError, match="found no"):
        load("mnist", folder=tmp_path / "empty")


def test_incomplete(tmp_path: Path) -> None:
    write(tmp_path)
    (tmp_path / f"{FILES[1]}.gz").unlink()
    with pytest.raises(DataError, match=r"holds part of mnist; missing: train-labels-idx1-ubyte\.gz"):
        load("mnist", folder=tmp_path)


def test_sizes_must_agree(tmp_path: Path) -> None:
    write(tmp_path)
    (tmp_path / f"{FILES[2]}.gz").write_bytes(gzip.compress(contents(size=5)[2]))
    with pytest.raises(DataError, match=r"5×5 pixels, but those of .* have 4×4"):
        load("mnist", folder=tmp_path)


def test_mnist_is_not_taken_for_fashion_mnist(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path)
    known = dataclasses.replace(MNIST, checksums=(*MNIST.checksums[:3], f"sha256:{hashlib.sha256(contents()[3]).hexdigest()}"))
    monkeypatch.setattr("parsinet.data.mnist.MNIST", known)
    assert load("mnist", folder=tmp_path).name == "mnist"
    with pytest.raises(DataError, match="these are MNIST's labels, not those of fashion-mnist"):
        load("fashion-mnist", folder=tmp_path)


def test_download(home: Path, tmp_path: Path) -> None:
    write(tmp_path / "mirror")
    first, *others = (f"sha256:{hashlib.sha256(content).hexdigest()}" for content in contents())
    archive = (tmp_path / "mirror" / f"{FILES[3]}.gz").read_bytes()
    checksums = (first, others[0], others[1], f"md5:{hashlib.md5(archive).hexdigest()}")
    mirrors = (f"{(tmp_path / 'gone').as_uri()}/", f"{(tmp_path / 'mirror').as_uri()}/")
    source = dataclasses.replace(MNIST, mirrors=mirrors, checksums=checksums)
    raw = read_mnist(source, None, download=True)
    assert raw.train[0].shape == (20, 1, 4, 4)
    assert sorted(path.name for path in (home / ".cache" / "parsinet" / "mnist").iterdir()) == sorted(f"{file}.gz" for file in FILES)
    again = read_mnist(dataclasses.replace(source, mirrors=()), None, download=True)
    assert torch.equal(again.train[0], raw.train[0]), "what is there is not fetched again"


@pytest.mark.parametrize("checksum", ["sha256:00", "md5:00"])
@pytest.mark.parametrize("content", [gzip.compress(b"other"), b"not gzip"])
def test_download_with_wrong_content_leaves_nothing(tmp_path: Path, checksum: str, content: bytes) -> None:
    (tmp_path / "mirror").mkdir()
    (tmp_path / "mirror" / "a.gz").write_bytes(content)
    with pytest.raises(DataError, match=r"Cannot download a\.gz: tried .*mirror/ \(wrong checksum\)"):
        fetch("a.gz", [f"{(tmp_path / 'mirror').as_uri()}/"], checksum, tmp_path / "target")
    assert not (tmp_path / "target").exists()


def test_download_without_mirror_says_what_each_did(tmp_path: Path) -> None:
    mirrors = [f"{(tmp_path / name).as_uri()}/" for name in ("one", "two")]
    with pytest.raises(DataError, match=r"one/ .*No such file.*two/ .*No such file.*put the file into .*target"):
        fetch("a.gz", mirrors, "sha256:00", tmp_path / "target")
