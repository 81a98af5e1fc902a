"""A sweep on the terminal: the trials no other beats, what they were drawn, and what became of the rest."""

from collections import Counter
from collections.abc import Callable
from typing import Any

from rich import box
from rich.console import Console
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
MOST = 12
"""More trials than this are not shown of a front."""


def show_sweep(console: Console, sweep: Sweep) -> None:
    """Print the front of a sweep, by growing size, and one line about all its trials; of a sweep for the error alone its best trials."""
    rows = _rows(sweep)
    if rows:
        console.print(_table(sweep, rows))
    for line in _remarks(sweep, rows):
        console.print(Text(line, style="dim"))


def counted(sweep: Sweep) -> str:
    """`40 trials: 31 complete, 8 pruned, 1 failed`."""
    states = Counter(trial.state for trial in sweep.trials)
    word = "trial" if len(sweep.trials) == 1 else "trials"
    parts = [f"{states[state]} {state}" for state in ("complete", "pruned", "failed", "running", "waiting") if states[state]]
    return f"{len(sweep.trials)} {word}: {', '.join(parts)}" if parts else "no trials"


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


def _table(sweep: Sweep, rows: list[Trial]) -> Table:
    tuned = list(dict.fromkeys(path for trial in rows for path in trial.params))
    short = _shortened(tuned)
    grid = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    for heading in ("Trial", "Validation error", *(title for title, _ in SIZES.values()), *(short[path] for path in tuned)):
        grid.add_column(heading, justify="right", overflow="fold")
    for trial in rows:
        name = (
            Text.assemble(str(trial.number), (f"\n{label(sweep, trial.number)}", "bold"))
            if label(sweep, trial.number)
            else Text(str(trial.number))
        )
        sizes = (form(trial.sizes[key]) if key in trial.sizes else "–" for key, (_, form) in SIZES.items())
        grid.add_row(name, _error(trial), *sizes, *(_value(trial.params.get(path)) for path in tuned))
    return grid


def _shortened(paths: list[str]) -> dict[str, str]:
    """Path → its last key where that is enough to tell it from the others."""
    last = Counter(path.rpartition(".")[2] for path in paths)
    return {path: path.rpartition(".")[2] if last[path.rpartition(".")[2]] == 1 else path for path in paths}


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
