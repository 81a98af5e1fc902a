"""The demonstration: the same network on the same data, dense and with each method."""

from pathlib import Path
from typing import Any

from rich.console import Console

from parsinet.report import PAGE, report
from parsinet.training import recipe_from, train

SHARED: dict[str, Any] = {
    "data": {"source": "digits", "batch_size": 32, "validation": 0.1},
    "model": {"name": "mlp", "widths": [1000, 500]},
    "schedule": {"kind": "cosine", "hold": 0.6},
    "epochs": 40,
    "threads": 1,
}
ADAM = {"name": "adam", "weight_decay": 1e-4}
RUNS: dict[str, dict[str, Any]] = {
    "dense": {"method": {"name": "dense"}, "optimizer": ADAM},
    "gates": {"method": {"name": "gates"}, "optimizer": ADAM},
    "spectral": {"method": {"name": "spectral", "share": 0.9}, "optimizer": ADAM},
    "sphere": {"method": {"name": "sphere", "sparsity": 0.95}},
}


def demo(out: Path, *, overwrite: bool = False, console: Console | None = None) -> Path:
    """Train all into `out`/<name>, print the comparison, and return the folder of the plots."""
    console = console or Console()
    folders = []
    for name, own in RUNS.items():
        console.print(f"[bold]{name}[/bold]: 64-1000-500-10 on digits, {SHARED['epochs']} epochs")
        folders.append(train(recipe_from({**SHARED, **own}), out / name, overwrite=overwrite, console=console).folder)
    plots = report(folders, out / "report", console)
    console.print(f"Plots and summary: {plots}. Page: {plots / PAGE}", highlight=False, markup=False, soft_wrap=True)
    return plots
