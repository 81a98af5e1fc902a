"""The report of one run or several: a table in the terminal; plots, a summary and a page in a folder."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from parsinet import files
from parsinet.errors import ArgumentTypeError, UsageError
from parsinet.report import style, table
from parsinet.report.inputs import kept_inputs
from parsinet.report.layers import layers
from parsinet.report.page import page as html_page
from parsinet.report.pareto import pareto
from parsinet.report.progress import progress
from parsinet.report.reading import read
from parsinet.report.records import Run
from parsinet.report.summary import summary
from parsinet.report.sweep_report import sweep_report
from parsinet.report.sweeps import is_sweep
from parsinet.report.terminal import show
from parsinet.report.thetas import thetas

if TYPE_CHECKING:
    from matplotlib.figure import Figure


PAGE = "report.html"


def report(runs: Sequence[Path], out: Path | None = None, console: Console | None = None) -> Path:
    """Compare runs: print the table, write the plots, `summary.md` and `report.html` into `out`, return that folder.

    runs: folders written by training; several are compared in the order given. A single folder of a sweep gives the sweep's own table and
    picture, see `sweep_report`. out: `<run>/report` for one run,
    `<common parent>/report` for several. console: where the table goes, the terminal if None.

    Raises UsageError without a run, DataError for a folder that is no run, StorageError where `out` cannot be written.
    """
    folders = _folders(runs)
    if any(is_sweep(folder) for folder in folders):
        return _of_sweep(folders, out, console)
    read_runs = _read(folders)
    target = _target(folders) if out is None else Path(out)
    files.make_folder(target)
    rows = table.rows(read_runs)
    console = Console() if console is None else console
    show(console, rows)
    pictures = []
    for name, title, page in _pictures(read_runs):
        files.write_bytes(target / name, style.png(page))
        pictures.append((name, title))
    files.write_text(target / "summary.md", summary(rows, pictures))
    files.write_text(target / PAGE, html_page(read_runs))
    return target


def _of_sweep(folders: Sequence[Path], out: Path | None, console: Console | None) -> Path:
    if len(folders) > 1:
        raise UsageError("report: a sweep is reported by itself. Name one sweep, or runs: those of a trial lie in <sweep>/trials.")
    sweep_report(folders[0], console, out)
    return folders[0] if out is None else Path(out)


def write_page(runs: Sequence[Path], file: Path | None = None) -> Path:
    """Write the page of one run or several alone, return its file: `report.html` in the folder that `report` takes if None.

    Raises as `report` does.
    """
    folders = _folders(runs)
    content = html_page(_read(folders))
    target = _target(folders) / PAGE if file is None else Path(file)
    files.make_folder(target.parent)
    files.write_text(target, content)
    return target


def _read(folders: Sequence[Path]) -> list[Run]:
    return _renamed([read(folder) for folder in folders])


def _folders(runs: Sequence[Path]) -> list[Path]:
    """The folders, each once."""
    if isinstance(runs, (str, os.PathLike)):
        raise ArgumentTypeError(f"report: runs must be a list of folders, got one path. Write report([{str(runs)!r}]).")
    unique = {os.path.realpath(run): Path(run) for run in reversed(runs)}
    if not unique:
        raise UsageError("report: name at least one run folder, got none.")
    return list(reversed(unique.values()))


def _target(folders: Sequence[Path]) -> Path:
    if len(folders) == 1:
        return folders[0] / "report"
    return Path(os.path.commonpath([os.path.dirname(os.path.abspath(folder)) for folder in folders])) / "report"


def _renamed(runs: Sequence[Run]) -> list[Run]:
    """Runs under names that tell them apart: the folder's name, with as many parents as it takes."""
    parts = [run.folder.resolve().parts for run in runs]
    depth = 1
    while len({part[-depth:] for part in parts}) < len(parts):
        depth += 1
    return [replace(run, name="/".join(part[-depth:])) for run, part in zip(runs, parts, strict=True)]


def _pictures(runs: Sequence[Run]) -> Iterator[tuple[str, str, Figure]]:
    """File name, title and page of every plot the records have the numbers for."""
    for name, title, page in (
        ("pareto.png", "Error against parameters and training time", pareto(runs)),
        ("progress.png", "Error and size over epochs", progress(runs, "epoch")),
        ("progress-seconds.png", "Error and size over training time", progress(runs, "seconds")),
    ):
        if page is not None:
            yield name, title, page
    for run, ending in zip(runs, _endings(runs), strict=True):
        whose = f" of {run.name}" if ending else ""
        for name, title, draw in (
            ("widths", "Widths", layers),
            ("gates", "Gate probabilities", thetas),
            ("inputs", "Inputs that are read", kept_inputs),
        ):
            page = draw(run)
            if page is not None:
                yield f"{name}{ending}.png", f"{title}{whose}", page


def _endings(runs: Sequence[Run]) -> list[str]:
    """What tells the file names of several runs apart."""
    if len(runs) == 1:
        return [""]
    plain = ["-" + re.sub(r"[^A-Za-z0-9._-]+", "-", run.name) for run in runs]
    unique = len({ending.lower() for ending in plain}) == len(plain)
    return plain if unique else [f"-{place}{ending}" for place, ending in enumerate(plain, 1)]
