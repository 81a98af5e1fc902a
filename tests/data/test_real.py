"""The real data sets, where PARSINET_DATA names a folder that has them."""

import os
from pathlib import Path

import pytest
import torch

from parsinet.data import load


def folder(name: str) -> Path:
    base = os.environ.get("PARSINET_DATA")
    if not base or not (Path(base) / name).is_dir():
        pytest.skip(f"PARSINET_DATA names no folder with {name}")
    return Path(base)


@pytest.mark.slow
def test_mnist() -> None:
    data = load("mnist", folder=folder("mnist"))
    assert (len(data.train), len(data.test), data.input_shape) == (60000, 10000, (1, 28, 28))
    assert torch.bincount(data.train.targets).tolist() == [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
    assert data.train.targets[:5].tolist() == [5, 0, 4, 1, 9]
    # the widely printed constants, four digits
    assert data.mean == pytest.approx((0.1307,), abs=5e-5)
    assert data.std == pytest.approx((0.3081,), abs=5e-5)
    assert float(data.train.inputs.double().mean()) == pytest.approx(0, abs=1e-6)


@pytest.mark.slow
def test_cifar10_copies() -> None:
    data = load("cifar10", folder=folder("cifar10-jpeg"), validation=0.1)
    assert data.name == "cifar10-jpeg"
    assert data.validation is not None
    assert (len(data.train), len(data.validation), len(data.test), data.input_shape) == (45000, 5000, 10000, (3, 32, 32))
    assert torch.bincount(data.validation.targets).tolist() == [500] * 10
    # the original's are 0.4914, 0.4822, 0.4465; JPEG and the validation part move them a little
    assert data.mean == pytest.approx((0.4914, 0.4822, 0.4465), abs=3e-3)


def test_tinyshakespeare() -> None:
    data = load(str(folder("tinyshakespeare") / "tinyshakespeare" / "input.txt"), block=128)
    assert (data.num_classes, data.input_shape) == (65, (128,))
    assert "".join(data.classes[number] for number in data.train.inputs[0, :14]) == "First Citizen:"
