""".npz files: arrays come back; every shape, type and key that cannot be used is refused by name."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from parsinet.data import load
from parsinet.data.tables import read_npz, to_inputs
from parsinet.errors import DataError

RANDOM = np.random.default_rng(0)
X, Y = RANDOM.normal(size=(20, 3)), np.arange(20) % 2


def write(path: Path, **arrays: Any) -> Path:
    np.savez(path, **arrays)
    return path


def test_own_split_round_trip(tmp_path: Path) -> None:
    raw = read_npz(write(tmp_path / "t.npz", x_train=X, y_train=Y, x_test=X[:4] + 1, y_test=Y[:4]), seed=0)
    assert torch.equal(raw.train[0], torch.from_numpy(X))
    assert torch.equal(raw.test[0], torch.from_numpy(X[:4] + 1))
    assert torch.equal(raw.train[1], torch.from_numpy(Y))
    assert raw.classes == ("0", "1")


def test_columns_are_standardised_one_by_one(tmp_path: Path) -> None:
    wide = X * [1.0, 1e6, 1e-6] + [0.0, 1e8, 5.0]
    data = load(str(write(tmp_path / "t.npz", x_train=wide, y_train=Y, x_test=wide, y_test=Y)))
    assert data.input_shape == (3,)
    torch.testing.assert_close(torch.tensor(data.mean), torch.from_numpy(wide).mean(0).float())
    torch.testing.assert_close(torch.tensor(data.std), torch.from_numpy(wide).std(0, correction=0).float())
    torch.testing.assert_close(data.train.inputs, torch.from_numpy((X - X.mean(0)) / X.std(0)).float(), atol=1e-5, rtol=0)


def test_one_table_is_split_by_class(tmp_path: Path) -> None:
    raw = read_npz(write(tmp_path / "t.npz", x=X, y=np.array(["no", "yes"])[Y]), seed=0)
    assert raw.classes == ("no", "yes")
    assert torch.bincount(raw.test[1]).tolist() == [2, 2]
    assert sorted(torch.cat([raw.train[0], raw.test[0]]).tolist()) == sorted(X.tolist())


@pytest.mark.parametrize(
    ("shape", "expected"),
    [((6, 5), (6, 5)), ((6, 8, 7), (6, 1, 8, 7)), ((6, 3, 8, 7), (6, 3, 8, 7)), ((6, 8, 7, 3), (6, 3, 8, 7)), ((6, 3, 5, 3), (6, 3, 5, 3))],
)
@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.float32])
def test_shapes(shape: tuple[int, ...], expected: tuple[int, ...], dtype: type) -> None:
    values = RANDOM.integers(0, 255, shape).astype(dtype)
    tensor = to_inputs(values, "x")
    assert tuple(tensor.shape) == expected
    assert tensor.dtype == (torch.uint8 if dtype is np.uint8 and len(shape) > 2 else torch.float64)
    if expected == (6, 3, 8, 7) and shape == (6, 8, 7, 3):
        assert tensor[1, 2, 3, 4] == values[1, 3, 4, 2]


NAN = np.where(np.arange(60).reshape(20, 3) == 7, np.nan, X)
BAD: dict[str, tuple[dict[str, Any], str]] = {
    "keys": ({"a": X, "b": Y}, "needs the arrays x_train, y_train, x_test, y_test, or x and y; got a, b"),
    "half of the keys": ({"x_train": X, "y_train": Y, "x_test": X}, "got x_test, x_train, y_train"),
    "NaN": ({"x": NAN, "y": Y}, r"x holds NaN or infinity, first at \[2, 1\]"),
    "infinity": ({"x": np.full_like(X, np.inf), "y": Y}, "x holds NaN or infinity"),
    "objects": ({"x": np.array([[1, None]] * 20, dtype=object), "y": Y}, "holds Python objects, which are never unpickled"),
    "words": ({"x": np.array([["a"]] * 20), "y": Y}, "x must hold integers or real numbers, got <U1"),
    "complex": ({"x": X + 1j, "y": Y}, "x must hold integers or real numbers, got complex128"),
    "one dimension": ({"x": X[:, 0], "y": Y}, r"x must have shape .* got \[20\]"),
    "empty": ({"x": X[:0], "y": Y[:0]}, r"x is empty: its shape is \[0, 3\]"),
    "counts": ({"x": X, "y": Y[:19]}, r"y must have one class for each of 20 examples, shape \[20\], got \[19\]"),
    "column of labels": ({"x": X, "y": Y[:, None]}, r"shape \[20\], got \[20, 1\]"),
    "real labels": (
        {"x": X, "y": Y * 1.0},
        "y must hold class numbers .* got float64. Convert .* regression is for a training loop of your own",
    ),
    "negative label": ({"x": X, "y": Y - 1}, "got class -1"),
    "huge label": ({"x": X, "y": Y * 10**9}, "got class 1000000000"),
    "gap": ({"x": X, "y": Y * 2}, "class 1 has no training example"),
    "one class": ({"x": X, "y": Y * 0}, "at least two classes, got only 0"),
    "untrained class": ({"x_train": X, "y_train": Y, "x_test": X, "y_test": Y * 2}, "class 2 has no training example"),
    "unlike parts": ({"x_train": X, "y_train": Y, "x_test": X[:, :2], "y_test": Y}, r"must be alike, got float64 \[3\] and float64 \[2\]"),
    "too few": ({"x": X[:2], "y": Y[:2]}, "2 examples are too few"),
    "outlier": ({"x_train": X, "y_train": Y, "x_test": X * 1e300, "y_test": Y}, "t: a value is too large"),
    "overflow": ({"x_train": np.sign(X) * 1e308, "y_train": Y, "x_test": X, "y_test": Y}, "t: a value is too large"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_arrays(tmp_path: Path, case: str) -> None:
    arrays, message = BAD[case]
    path = write(tmp_path / "t.npz", **arrays)
    with pytest.raises(DataError, match=message) as caught:
        load(str(path))
    assert case in ("outlier", "overflow") or str(path) in str(caught.value)


def test_damaged_files(tmp_path: Path) -> None:
    path = write(tmp_path / "t.npz", x=X, y=Y)
    content = path.read_bytes()
    np.save(tmp_path / "single.npy", X)
    for damaged in (b"", b"no archive", content[:-30], content[:80] + bytes(60) + content[140:], (tmp_path / "single.npy").read_bytes()):
        path.write_bytes(damaged)
        with pytest.raises(DataError, match=r"t\.npz: .*damaged"):
            load(str(path))
