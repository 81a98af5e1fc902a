"""The one door: names, paths, arguments; and what importing it costs."""

import hashlib
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from parsinet.data import load, names
from parsinet.errors import ArgumentTypeError, DataError, UsageError


def test_names() -> None:
    assert names() == ("digits", "mnist", "fashion-mnist", "cifar10")


def test_digits() -> None:
    data = load("digits", validation=0.1, seed=1)
    assert (data.name, data.task, data.input_shape, data.num_classes) == ("digits", "classification", (1, 8, 8), 10)
    assert data.validation is not None
    assert (len(data.train), len(data.validation), len(data.test)) == (1294, 144, 359)
    assert (data.train.inputs.dtype, data.train.targets.dtype) == (torch.float32, torch.int64)


def test_digits_test_part_is_fixed() -> None:
    first, other = load("digits", seed=0), load("digits", seed=1, validation=0.2)
    assert torch.equal(first.test.targets, other.test.targets)
    content = bytes(first.test.targets.tolist())
    assert hashlib.sha256(content).hexdigest()[:16] == "f42b4ca30e6f143c"


def test_validation_part_is_drawn_by_the_seed() -> None:
    def targets(seed: int) -> list[int]:
        validation = load("digits", seed=seed, validation=0.2).validation
        assert validation is not None
        return validation.targets.tolist()

    assert targets(0) == targets(0) != targets(1)


@pytest.mark.parametrize(
    ("source", "options", "error", "message"),
    [
        ("digitz", {}, UsageError, r"unknown data set 'digitz', and no file or folder of that name\. Did you mean 'digits'\?"),
        ("fashion_mnist", {}, UsageError, "Did you mean 'fashion-mnist'"),
        ("xyzzy", {}, UsageError, "Known: cifar10, digits, fashion-mnist, mnist"),
        ("some/where", {}, DataError, "there is no file or folder some/where"),
        ("absent.npz", {}, DataError, r"there is no file or folder absent\.npz"),
        (3, {}, ArgumentTypeError, "source must be a name or a path, got int"),
        ("digits", {"validation": 1.0}, UsageError, r"validation must be in \[0, 1\).* got 1\.0"),
        ("digits", {"validation": -0.1}, UsageError, "validation must be in"),
        ("digits", {"validation": float("nan")}, UsageError, "validation must be in"),
        ("digits", {"validation": "0.1"}, ArgumentTypeError, "validation must be a number"),
        ("digits", {"seed": -1}, UsageError, "seed must be ≥ 0, got -1"),
        ("digits", {"seed": 0.5}, ArgumentTypeError, "seed must be a whole number"),
        ("digits", {"block": 0}, UsageError, "block must be ≥ 1, got 0"),
    ],
)
def test_refused(source: Any, options: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        load(source, **options)


def test_unknown_kind_of_file(tmp_path: Path) -> None:
    (tmp_path / "table.csv").write_text("a,b")
    with pytest.raises(DataError, match=r"table\.csv: cannot tell what this file is; expected one of \.npz, \.parquet, \.txt"):
        load(str(tmp_path / "table.csv"))


def test_import_is_cheap() -> None:
    code = "import sys, parsinet.data; print([name for name in ('sklearn', 'pyarrow', 'PIL', 'scipy') if name in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "[]"
