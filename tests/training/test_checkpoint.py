"""Checkpoints: whole, or recognised as damaged; the newest two stay."""

import errno
import os
from pathlib import Path
from typing import Any

import pytest
import torch

from parsinet.errors import RunError, StorageError
from parsinet.training import load_checkpoint, save_checkpoint
from parsinet.training.checkpoint import checkpoints


def state(step: int) -> dict[str, Any]:
    return {"step": step, "weight": torch.full((3,), float(step)), "optimizer": {0: (1, 0.5)}}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for step in (0, 7, 7, 12):
        save_checkpoint(tmp_path / "checkpoint", step, state(step))
    return tmp_path / "checkpoint"


def test_the_newest_is_read_and_two_are_kept(folder: Path) -> None:
    assert [path.name for path in checkpoints(folder)] == ["000003-step-7", "000004-step-12"]
    loaded = load_checkpoint(folder)
    assert loaded.warning is None
    assert loaded.state["step"] == 12
    assert loaded.state["optimizer"] == {0: (1, 0.5)}
    assert torch.equal(loaded.state["weight"], torch.full((3,), 12.0))


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(bytes(content))


@pytest.mark.parametrize("name", ["state.json", "tensors.safetensors", "manifest.json"])
@pytest.mark.parametrize("damage", [truncate, Path.unlink, flip])
def test_a_damaged_one_is_passed_over_with_a_sentence(folder: Path, name: str, damage: Any) -> None:
    damage(folder / "000004-step-12" / name)
    loaded = load_checkpoint(folder)
    assert loaded.path.name == "000003-step-7"
    assert loaded.state["step"] == 7
    assert loaded.warning is not None
    assert "000004-step-12" in loaded.warning


def test_an_unknown_format_is_passed_over(folder: Path) -> None:
    manifest = folder / "000004-step-12" / "manifest.json"
    manifest.write_text(manifest.read_text().replace('"format": 1', '"format": 2'))
    assert "format 2 is unknown" in str(load_checkpoint(folder).warning)


def test_without_a_whole_one_it_says_what_is_wrong(folder: Path, tmp_path: Path) -> None:
    for path in checkpoints(folder):
        truncate(path / "tensors.safetensors")
    with pytest.raises(RunError, match=r"No whole checkpoint .*000004-step-12 .*000003-step-7"):
        load_checkpoint(folder)
    with pytest.raises(RunError, match="There is no checkpoint"):
        load_checkpoint(tmp_path / "none")


@pytest.mark.parametrize("moment", range(4))
def test_a_disk_that_fills_up_leaves_the_older_ones(folder: Path, monkeypatch: pytest.MonkeyPatch, moment: int) -> None:
    """Fail at the first, second, … renaming: three files, then the folder itself."""
    calls = 0
    rename = os.replace

    def full(*paths: Any) -> None:
        nonlocal calls
        calls += 1
        if calls > moment:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        rename(*paths)

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(StorageError, match="No space left on device"):
        save_checkpoint(folder, 20, state(20))
    monkeypatch.undo()
    assert load_checkpoint(folder).state["step"] == 12
    assert {path.name for path in folder.iterdir()} == {"000003-step-7", "000004-step-12"}


def test_leftovers_of_a_crash_are_cleared(folder: Path) -> None:
    (folder / ".000009-step-9.0a1b").mkdir()
    save_checkpoint(folder, 20, state(20))
    assert {path.name for path in folder.iterdir()} == {"000004-step-12", "000005-step-20"}
