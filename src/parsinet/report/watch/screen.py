"""A run as it stands, for the terminal: how far it is, its numbers, its curves as rows of blocks, its groups as bars."""

from collections.abc import Sequence

from rich.console import Group, RenderableType
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from parsinet.report import numbers, table, timeline
from parsinet.report.page.figures import before_after
from parsinet.report.page.words import one
from parsinet.report.records import Epoch, Run
from parsinet.report.watch.tail import State

BLOCKS = "▁▂▃▄▅▆▇█"
LOOK = {"finished": "green", "unfinished": "cyan", "interrupted": "yellow", "failed": "red"}
BAR = 30


def screen(state: State, age: float | None, height: int, *, blocks: bool = True) -> RenderableType:
    """Everything at once. age: seconds since the record last grew. height: lines there are; blocks: whether the terminal shows them."""
    if state.run is None:
        return Group(Text("Waiting for the run to begin.", style="bold"), Text(state.reason), Text("Ctrl-C ends the waiting.", style="dim"))
    run = state.run
    parts: list[RenderableType] = [_head(run), _progress(run, age), Text(), _numbers(run)]
    if blocks and len(run.epochs) > 1:
        parts += [Text(), _curves(run)]
    groups = timeline.groups(run)
    if groups:
        parts += [Text(), _groups(run, groups, max(3, height - 26), blocks=blocks)]
    last = " ".join(one(table.rows([run])[0])) if state.over else "Ctrl-C ends the watching, not the run."
    return Group(*parts, Text(), Text(last, style="" if state.over else "dim"))


def _head(run: Run) -> Text:
    status = (run.status.replace("unfinished", "training"), LOOK[run.status])
    return Text.assemble((run.name, "bold"), f"  {run.method} · {run.model} · {run.dataset}  ", status)


def _progress(run: Run, age: float | None) -> RenderableType:
    done = run.epochs[-1].epoch if run.epochs else 0
    of = f"epoch {done:,} of {run.total_epochs:,}" if run.total_epochs else "first epoch"
    trained = "" if run.seconds is None else f"  {numbers.duration(run.seconds)} of training"
    news = "" if age is None or run.status != "unfinished" else f"  last news {_ago(age)} ago"
    row = Table.grid(padding=(0, 2))
    row.add_row(ProgressBar(total=run.total_epochs or 1, completed=done, width=BAR), Text(f"{of}{trained}{news}"))
    return row


def _ago(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min"


def _numbers(run: Run) -> Table:
    grid = Table.grid(padding=(0, 3))
    grid.add_column()
    for _ in range(3):
        grid.add_column(justify="right")
    grid.add_row(*(Text(word, style="dim") for word in ("", "before", "now", "left, or speed")))
    for line in before_after(table.rows([run])[0]):
        grid.add_row(line.title, line.before, Text(line.after, style="bold"), line.change)
    return grid


def _curves(run: Run) -> Table:
    grid = Table.grid(padding=(0, 2))
    shown = run.epochs[-60:]
    for title, values, form in (
        ("validation error", [epoch.validation_error for epoch in shown], numbers.error),
        ("training error", [epoch.train_error for epoch in shown], numbers.error),
        ("loss", [epoch.loss for epoch in shown], lambda value: f"{value:.4f}"),
        ("parameters", [float(epoch.size.parameters) for epoch in shown], numbers.count),
    ):
        known = [value for value in values if value is not None]
        if known:
            grid.add_row(title, Text(sparks(values), style="cyan"), f"{form(known[0])} → {form(known[-1])}")
    return grid


def sparks(values: Sequence[float | None]) -> str:
    """One block per value, from zero to the largest; a space where there is none."""
    top = max((value for value in values if value is not None), default=0.0) or 1.0
    return "".join(" " if value is None else BLOCKS[min(7, int(8 * max(value, 0.0) / top))] for value in values)


def _groups(run: Run, groups: dict[str, int], most: int, *, blocks: bool) -> RenderableType:
    grid = Table.grid(padding=(0, 2))
    widest = max(groups.values())
    full, empty = ("█", "░") if blocks else ("#", ".")
    for name, size in list(groups.items())[:most]:
        units = _units(run.epochs, name, size) if run.end is None else run.end.widths.get(name, _units(run.epochs, name, size))
        whole, there = (max(1, round(BAR * part / max(widest, 1))) for part in (size, units))
        bar = Text.assemble((full * min(there, whole), "cyan"), (empty * (whole - there), "dim"))
        grid.add_row(Text(name), bar, f"{units:,} of {size:,}")
    return grid if len(groups) <= most else Group(grid, Text(f"… and {len(groups) - most:,} more groups", style="dim"))


def _units(epochs: Sequence[Epoch], name: str, size: int) -> int:
    return next((epoch.widths[name] for epoch in reversed(epochs) if name in epoch.widths), size)
