"""The comparison table on the terminal, in one piece where it fits, else in as few as it takes."""

from collections.abc import Sequence

from rich import box
from rich.console import Console
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from parsinet.report.table import Column, Row, columns, remarks, state


def show(console: Console, rows: Sequence[Row]) -> None:
    """Print the table and the remarks below it."""
    outcome, cost = columns(rows)
    whole = (*outcome, *cost)
    parts = [whole] if _fits(console, rows, whole) else [*_pieces(console, rows, outcome), *_pieces(console, rows, cost)]
    for part in parts:
        console.print(_table(rows, part))
    for line in remarks(rows):
        console.print(Text(line, style="dim"))


def _fits(console: Console, rows: Sequence[Row], shown: Sequence[Column]) -> bool:
    """Whether the table with these columns is no wider than the terminal."""
    table = _table(rows, shown)
    return Measurement.get(console, console.options.update(max_width=10_000), table).maximum <= console.width


def _pieces(console: Console, rows: Sequence[Row], shown: Sequence[Column]) -> list[list[Column]]:
    """The columns in their order, so many together as fit."""
    pieces: list[list[Column]] = [[]]
    for column in shown:
        if pieces[-1] and not _fits(console, rows, [*pieces[-1], column]):
            pieces.append([])
        pieces[-1].append(column)
    return pieces


def _table(rows: Sequence[Row], shown: Sequence[Column]) -> Table:
    grid = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    grid.add_column("Run", overflow="fold", min_width=8)
    grid.add_column("Method", overflow="fold", min_width=6)
    for column in shown:
        grid.add_column(_two_lines(column.title, column.under), justify="right", no_wrap=True)
    for row in rows:
        name = _two_lines(row.run.name, state(row.run), "red" if row.run.status == "failed" else "yellow")
        grid.add_row(name, Text(row.run.method), *(_two_lines(column.value(row), column.detail(row)) for column in shown))
    return grid


def _two_lines(first: str, second: str, look: str = "dim") -> Text:
    return Text.assemble(first, ("\n" + second, look)) if second else Text(first)
