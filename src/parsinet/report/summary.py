"""`summary.md`: the table, the pictures and what each run was, in Markdown."""

from collections.abc import Sequence

from parsinet.report import numbers
from parsinet.report.records import Run
from parsinet.report.table import Row, columns, remarks, state


def summary(rows: Sequence[Row], pictures: Sequence[tuple[str, str]]) -> str:
    """The whole page. pictures: file name and title, in the order shown."""
    title = f"Report of {rows[0].run.name}" if len(rows) == 1 else f"Report of {len(rows)} runs"
    notes = [f"- {_escaped(line)}" for line in remarks(rows)]
    shown = [f"## {_escaped(name)}\n\n![{_escaped(name)}]({file})" for file, name in pictures]
    settings = ["## Settings", *(_settings(row.run) for row in rows)]
    parts = [f"# {_escaped(title)}", _table(rows), "\n".join(notes), *shown, *settings]
    return "\n\n".join(part for part in parts if part) + "\n"


def _table(rows: Sequence[Row]) -> str:
    outcome, cost = columns(rows)
    shown = (*outcome, *cost)
    lines = [["Run", "Method", *(_joined(column.title, column.under) for column in shown)]]
    for row in rows:
        lines.append([_joined(row.run.name, state(row.run)), row.run.method, *(_joined(c.value(row), c.detail(row)) for c in shown)])
    rule = ["---", "---", *("---:" for _ in shown)]
    head, *body = ["| " + " | ".join(_escaped(cell) for cell in line) + " |" for line in lines]
    return "\n".join([head, "| " + " | ".join(rule) + " |", *body])


def _joined(value: str, detail: str) -> str:
    return f"{value} ({detail})" if detail else value


def _escaped(words: str) -> str:
    """Text whose characters Markdown would read as marks are shown as they are."""
    return "".join("\\" + letter if letter in "\\|*_`[]<>" else letter for letter in " ".join(words.split()))


def _settings(run: Run) -> str:
    facts = {
        "folder": f"`{run.folder}`",
        "method": _escaped(run.method),
        "model": _escaped(run.model),
        "data": _escaped(run.dataset),
        "seed": run.seed,
        "epochs": run.total_epochs,
        "versions": _escaped(numbers.listed(run.versions)) or None,
        "machine": _escaped(numbers.listed(run.machine)) or None,
    }
    lines = [f"- {key}: {value}" for key, value in facts.items() if value is not None]
    return "\n".join([f"**{_escaped(run.name)}**", "", *lines])
