"""Files of eigenvalues: what they hold, round trips, and every file they refuse."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from parsinet import spectral
from parsinet.errors import StorageError, UsageError


def base(seed: int = 0, hidden: int = 8) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return nn.Sequential(nn.Conv1d(2, hidden, 3), nn.ReLU(), nn.Flatten(), nn.Linear(hidden * 3, 4))


def tuned(variant: str) -> nn.Module:
    model = spectral.spectralize(base(), variant)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.05)
    x = torch.randn(8, 2, 5, generator=torch.Generator().manual_seed(1))
    for _ in range(3):
        optimizer.zero_grad()
        model(x).square().sum().backward()
        optimizer.step()
    return model


X = torch.randn(3, 2, 5, generator=torch.Generator().manual_seed(2))


@pytest.mark.parametrize("variant", ["one-set", "one-set-in", "two-set", "svd"])
@torch.no_grad()
def test_saved_and_merged_back(variant: str, tmp_path: Path) -> None:
    with torch.enable_grad():
        model = tuned(variant)
    path = tmp_path / "adapters" / "task.safetensors"
    spectral.save_eigenvalues(model, path)
    fresh = spectral.spectralize(base(), variant)
    assert not torch.equal(fresh(X), model(X))
    spectral.load_eigenvalues(fresh, path)
    assert torch.equal(fresh(X), model(X))
    merged = spectral.fold(fresh)
    assert list(merged.state_dict()) == list(base().state_dict())
    assert torch.equal(merged(X), model(X))
    stored = load_file(path)
    assert sum(value.numel() for value in stored.values()) == spectral.trained_parameters(model)
    assert not any("phi" in name or ".U" in name for name in stored)
    assert [file.name for file in path.parent.iterdir()] == ["task.safetensors"]


def test_frozen_biases_stay_out(tmp_path: Path) -> None:
    model = base()
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(not name.endswith("bias"))
    spectral.spectralize(model)
    spectral.save_eigenvalues(model, tmp_path / "a")
    assert {name.rpartition(".")[2] for name in load_file(tmp_path / "a")} == {"lambda_in", "lambda_out"}
    spectral.load_eigenvalues(model, tmp_path / "a")


def other_bias() -> nn.Module:
    model = base()
    model[0].bias.requires_grad_(False)
    return spectral.spectralize(model)


OTHERS: dict[str, tuple[Callable[[], nn.Module], str]] = {
    "other weights": (lambda: spectral.spectralize(base(seed=1)), "another frozen basis than that of 0"),
    "other width": (lambda: spectral.spectralize(base(hidden=9)), "of another network: 0.bias is float32"),
    "other variant": (lambda: spectral.spectralize(base(), "one-set"), "this model does not train 0.spectrum.lambda_in"),
    "richer variant": (lambda: spectral.spectralize(base(), "svd"), "the file lacks 0.spectrum.basis.s"),
    "fewer layers": (lambda: spectral.spectralize(base(), layers=["3"]), "does not train 0.bias"),
    "frozen bias": (other_bias, "does not train 0.bias"),
    "float64": (lambda: spectral.spectralize(base().double()), "is float32"),
    "plain": (base, "no spectral layer; call spectralize first"),
    "trained basis": (lambda: spectral.spectralize(base(), "qr"), "train as well (TriangularBlock)"),
}


@pytest.mark.parametrize("case", OTHERS)
def test_a_file_of_another_network_is_refused(case: str, tmp_path: Path) -> None:
    make, words = OTHERS[case]
    spectral.save_eigenvalues(tuned("two-set"), tmp_path / "a")
    model = make()
    before = copy.deepcopy(model.state_dict())
    with pytest.raises(UsageError) as caught:
        spectral.load_eigenvalues(model, tmp_path / "a")
    assert words in str(caught.value)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


DAMAGES: dict[str, Callable[[Path], object]] = {
    "missing": Path.unlink,
    "truncated": lambda path: path.write_bytes(path.read_bytes()[:-7]),
    "empty": lambda path: path.write_bytes(b""),
    "text": lambda path: path.write_text("eigenvalues"),
    "no metadata": lambda path: save_file(load_file(path), path),
    "bad metadata": lambda path: save_file(load_file(path), path, {"format": "parsinet eigenvalues 1", "bases": "[1"}),
    "wrong metadata": lambda path: save_file(load_file(path), path, {"format": "parsinet eigenvalues 1", "bases": "[1]"}),
    "no bases": lambda path: save_file(load_file(path), path, {"format": "parsinet eigenvalues 1"}),
    "a folder": lambda path: (path.unlink(), path.mkdir()),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_files_are_refused(damage: str, tmp_path: Path) -> None:
    path = tmp_path / "a"
    model = tuned("two-set")
    spectral.save_eigenvalues(model, path)
    DAMAGES[damage](path)
    with pytest.raises(StorageError, match=str(path)):
        spectral.load_eigenvalues(model, path)


def test_what_the_file_would_lack_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"eigenvectors of 0 train as well \(TrainedBlock\)"):
        spectral.save_eigenvalues(tuned("full"), tmp_path / "a")
    with pytest.raises(UsageError, match=r"3\.weight trains as well"):
        spectral.save_eigenvalues(spectral.spectralize(base(), layers=["0"]), tmp_path / "a")
    with pytest.raises(UsageError, match="no spectral layer"):
        spectral.save_eigenvalues(base(), tmp_path / "a")
    assert list(tmp_path.iterdir()) == []


def test_a_place_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError):
        spectral.save_eigenvalues(tuned("two-set"), tmp_path / "file" / "a")
