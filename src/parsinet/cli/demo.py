"""The demonstration: the same network on the same data, dense and with gates."""

from pathlib import Path

from rich.console import Console

from parsinet.report import report
from parsinet.training import recipe_from, train

SHARED = {
    "data": {"source": "digits", "batch_size": 32, "validation": 0.1},
    "model": {"name": "mlp", "widths": [1000, 500]},
    "optimizer": {"name": "adam", "weight_decay": 1e-4},
    "schedule": {"kind": "cosine", "hold": 0.6},
    "epochs": 40,
    "threads": 1,
}


def demo(out: Path, *, overwrite: bool = False, console: Console | None = None) -> Path:
    """Train both into `out`/dense and `out`/gates, print the comparison, and return the folder of the plots."""
    console = console or Console()
    folders = []
    for method in ("dense", "gates"):
        console.print(f"[bold]{method}[/bold]: 64-1000-500-10 on digits, {SHARED['epochs']} epochs")
        recipe = recipe_from({**SHARED, "method": {"name": method}})
        folders.append(train(recipe, out / method, overwrite=overwrite, console=console).folder)
    plots = report(folders, out / "report", console)
    console.print(f"Plots and summary: {plots}", highlight=False, markup=False, soft_wrap=True)
    return plots
