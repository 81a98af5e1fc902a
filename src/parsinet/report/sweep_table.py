"""A sweep on the terminal: the trials no other beats, what they were drawn, and what became of the rest."""

from collections import Counter
from collections.abc import Callable
from typing import Any

from rich import box
from rich.console import Console
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from parsinet.report import numbers
from parsinet.report.sweeps import Sweep, Trial

SIZES: dict[str, tuple[str, Callable[[float], str]]] = {
    "parameters": ("Parameters", numbers.count),
    "macs": ("MACs", numbers.count),
    "bytes": ("Bytes", numbers.stored),
    "latency": ("Batch 1", numbers.milliseconds),
}
Cells = dict[str, list[str]]
"""Heading → a cell for each trial."""
MOST = 12
"""More trials than this are not shown of a front."""


def show_sweep(console: Console, sweep: Sweep) -> None:
    """Print the front of a sweep, by growing size, and one line about all its trials; of a sweep for the error alone its best trials."""
    rows = _rows(sweep)
    for part in _tables(console, sweep, rows) if rows else ():
        console.print(part)
    for line in _remarks(sweep, rows):
        console.print(Text(line, style="dim"))


def counted(sweep: Sweep) -> str:
    """`40 trials: 31 complete, 8 pruned, 1 failed`, or `24 trials` where all are complete."""
    states = Counter(trial.state for trial in sweep.trials)
    whole = "1 trial" if len(sweep.trials) == 1 else f"{len(sweep.trials) or 'no'} trials"
    parts = [f"{states[state]} {state}" for state in ("complete", "pruned", "failed", "running", "waiting") if states[state]]
    return whole if set(states) <= {"complete"} else f"{whole}: {', '.join(parts)}"


def label(sweep: Sweep, number: int) -> str:
    """`knee`, `best` or nothing."""
    return " ".join(word for word, of in (("best", sweep.best), ("knee", sweep.knee)) if of == number)


def _rows(sweep: Sweep) -> list[Trial]:
    if len(sweep.objectives) == 1:
        return sorted(sweep.complete, key=lambda trial: (trial.values, trial.number))[:5]
    front = [sweep.trial(number) for number in sweep.front]
    if len(front) <= MOST:
        return front
    places = {round(place * (len(front) - 1) / (MOST - 1)) for place in range(MOST)}
    return [trial for place, trial in enumerate(front) if place in places or trial.number in (sweep.best, sweep.knee)]


def _tables(console: Console, sweep: Sweep, rows: list[Trial]) -> list[Table]:
    """Numbers and settings in one table where the terminal is wide enough, else in two."""
    measured = _measured(rows)
    drawn = _drawn(rows)
    whole = _table(sweep, rows, {**measured, **drawn})
    fits = Measurement.get(console, console.options.update(max_width=10_000), whole).maximum <= console.width
    return [whole] if fits or not drawn else [_table(sweep, rows, measured), _table(sweep, rows, drawn)]


def _measured(rows: list[Trial]) -> Cells:
    sizes = {title: [form(trial.sizes[key]) if key in trial.sizes else "–" for trial in rows] for key, (title, form) in SIZES.items()}
    return {"Validation error": [_error(trial) for trial in rows], **sizes}


def _drawn(rows: list[Trial]) -> Cells:
    paths = list(dict.fromkeys(path for trial in rows for path in trial.params))
    last = Counter(path.rpartition(".")[2] for path in paths)
    short = {path: path.rpartition(".")[2] if last[path.rpartition(".")[2]] == 1 else path for path in paths}
    return {short[path]: [_value(trial.params.get(path)) for trial in rows] for path in paths}


def _table(sweep: Sweep, rows: list[Trial], cells: Cells) -> Table:
    grid = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    grid.add_column("Trial", no_wrap=True)
    for heading in cells:
        grid.add_column(heading, justify="right", overflow="fold")
    for place, trial in enumerate(rows):
        name = Text.assemble(f"{trial.number} ", (label(sweep, trial.number), "bold"))
        grid.add_row(name, *(column[place] for column in cells.values()))
    return grid


def _error(trial: Trial) -> str:
    return "–" if trial.values is None else numbers.error(trial.values[0])


def _value(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else "–" if value is None else str(value)


def _remarks(sweep: Sweep, rows: list[Trial]) -> list[str]:
    lines = [f"{sweep.name}: {counted(sweep)}."]
    if len(sweep.objectives) > 1 and rows:
        unseen = f" {len(sweep.front) - len(rows)} more of them are in study.json." if len(rows) < len(sweep.front) else ""
        lines.append(f"Shown: those no other trial beats in validation error and {sweep.objectives[1]}.{unseen}")
    if len(sweep.seeds) > 1:
        lines.append(f"Each number is the mean over seeds {', '.join(map(str, sweep.seeds))}.")
    if sweep.reference is not None:
        values = sweep.reference.values
        lines.append(f"Reference {sweep.reference.name!r}: validation error {numbers.error(values[0])}.")
    reasons = Counter(trial.reason for trial in sweep.trials if trial.state == "failed")
    lines.extend(f"{many} failed: {reason}" for reason, many in reasons.most_common(3))
    return lines
