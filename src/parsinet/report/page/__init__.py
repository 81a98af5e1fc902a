"""One self-contained HTML page from run records: tables, curves, the network over time; nothing on it is fetched."""

from parsinet.report.page.build import page, waiting

__all__ = ["page", "waiting"]
