"""A run is followed from before it exists to its end, in lines, on a screen and as a page; nothing on the way raises."""

import http.client
import io
import json
import os
import re
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from parsinet.errors import UsageError
from parsinet.report.watch import Tail, follow
from parsinet.report.watch.screen import screen, sparks
from parsinet.report.watch.server import PageServer


def lines_of(folder: Path) -> list[str]:
    return (folder / "record.jsonl").read_text().splitlines(keepends=True)


def put(folder: Path, lines: list[str]) -> None:
    """Write the record anew, as something that is newer than before."""
    folder.mkdir(exist_ok=True)
    record = folder / "record.jsonl"
    record.write_text("".join(lines))
    os.utime(record, ns=(len(lines) * 10**9, len(lines) * 10**9))


def test_a_tail_waits_reads_and_reads_anew(tmp_path: Path, gates: Path) -> None:
    lines = lines_of(gates)
    folder = tmp_path / "later"
    tail = Tail(folder)
    assert (tail.look().run, "nothing at" in tail.look().reason) == (None, True)
    folder.mkdir()
    assert "has no record.jsonl yet" in tail.look().reason
    put(folder, [])
    assert "no 'start' event" in tail.look().reason
    put(folder, lines[:1])
    run = tail.look().run
    assert run is not None
    assert run.epochs == ()
    assert tail.look() is tail.look(), "read once while nothing changes"
    put(folder, lines[:3])
    assert not tail.look().over
    put(folder, lines)
    assert tail.look().over
    (folder / "record.jsonl").unlink()
    assert tail.look().run is None


def test_where_no_run_can_come_waiting_is_refused(tmp_path: Path, gates: Path) -> None:
    with pytest.raises(UsageError, match=re.escape(f"watch one of them: {gates}")):
        Tail(gates.parent)
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="is a file"):
        Tail(tmp_path / "file")


def test_a_torn_line_is_passed_over(tmp_path: Path, gates: Path) -> None:
    put(tmp_path / "torn", [*lines_of(gates)[:4], '{"event":"epoch","ep'])
    run = Tail(tmp_path / "torn").look().run
    assert run is not None
    assert "torn" in run.notes[0]


@pytest.fixture
def growing(tmp_path: Path, gates: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A run that does not exist yet and gets two lines more whenever the watcher sleeps."""
    lines, folder = lines_of(gates), tmp_path / "growing"
    steps = iter([[], *(lines[: 2 * part] for part in range(1, len(lines) // 2 + 1)), lines])

    def sleep(seconds: float) -> None:
        assert seconds == 1.0
        put(folder, next(steps))

    monkeypatch.setattr("parsinet.report.watch.lines.time.sleep", sleep)
    return folder


def test_lines_tell_every_epoch_once(growing: Path) -> None:
    console = Console(file=io.StringIO(), width=200)
    assert follow(growing, console).over
    told = console.file.getvalue().splitlines()  # type: ignore[attr-defined]
    assert told[0].startswith("Waiting: There is nothing at")
    assert sum("Waiting" in line for line in told) <= 3
    epochs = [line.split()[1] for line in told if line.startswith("epoch")]
    assert epochs == [f"{number}/20" for number in range(1, 21)]
    assert told[-1].startswith("gates took lenet-300-100 on mnist from 266,610 to 31,552 parameters")


def test_the_screen_follows_to_the_end(growing: Path) -> None:
    console = Console(file=io.StringIO(), width=100, height=50, force_terminal=True, _environ={"TERM": "xterm"})
    assert follow(growing, console).over
    shown = console.file.getvalue()  # type: ignore[attr-defined]
    assert "Waiting for the run to begin." in shown
    assert "epoch 20 of 20" in shown


def test_a_dumb_terminal_gets_lines(growing: Path) -> None:
    console = Console(file=io.StringIO(), width=100, force_terminal=True, _environ={"TERM": "dumb"})
    assert follow(growing, console).over
    shown = console.file.getvalue()  # type: ignore[attr-defined]
    assert "Waiting: " in shown
    assert "epoch 20/20" in shown


def test_ctrl_c_ends_the_waiting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def sleep(_: float) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("parsinet.report.watch.lines.time.sleep", sleep)
    for terminal in (True, False):
        with pytest.raises(KeyboardInterrupt):
            follow(tmp_path / "nowhere", Console(file=io.StringIO(), force_terminal=terminal))


def drawn(folder: Path, height: int = 60, *, blocks: bool = True) -> str:
    console = Console(file=io.StringIO(), width=100)
    console.print(screen(Tail(folder).look(), 130.0, height, blocks=blocks))
    return console.file.getvalue()  # type: ignore[attr-defined,no-any-return]


def test_the_screen_has_the_records_numbers(gates: Path, tmp_path: Path) -> None:
    put(tmp_path / "part", lines_of(gates)[:12])
    last = [event for event in map(json.loads, lines_of(tmp_path / "part")) if event["event"] == "epoch"][-1]
    shown = drawn(tmp_path / "part")
    for word in (
        f"epoch {last['epoch']} of 20",
        f"{last['parameters']:,}",
        f"{100 * last['validation_error']:.2f} %",
        "last news 2 min ago",
    ):
        assert word in shown, word
    for name, units in last["widths"].items():
        assert f"{units:,} of" in next(line for line in shown.splitlines() if line.startswith(name))


def test_a_small_or_plain_terminal(deep: Path) -> None:
    assert "… and 17 more groups" in drawn(deep, height=20)
    drawn(deep, blocks=False).encode("ascii", "replace")
    assert "█" not in drawn(deep, blocks=False)


def test_names_in_brackets_are_no_markup(tmp_path: Path) -> None:
    start = {"event": "start", "format": 1, "parameters": 10, "macs": 5, "groups": [{"name": "fc[red]x[/red]", "size": 8}]}
    epoch = {"event": "epoch", "epoch": 1, "epochs": 2, "step": 1, "parameters": 10, "macs": 5, "widths": {"fc[red]x[/red]": 4}}
    put(tmp_path / "[bold]run", [json.dumps(event) + "\n" for event in (start, epoch)])
    shown = drawn(tmp_path / "[bold]run")
    assert "fc[red]x[/red]" in shown
    assert "[bold]run" in shown


@pytest.mark.parametrize(("values", "row"), [([0.0, 0.5, 1.0], "▁▅█"), ([None, 2.0], " █"), ([0.0, 0.0], "▁▁"), ([], "")])
def test_sparks(values: list[float | None], row: str) -> None:
    assert sparks(values) == row


@pytest.fixture
def served(tmp_path: Path) -> Iterator[tuple[Path, PageServer]]:
    """A server for a run that is not there yet."""
    folder = tmp_path / "served"
    with PageServer(folder, 0) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield folder, server
        server.shutdown()
        thread.join()


def ask(
    server: PageServer, path: str = "/", host: str | None = None, method: str = "GET", **headers: str
) -> tuple[int, dict[str, Any], str]:
    connection = http.client.HTTPConnection("127.0.0.1", server.server_port, timeout=20)
    connection.request(method, path, headers={"Host": host or f"127.0.0.1:{server.server_port}", **headers})
    answer = connection.getresponse()
    body = answer.read().decode()
    connection.close()
    return answer.status, dict(answer.headers), body


def test_the_server_serves_the_page_as_it_grows(served: tuple[Path, PageServer], gates: Path) -> None:
    folder, server = served
    status, headers, body = ask(server)
    assert (status, "Waiting for the run to begin." in body) == (200, True)
    tag = headers["ETag"]
    assert ask(server, **{"If-None-Match": tag})[0] == 304
    lines = lines_of(gates)
    for count, words in (
        (1, "No epoch of the run has ended yet."),
        (6, "its record has no end yet"),
        (len(lines), "at a test error of 1.82 %"),
    ):
        put(folder, lines[:count])
        status, headers, body = ask(server, **{"If-None-Match": tag})
        assert (status, words in body) == (200, True)
        assert headers["ETag"] != tag
        tag = headers["ETag"]
    assert ask(server, **{"If-None-Match": tag})[0] == 304


def test_the_server_answers_nobody_else(served: tuple[Path, PageServer]) -> None:
    _, server = served
    assert ask(server, host="evil.example")[0] == 403
    assert ask(server, host=f"localhost:{server.server_port}")[0] == 200
    assert ask(server, "/etc/passwd")[0] == 404
    assert ask(server, "/../record.jsonl")[0] == 404
    assert ask(server, method="POST")[0] == 501
    assert server.server_address[0] == "127.0.0.1"


def test_ports(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(UsageError, match=f"port {port} cannot be used"):
            PageServer(tmp_path, port)
    with PageServer(tmp_path) as first, PageServer(tmp_path) as second:
        assert first.server_port != second.server_port, "a port that nobody asked for gives way"
