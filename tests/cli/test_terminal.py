"""Where the command line prints: widths in which nothing has room, encodings that lack an arrow."""

from __future__ import annotations

import io
import os
import sys

import pytest
import typer

from parsinet.cli import main
from parsinet.cli.guard import guarded


def printed(monkeypatch: pytest.MonkeyPatch, *arguments: str, encoding: str = "utf-8") -> str:
    """What the command prints to an output of this encoding, from its entry point on."""
    out = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
    monkeypatch.setattr(sys, "argv", ["parsinet", *arguments])
    with monkeypatch.context() as patch:
        patch.setattr(sys, "stdout", out)
        with pytest.raises(SystemExit) as ended:
            main()
    assert not ended.value.code
    out.flush()
    return out.buffer.getvalue().decode(encoding)  # type: ignore[attr-defined, no-any-return]


@pytest.mark.parametrize(("told", "taken"), [("0", None), (" 00", None), ("20", "30"), ("30", "30"), ("200", "200")])
def test_a_width_in_which_nothing_has_room_is_not_taken(told: str, taken: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    """0 is what some services set; rich would print nothing. In 20 columns a table would be cut before its numbers."""
    monkeypatch.setenv("COLUMNS", told)
    shown = printed(monkeypatch, "watch", "--help")
    assert os.environ.get("COLUMNS") == taken
    assert "--browser" in shown


def test_an_output_without_arrows_has_others(monkeypatch: pytest.MonkeyPatch, tmp_path: os.PathLike[str]) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TERM", "dumb")
    begun = ("train", "--model", "mlp", "--set", "model.widths=[16]", "--epochs", "1", "--threads", "1", "--out", "run")
    shown = printed(monkeypatch, *begun, "--method", "magnitude-units", "--set", "method.share=0.5", encoding="ascii")
    assert "fc1 16->8" in shown


@pytest.mark.parametrize("buffered", [True, False])
@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="a device that is always full")
def test_an_output_that_cannot_be_written_is_told(
    buffered: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with (
        io.TextIOWrapper(open("/dev/full", "wb", -1 if buffered else 0), write_through=not buffered) as full,
        monkeypatch.context() as patch,
    ):
        patch.setattr(sys, "stdout", full)
        with pytest.raises(typer.Exit) as ended:
            guarded(lambda: print("epoch 1"))()
    assert ended.value.exit_code == 1
    told = "parsinet: What this command prints cannot be written: No space left on device. Send it elsewhere; a run that it has begun"
    assert capsys.readouterr().err.startswith(told)
