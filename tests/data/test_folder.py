"""A folder of images by class: what is read, how it is split, and what is refused."""

import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from parsinet.data import load
from parsinet.data.folder import read_folder
from parsinet.errors import DataError, MissingExtraError


def paint(path: Path, level: int, size: tuple[int, int] = (5, 4), mode: str = "RGB") -> None:
    """A plain image, `size` = (height, width)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((*size, 3), level, np.uint8)).convert(mode).save(path)


def write(root: Path, mode: str = "RGB") -> None:
    """Ten cats with levels 0 … 9 and five dogs with levels 100 … 104."""
    for name, count, start in (("cat", 10, 0), ("dog", 5, 100)):
        for at in range(count):
            paint(root / name / f"{at}.png", start + at, mode=mode)


def test_split_by_class(tmp_path: Path) -> None:
    write(tmp_path)
    (tmp_path / ".hidden").mkdir()
    (tmp_path / "cat" / "notes.csv").write_text("no image")
    paint(tmp_path / "cat" / ".ipynb_checkpoints" / "0.png", 0)
    raw = read_folder(tmp_path, seed=1)
    assert raw.classes == ("cat", "dog")
    assert torch.bincount(raw.train[1]).tolist() == [8, 4]
    assert torch.bincount(raw.test[1]).tolist() == [2, 1]
    images, labels = (torch.cat(tensors) for tensors in zip(raw.train, raw.test, strict=True))
    assert images.shape == (15, 3, 5, 4)
    assert sorted(images[:, 0, 0, 0].tolist()) == [*range(10), *range(100, 105)]
    assert torch.equal(labels, (images[:, 0, 0, 0] >= 100).long())


def test_split_depends_on_the_seed_only(tmp_path: Path) -> None:
    write(tmp_path)
    first, again, other = (read_folder(tmp_path, seed).test[0][:, 0, 0, 0].tolist() for seed in (1, 1, 2))
    assert first == again != other


def test_own_split(tmp_path: Path) -> None:
    write(tmp_path / "train")
    paint(tmp_path / "test" / "cat" / "a.jpeg", 50)
    paint(tmp_path / "test" / "dog" / "deep" / "b.PNG", 60)
    data = load(str(tmp_path))
    assert (data.name, len(data.train), len(data.test), data.input_shape) == (tmp_path.name, 15, 2, (3, 5, 4))
    assert data.test.targets.tolist() == [0, 1]


@pytest.mark.parametrize(("mode", "channels"), [("L", 1), ("1", 1), ("LA", 1), ("P", 3), ("RGBA", 3)])
def test_channels(tmp_path: Path, mode: str, channels: int) -> None:
    write(tmp_path, mode)
    assert read_folder(tmp_path, 0).train[0].shape[1] == channels


def test_one_coloured_image_makes_all_coloured(tmp_path: Path) -> None:
    write(tmp_path, "L")
    paint(tmp_path / "dog" / "colour.png", 7)
    images = read_folder(tmp_path, 0).train[0]
    assert images.shape[1] == 3
    assert torch.equal(images[:, 0], images[:, 2])


def refuse(root: Path, message: str) -> None:
    with pytest.raises(DataError, match=message) as caught:
        load(str(root))
    assert str(root) in str(caught.value)


def test_empty_class(tmp_path: Path) -> None:
    write(tmp_path)
    (tmp_path / "emu").mkdir()
    (tmp_path / "emu" / "photo.heic").write_bytes(b"x")
    refuse(tmp_path, r"emu: holds no images \(\.bmp")


@pytest.mark.parametrize("content", [b"", b"no image"])
def test_file_that_is_no_image(tmp_path: Path, content: bytes) -> None:
    write(tmp_path)
    (tmp_path / "cat" / "bad.png").write_bytes(content)
    refuse(tmp_path, r"cat/bad\.png: damaged, or not an image")


@pytest.mark.filterwarnings("ignore:Truncated File Read")  # Pillow's, before it gives up
@pytest.mark.parametrize("suffix", ["png", "jpg", "bmp", "gif", "ppm", "tif"])
def test_truncated_image(tmp_path: Path, suffix: str) -> None:
    write(tmp_path)
    path = tmp_path / "cat" / f"bad.{suffix}"
    paint(path, 3, size=(40, 40))
    content = path.read_bytes()
    path.write_bytes(content[: len(content) * 2 // 3] if suffix != "tif" else content[:90])
    refuse(tmp_path, rf"cat/bad\.{suffix}: damaged")


def test_different_sizes(tmp_path: Path) -> None:
    write(tmp_path)
    paint(tmp_path / "dog" / "big.png", 3, size=(6, 4))
    refuse(tmp_path, r"dog/big\.png: 4×6 pixels, but .*cat/0\.png has 4×5; .*scale")


def test_deep_image(tmp_path: Path) -> None:
    write(tmp_path)
    Image.fromarray(np.full((5, 4), 4000, np.uint16)).save(tmp_path / "cat" / "deep.png")
    refuse(tmp_path, r"deep\.png: more than 8 bits")


def test_fewer_than_two_classes(tmp_path: Path) -> None:
    refuse(tmp_path, "at least two classes, found none")
    paint(tmp_path / "cat" / "a.png", 1)
    refuse(tmp_path, "at least two classes, found only cat")
    paint(tmp_path / "dog" / "a.png", 1)
    refuse(tmp_path, "cat: holds one image; a class needs two")


def test_own_split_that_does_not_fit(tmp_path: Path) -> None:
    write(tmp_path / "train")
    refuse(tmp_path, "exactly these two, got train")
    write(tmp_path / "test")
    paint(tmp_path / "test" / "emu" / "a.png", 1)
    refuse(tmp_path, "only one of them has emu")
    (tmp_path / "val").mkdir()
    refuse(tmp_path, "exactly these two, got test, train, val")


def test_without_pillow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path)
    monkeypatch.setitem(sys.modules, "PIL", None)
    with pytest.raises(MissingExtraError, match=r"needs Pillow: pip install 'parsinet\[parquet\]'"):
        load(str(tmp_path))
