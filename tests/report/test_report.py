"""Whole reports from made-up runs: the files, where they lie, and what is refused."""

import io
import struct
import threading
import zlib
from pathlib import Path

import pytest
from rich.console import Console

from parsinet.errors import ArgumentTypeError, DataError, StorageError, UsageError
from parsinet.report import report


def quiet(width: int = 160) -> Console:
    return Console(file=io.StringIO(), width=width)


def png_size(path: Path) -> tuple[int, int]:
    """Width and height; fails unless the file is a PNG whose pixels are not all alike."""
    content = path.read_bytes()
    assert content[:8] == b"\x89PNG\r\n\x1a\n"
    pixels, at = b"", 8
    while at < len(content):
        length, kind = struct.unpack(">I4s", content[at : at + 8])
        pixels += content[at + 8 : at + 8 + length] if kind == b"IDAT" else b""
        at += 12 + length
    assert len(set(zlib.decompress(pixels))) > 50
    width, height = struct.unpack(">II", content[16:24])
    return width, height


def tree(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


@pytest.fixture
def coarse(monkeypatch: pytest.MonkeyPatch) -> None:
    """Small pictures, for tests of where they lie and not of what they show."""
    monkeypatch.setattr("parsinet.report.style.DPI", 30)


def test_one_run(gates: Path) -> None:
    out = report([gates], console=quiet())
    assert out == gates / "report"
    assert set(tree(out)) == {"progress.png", "progress-seconds.png", "widths.png", "gates.png", "summary.md", "report.html"}
    for picture in out.glob("*.png"):
        width, height = png_size(picture)
        assert 900 <= width <= 1400
        assert 500 <= height <= 1200
    page = (out / "summary.md").read_text()
    assert all(f"({picture.name})" in page for picture in out.glob("*.png"))


@pytest.mark.usefixtures("coarse")
def test_a_dense_run_has_no_widths_and_no_gates(dense: Path) -> None:
    assert set(tree(report([dense], console=quiet()))) == {"progress.png", "progress-seconds.png", "summary.md", "report.html"}


def test_several_runs(dense: Path, gates: Path) -> None:
    out = report([dense, gates], console=quiet())
    assert out == dense.parent / "report"
    names = {"pareto.png", "progress.png", "progress-seconds.png", "widths-gates.png", "gates-gates.png", "summary.md", "report.html"}
    assert set(tree(out)) == names
    assert png_size(out / "pareto.png")[0] > 1200


@pytest.mark.slow
def test_many_groups_become_a_tall_map(deep: Path) -> None:
    out = report([deep], console=quiet())
    assert png_size(out / "widths.png")[1] >= 20 * 20
    assert png_size(out / "gates.png")[1] > 1200


@pytest.mark.usefixtures("coarse")
def test_nothing_is_written_outside_out(tmp_path: Path, dense: Path, gates: Path) -> None:
    before = tree(tmp_path)
    out = report([dense, gates], tmp_path / "deep" / "down", quiet())
    assert out == tmp_path / "deep" / "down"
    after = tree(tmp_path)
    assert {name: content for name, content in after.items() if not name.startswith("deep/down/")} == before
    assert not list(out.glob(".*"))


@pytest.mark.usefixtures("coarse")
@pytest.mark.slow
def test_a_report_repeats_bitwise_also_from_threads(tmp_path: Path, gates: Path) -> None:
    first = tree(report([gates], tmp_path / "first", quiet()))
    workers = [threading.Thread(target=report, args=([gates], tmp_path / str(number), quiet())) for number in range(2)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert tree(tmp_path / "0") == tree(tmp_path / "1") == first


def test_a_run_without_epochs(tmp_path: Path) -> None:
    (tmp_path / "new").mkdir()
    (tmp_path / "new" / "record.jsonl").write_text('{"event":"start","format":1,"parameters":10,"macs":5,"bytes":40}\n')
    console = quiet()
    assert set(tree(report([tmp_path / "new"], tmp_path / "out", console))) == {"summary.md", "report.html"}
    assert "in its first epoch" in console.file.getvalue()  # type: ignore[attr-defined]


def test_out_that_is_a_file(tmp_path: Path, dense: Path) -> None:
    (tmp_path / "taken").write_text("mine")
    with pytest.raises(StorageError, match="taken"):
        report([dense], tmp_path / "taken", quiet())
    with pytest.raises(StorageError, match="taken"):
        report([dense], tmp_path / "taken" / "below", quiet())
    assert (tmp_path / "taken").read_text() == "mine"


@pytest.mark.usefixtures("coarse")
def test_refusals(tmp_path: Path, dense: Path) -> None:
    with pytest.raises(UsageError, match="at least one run"):
        report([], console=quiet())
    with pytest.raises(ArgumentTypeError, match="list of folders"):
        report(str(dense), console=quiet())  # type: ignore[arg-type]
    with pytest.raises(DataError, match="does not exist"):
        report([dense, tmp_path / "nowhere"], tmp_path / "out", quiet())
    assert not (tmp_path / "out").exists()


@pytest.mark.usefixtures("coarse")
def test_runs_named_alike_are_told_apart_and_named_twice_shown_once(tmp_path: Path, dense: Path, gates: Path) -> None:
    for seed in ("one", "two"):
        (tmp_path / seed).mkdir()
        (gates if seed == "one" else dense).rename(tmp_path / seed / "run")
    console = quiet()
    out = report([tmp_path / "one" / "run", tmp_path / "two" / "run", tmp_path / "one" / ".." / "one" / "run"], console=console)
    assert out == tmp_path / "report"
    text = console.file.getvalue()  # type: ignore[attr-defined]
    assert text.count("one/run ") == 1
    assert text.count("two/run") == 2, "its row and the remark that it is the reference"
    assert (out / "gates-one-run.png").exists()
