"""The comparison table on the terminal, in one piece where it fits and in two where it does not."""

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
    whole = _table(rows, (*outcome, *cost))
    fits = Measurement.get(console, console.options.update(max_width=10_000), whole).maximum <= console.width
    for part in (whole,) if fits else (_table(rows, outcome), _table(rows, cost)):
        console.print(part)
    for line in remarks(rows):
        console.print(Text(line, style="dim"))


def _table(rows: Sequence[Row], shown: Sequence[Column]) -> Table:
    grid = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    grid.add_column("Run", overflow="fold")
    grid.add_column("Method", overflow="fold")
    for column in shown:
        grid.add_column(_two_lines(column.title, column.under), justify="right", no_wrap=True)
    for row in rows:
        name = _two_lines(row.run.name, state(row.run), "red" if row.run.status == "failed" else "yellow")
        grid.add_row(name, Text(row.run.method), *(_two_lines(column.value(row), column.detail(row)) for column in shown))
    return grid


def _two_lines(first: str, second: str, look: str = "dim") -> Text:
    return Text.assemble(first, ("\n" + second, look)) if second else Text(first)
