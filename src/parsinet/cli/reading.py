"""What `report` and `watch` do, once their options are read; neither trains nor imports torch."""

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from parsinet import report as reports
from parsinet.errors import UsageError


def report(runs: Sequence[Path], out: Path | None, html: str | None) -> None:
    """Table, plots, summary and page; with `html` (a file, or '' for the usual place) the page alone."""
    console = Console()
    if html is None:
        plots = reports.report(runs, out, console)
        _say(console, f"Plots and summary: {plots}. Page: {plots / reports.PAGE}")
        return
    if html and out is not None:
        raise UsageError("--out and --html FILE exclude each other: both say where the page goes.")
    file = next((run for run in runs if run.suffix and not run.exists()), None)
    if not html and file is not None:
        raise UsageError(f"--html takes a file whose name ends in .html, or nothing; {file} is neither that nor a run.")
    usual = None if out is None else out / reports.PAGE
    _say(console, f"Page: {reports.write_page(runs, Path(html) if html else usual)}")


def watch(run: Path, browser: bool, port: int | None) -> None:
    """In the terminal, or as a page on this machine, until the run is over or Ctrl-C."""
    if port is not None and not browser:
        raise UsageError("--port goes with --browser.")
    console = Console()
    try:
        if browser:
            reports.serve(run, console, port)
        else:
            reports.follow(run, console)
    except KeyboardInterrupt:
        _say(console, "No longer watching.")


def _say(console: Console, words: str) -> None:
    console.print(words, highlight=False, markup=False, soft_wrap=True)
