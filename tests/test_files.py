"""Folders that are whole or absent."""

from __future__ import annotations

from pathlib import Path

import pytest

from parsinet.errors import StorageError
from parsinet.files import check_free, whole_folder


def test_a_folder_takes_its_name_when_it_is_whole(tmp_path: Path) -> None:
    target = tmp_path / "deep" / "folder"
    with whole_folder(target) as unfinished:
        (unfinished / "file").write_text("content")
        assert not target.exists()
    assert [path.name for path in target.iterdir()] == ["file"]
    assert [path.name for path in target.parent.iterdir()] == ["folder"]


def test_an_error_leaves_nothing_and_what_was_there(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()

    def fail() -> None:
        with whole_folder(tmp_path / "mine" / "deep" / "folder") as unfinished:
            (unfinished / "file").write_text("content")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert list(tmp_path.rglob("*")) == [tmp_path / "mine"]


def test_only_an_empty_folder_is_free(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").write_text("mine")
    (tmp_path / "nowhere").symlink_to(tmp_path / "gone")
    check_free(tmp_path / "empty")
    check_free(tmp_path / "absent")
    for taken in ("full", "full/file", "nowhere"):
        with pytest.raises(StorageError, match="exists already"):
            check_free(tmp_path / taken)
    with whole_folder(tmp_path / "empty") as unfinished:
        (unfinished / "file").write_text("content")
    assert (tmp_path / "empty" / "file").exists()
