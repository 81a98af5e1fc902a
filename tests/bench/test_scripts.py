"""Scripts of benchmarks/: what they cannot do is one sentence."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from parsinet.bench import run_script
from parsinet.errors import DataError

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


def test_an_error_of_ours_is_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    def main() -> None:
        raise DataError("There is no such data.")

    monkeypatch.setattr(sys, "argv", ["benchmarks/gates/lenet.py"])
    with pytest.raises(SystemExit) as stopped:
        run_script(main)
    assert stopped.value.code == "lenet.py: There is no such data."


def test_a_fault_of_the_script_keeps_its_traceback() -> None:
    def main() -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        run_script(main)


def test_an_interrupted_script_says_so(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def main() -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(sys, "argv", ["benchmarks/gates/lenet.py"])
    with pytest.raises(SystemExit) as stopped:
        run_script(main)
    assert stopped.value.code == 130
    assert capsys.readouterr().err == "lenet.py: interrupted\n"


def test_a_reader_that_goes_away_is_no_fault() -> None:
    script = "from parsinet.bench import run_script; run_script(lambda: print('line\\n' * 100_000))"
    piped = subprocess.run(["bash", "-c", f'"{sys.executable}" -c "{script}" | head -1'], capture_output=True, text=True)
    assert (piped.stdout, piped.stderr) == ("line\n", "")


def test_a_folder_without_data_is_told(tmp_path: Path) -> None:
    command = [sys.executable, "benchmarks/gates/lenet.py", "--data", str(tmp_path), "--only", "dense", "--seeds", "99"]
    told = subprocess.run(command, cwd=BENCHMARKS.parent, capture_output=True, text=True)
    assert told.returncode == 1
    assert told.stderr.startswith("lenet.py: mnist: found no train-images-idx3-ubyte(.gz) in ")
    assert told.stderr.count("\n") == 1
