"""Looking at a run while it trains: its record is read again whenever it has grown; in the terminal, or as a page on this machine."""

from parsinet.report.watch.lines import follow
from parsinet.report.watch.server import serve
from parsinet.report.watch.tail import State, Tail

__all__ = ["State", "Tail", "follow", "serve"]
