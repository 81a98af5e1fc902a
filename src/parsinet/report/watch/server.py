"""The page of a run on this machine: served on 127.0.0.1 only, built anew when the record has grown."""

import hashlib
import http.server
import threading
from pathlib import Path
from typing import Any

from rich.console import Console

from parsinet.errors import UsageError
from parsinet.report.page import page, waiting
from parsinet.report.watch.tail import Tail

HOST = "127.0.0.1"
PORT = 8765


class PageServer(http.server.ThreadingHTTPServer):
    """Answers `/` with the page of the run in `folder`. port: None for 8765 or, if that is taken, any free one; 0 for any free one.

    Raises UsageError if a port that was asked for cannot be had.
    """

    daemon_threads = True

    def __init__(self, folder: Path, port: int | None = None) -> None:
        self._tail, self._lock = Tail(folder), threading.Lock()
        self._built: tuple[str, bytes] | None = None
        try:
            super().__init__((HOST, PORT if port is None else port), _Handler)
        except OSError as error:
            if port is not None:
                raise UsageError(
                    f"watch: port {port} cannot be used ({error.strerror or error}). Choose another one, or leave it out."
                ) from error
            super().__init__((HOST, 0), _Handler)

    @property
    def address(self) -> str:
        """Where the page is."""
        return f"http://{HOST}:{self.server_port}/"

    def current(self) -> tuple[str, bytes]:
        """Version and page as the record is now; built once per version."""
        with self._lock:
            state = self._tail.look()
            version = hashlib.sha256(f"{state.version} {state.reason}".encode()).hexdigest()[:16]
            if self._built is None or self._built[0] != version:
                text = waiting(self._tail.folder, state.reason) if state.run is None else page([state.run], live=True)
                self._built = version, text.encode()
            return self._built


class _Handler(http.server.BaseHTTPRequestHandler):
    """GET / and nothing else, for pages of this very server: a name that another site points here is refused."""

    server: PageServer

    def do_GET(self) -> None:
        """The page, or 304 if the browser has it already."""
        allowed = {f"{host}:{self.server.server_port}" for host in (HOST, "localhost")}
        if self.headers.get("Host", "") not in allowed:
            return self.send_error(403)
        if self.path != "/":
            return self.send_error(404)
        version, content = self.server.current()
        tag = f'"{version}"'
        same = self.headers.get("If-None-Match") == tag
        self.send_response(304 if same else 200)
        self.send_header("ETag", tag)
        self.send_header("Cache-Control", "no-store")
        self.send_header("X-Content-Type-Options", "nosniff")
        self.send_header("Content-Type", "text/html; charset=utf-8")
        self.send_header("Content-Length", str(0 if same else len(content)))
        self.end_headers()
        if not same:
            self.wfile.write(content)
        return None

    def log_message(self, format: str, *args: Any) -> None:
        """Quiet: the terminal shows the address alone."""


def serve(folder: Path, console: Console, port: int | None = None) -> None:
    """Serve the live page of the run in `folder`, which need not exist yet, until KeyboardInterrupt."""
    with PageServer(folder, port) as server:
        console.print(f"Watching {folder} at {server.address}", highlight=False, markup=False, soft_wrap=True)
        console.print("Ctrl-C ends the watching, not the run.", style="dim")
        console.file.flush()
        server.serve_forever(poll_interval=0.2)
