"""Checkpoints: whole, or recognised as damaged; the newest two stay."""

import errno
import math
import os
from pathlib import Path
from typing import Any

import pytest
import torch

from parsinet.errors import RunError, StorageError, UsageError
from parsinet.training import load_checkpoint, save_checkpoint
from parsinet.training.checkpoint import best_checkpoint, checkpoints, lowest_error


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
    manifest.write_text(manifest.read_text().replace('"format": 2', '"format": 3'))
    assert "format 3 is unknown to this parsinet, which reads format 2" in str(load_checkpoint(folder).warning)


def test_without_a_whole_one_it_says_what_is_wrong(folder: Path, tmp_path: Path) -> None:
    for path in checkpoints(folder):
        truncate(path / "tensors.safetensors")
    with pytest.raises(RunError, match=r"No whole checkpoint .*000004-step-12 .*000003-step-7.* --overwrite, or overwrite=True"):
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


def test_what_is_not_a_checkpoint_is_left_alone(folder: Path) -> None:
    for name in ("12-notes", "²-step-1", "000009-step-x"):
        (folder / name).mkdir()
    (folder / "000099-step-9").write_text("a file")
    for step in (20, 21, 22):
        save_checkpoint(folder, step, state(step))
    assert {"12-notes", "²-step-1", "000009-step-x", "000099-step-9"} < {path.name for path in folder.iterdir()}
    assert load_checkpoint(folder).state["step"] == 22


def test_numbers_go_on_behind_the_millionth(folder: Path) -> None:
    (folder / "000004-step-12").rename(folder / "999999-step-12")
    assert save_checkpoint(folder, 13, state(13)).name == "1000000-step-13"
    assert load_checkpoint(folder).state["step"] == 13


def test_the_best_stays_until_a_better_one_comes(tmp_path: Path) -> None:
    for step, error in enumerate((0.5, 0.2, 0.4, None, 0.2, 0.3)):
        save_checkpoint(tmp_path, step, state(step), keep=1, validation_error=error)
    assert [path.name for path in checkpoints(tmp_path)] == ["000002-step-1", "000006-step-5"]
    assert (best_checkpoint(tmp_path), lowest_error(tmp_path)) == (tmp_path / "000002-step-1", 0.2)
    save_checkpoint(tmp_path, 7, state(7), keep=1, validation_error=0.1)
    assert [path.name for path in checkpoints(tmp_path)] == ["000007-step-7"]


def test_an_error_that_is_not_a_number_is_never_the_best(tmp_path: Path) -> None:
    for step, error in enumerate((math.nan, 0.5, 0.4, math.nan, 0.6)):
        save_checkpoint(tmp_path, step, state(step), keep=1, validation_error=error)
    assert [path.name for path in checkpoints(tmp_path)] == ["000003-step-2", "000005-step-4"]
    assert lowest_error(tmp_path) == 0.4


@pytest.mark.parametrize("keep", [0, -1])
def test_none_to_keep_is_refused_before_anything_is_written(keep: int, folder: Path) -> None:
    before = checkpoints(folder)
    with pytest.raises(UsageError, match=f"at least 1, got {keep}"):
        save_checkpoint(folder, 20, state(20), keep=keep)
    assert checkpoints(folder) == before


def test_damaged_ones_do_not_count_as_kept(folder: Path) -> None:
    """Two whole ones stay, whatever lies between them."""
    truncate(folder / "000004-step-12" / "manifest.json")
    save_checkpoint(folder, 20, state(20))
    assert [path.name for path in checkpoints(folder)] == ["000003-step-7", "000005-step-20"]


@pytest.mark.parametrize("content", [b"", b"{}", b"[]", b"null", b"\x80\x04."])
def test_a_foreign_manifest_is_passed_over(folder: Path, content: bytes) -> None:
    (folder / "000004-step-12" / "manifest.json").write_bytes(content)
    assert "its manifest is missing or unreadable" in str(load_checkpoint(folder).warning)
