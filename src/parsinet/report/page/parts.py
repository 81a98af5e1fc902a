"""The parts of the page that need no script: headline, tables, remarks, and a place for each drawing."""

from collections.abc import Iterator, Sequence

from parsinet.report import numbers
from parsinet.report.page.figures import before_after, tiles
from parsinet.report.page.markup import Markup, joined, tag
from parsinet.report.page.words import headline, one
from parsinet.report.records import Run
from parsinet.report.table import Row, columns, remarks, state

SETTLED = {"finished": "finished", "unfinished": "not over", "interrupted": "interrupted", "failed": "failed"}


def head(rows: Sequence[Row]) -> Markup:
    """What the page is about, its sentence, and the first numbers or the comparison."""
    names = rows[0].run.name if len(rows) == 1 else f"{len(rows)} runs"
    first = _tiles(rows[0]) if len(rows) == 1 else _comparison(rows)
    facts = _facts(rows[0].run) if len(rows) == 1 else joined([])
    sentence, below = headline(rows)
    return joined([tag("p", names, class_="eyebrow"), tag("h1", sentence), *_lead(below), facts, first])


def notes(rows: Sequence[Row]) -> Markup:
    """What the figures are measured against and what the reader must know."""
    lines = remarks(rows)
    return tag("ul", *(tag("li", line) for line in lines), class_="notes") if lines else joined([])


def run_section(row: Row, place: int, several: bool) -> Markup:
    """Everything about a single run: its numbers before and after, its drawings, its settings."""
    run = row.run
    title = joined([tag("h2", run.name), *_lead(" ".join(one(row))), _facts(run)]) if several else joined([])
    table = tag("section", tag("h3", "Before and after"), _before_after(row), class_="card")
    drawing = tag("section", tag("h3", "The network"), tag("div", data_draw="network"), class_="card")
    curves = joined([] if several else [tag("div", data_draw="curves")])
    top = tag("div", table, drawing, class_="pair")
    return tag(
        "article",
        title,
        top,
        curves,
        tag("div", data_draw="views"),
        _settings(run),
        class_="run",
        data_run=str(place),
        aria_label=f"Run {run.name}",
    )


def _tiles(row: Row) -> Markup:
    shown = (tag("div", tag("dt", title), tag("dd", number), tag("dd", below, class_="below")) for title, number, below in tiles(row))
    return tag("dl", *shown, class_="tiles")


def _facts(run: Run) -> Markup:
    seed = None if run.seed is None else f"seed {run.seed}"
    epochs = None if run.total_epochs is None else f"{run.total_epochs:,} epochs"
    words = [f"method {run.method}", run.model, run.dataset, seed, epochs]
    chips = [tag("li", word) for word in words if word is not None]
    return tag("ul", *chips, tag("li", SETTLED[run.status], class_=f"status {run.status}"), class_="facts")


def _before_after(row: Row) -> Markup:
    after = "After" if row.run.end is not None else "Now"
    titles = tag("tr", *(tag("th", word, scope="col") for word in ("Quantity", "Before", after, "Left, or speed")))
    lines = [
        tag("tr", tag("th", line.title, scope="row"), *(tag("td", cell) for cell in (line.before, line.after, line.change)))
        for line in before_after(row)
    ]
    caption = tag("caption", f"{row.run.name} before training and {'in its result' if row.run.end else 'as last recorded'}")
    return tag("div", tag("table", caption, tag("thead", titles), tag("tbody", *lines)), class_="scroll", tabindex="0", role="region",
               aria_label="Numbers before and after")  # fmt: skip


def _comparison(rows: Sequence[Row]) -> Markup:
    shown = [column for part in columns(rows) for column in part]
    heads = [tag("th", column.title, *_below(column.under), scope="col") for column in shown]
    titles = tag("tr", tag("th", "Run", scope="col"), tag("th", "Method", scope="col", class_="word"), *heads)
    lines = []
    for row in rows:
        cells = (tag("td", column.value(row), *_below(column.detail(row))) for column in shown)
        name = tag("th", row.run.name, *_below(state(row.run)), scope="row")
        lines.append(tag("tr", name, tag("td", row.run.method, class_="word"), *cells))
    table = tag("table", tag("caption", "All runs side by side"), tag("thead", titles), tag("tbody", *lines), class_="comparison")
    return tag("div", table, class_="scroll", tabindex="0", role="region", aria_label="Comparison of the runs")


def _lead(words: str) -> Iterator[Markup]:
    if words.strip():
        yield tag("p", words, class_="lead")


def _below(words: str) -> Iterator[Markup]:
    if words:
        yield tag("small", words)


def _settings(run: Run) -> Markup:
    facts = {
        "folder": str(run.folder),
        "seed": None if run.seed is None else str(run.seed),
        "versions": numbers.listed(run.versions),
        "machine": numbers.listed(run.machine),
        "input": " × ".join(f"{side:,}" for side in run.input_shape),
    }
    lines = [joined([tag("dt", key), tag("dd", value)]) for key, value in facts.items() if value]
    return tag("details", tag("summary", "Settings and machine"), tag("dl", *lines, class_="settings"))
