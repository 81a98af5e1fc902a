"""The report of a sweep: its table in the terminal, its picture beside its study.json."""

from pathlib import Path

from rich.console import Console

from parsinet import files
from parsinet.report import style
from parsinet.report.sweep_table import show_sweep
from parsinet.report.sweeps import read_sweep
from parsinet.report.tradeoff import tradeoff

PICTURE, HISTORY = "pareto.png", "history.png"


def sweep_report(folder: str | Path, console: Console | None = None, out: Path | None = None) -> Path | None:
    """Print the table and draw `pareto.png`, or `history.png` of a sweep for the error alone, from study.json; into `out` instead of the
    sweep's folder if given. Returns the picture's path; None while no trial has ended well.

    Errors: DataError, StorageError.
    """
    sweep = read_sweep(folder)
    show_sweep(console or Console(), sweep)
    page = tradeoff(sweep)
    if page is None:
        return None
    target = Path(folder) if out is None else Path(out)
    files.make_folder(target)
    path = target / (PICTURE if len(sweep.objectives) > 1 else HISTORY)
    files.write_bytes(path, style.png(page))
    return path
