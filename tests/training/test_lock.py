"""One run per folder: a second one is refused by name, a dead one leaves no lock behind."""

from __future__ import annotations

import errno
import fcntl
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from parsinet.errors import StorageError
from parsinet.training import Recipe, RunResult
from parsinet.training.lock import NAME, held

HOLD = """
import sys
from pathlib import Path
from parsinet.training.lock import held
with held(Path(sys.argv[1])):
    print("held", flush=True)
    input()
"""


def test_a_second_run_is_refused_and_told_by_whom(tmp_path: Path) -> None:
    with held(tmp_path) as locked:
        assert locked
        words = rf"is in use by process {os.getpid()} on {socket.gethostname()} since 2.*Wait until that run is over"
        with pytest.raises(StorageError, match=words), held(tmp_path):
            pytest.fail("two runs at once")
    with held(tmp_path):
        pass
    assert not (tmp_path / NAME).exists()


def test_only_an_empty_folder_that_was_made_goes(tmp_path: Path) -> None:
    with held(tmp_path / "made"):
        assert (tmp_path / "made" / NAME).exists()
    assert not (tmp_path / "made").exists()
    with held(tmp_path / "used"):
        (tmp_path / "used" / "recipe.yaml").write_text("")
    assert [path.name for path in (tmp_path / "used").iterdir()] == ["recipe.yaml"]


def test_an_error_inside_lets_go(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), held(tmp_path):
        raise ZeroDivisionError
    with held(tmp_path):
        pass


@pytest.mark.slow
def test_kill_9_lets_go(tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == b"held\n"
        with pytest.raises(StorageError, match=f"process {other.pid} on"), held(tmp_path):
            pytest.fail("two runs at once")
        other.send_signal(signal.SIGKILL)
    assert (tmp_path / NAME).exists(), "nobody was left to clear it away"
    with held(tmp_path) as locked:
        assert locked


def test_a_forked_process_that_dies_lets_go(tmp_path: Path) -> None:
    ready, told = os.pipe()
    child = os.fork()
    if child == 0:
        with held(tmp_path):
            os.write(told, b"1")
            time.sleep(60)
        os._exit(0)
    os.read(ready, 1)
    with pytest.raises(StorageError, match=f"process {child} on"), held(tmp_path):
        pytest.fail("two runs at once")
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    with held(tmp_path) as locked:
        assert locked


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS])
def test_a_file_system_without_locks_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    def unable(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", unable)
    with held(tmp_path) as locked:
        assert not locked


def test_other_failures_are_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(fcntl, "flock", fail)
    with pytest.raises(StorageError, match=r"Cannot lock .*Input/output error"), held(tmp_path):
        pytest.fail("it is not locked")
    with pytest.raises(StorageError, match="Cannot write"), held(Path("/proc/run")):
        pytest.fail("it cannot be made")


def test_the_last_holder_may_unlink_the_file_while_another_opens_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A lock on a file that is no longer at its place would lock nothing."""
    first: list[Any] = []
    flock = fcntl.flock

    def unlinking(handle: int, how: int) -> None:
        if not first:
            first.append(handle)
            (tmp_path / NAME).unlink()
        flock(handle, how)

    monkeypatch.setattr(fcntl, "flock", unlinking)
    with held(tmp_path) as locked:
        assert locked
        assert (tmp_path / NAME).exists()
        with pytest.raises(StorageError, match="is in use"), held(tmp_path):
            pytest.fail("two runs at once")


def test_a_run_in_a_held_folder_is_refused_and_changes_nothing(
    quick: Callable[..., RunResult], small: Callable[..., Recipe], tmp_path: Path
) -> None:
    for options in ({}, {"overwrite": True}):
        with held(tmp_path / "run"), pytest.raises(StorageError, match="is in use"):
            quick(small(epochs=1), **options)
        assert not (tmp_path / "run").exists()
