"""The report of a suite from its records alone: report.md with tables and pareto.png."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import mean
from typing import Any

from parsinet import files
from parsinet.bench.curves import Spread, at_error, at_size, curves, ranked, spread
from parsinet.bench.jobs import choice
from parsinet.bench.picture import pareto
from parsinet.bench.suite import Suite
from parsinet.errors import UsageError
from parsinet.report import style

PAGE, PICTURE = "report.md", "pareto.png"
Event = Mapping[str, Any]


def write_report(suite: Suite, out: Path, events: Sequence[Event]) -> Path:
    """Write the page and the picture into `out`; returns the page's path."""
    page = pareto(suite, events)
    if page is not None:
        files.write_bytes(out / PICTURE, style.png(page))
    files.write_text(out / PAGE, text(suite, events))
    return out / PAGE


def text(suite: Suite, events: Sequence[Event]) -> str:
    """The page."""
    rows = _current(suite, events)
    if not rows:
        return f"# {suite.title}\n\nNothing is trained yet.\n"
    parts = [
        f"# {suite.title}",
        _protocol(suite, rows),
        f"![{_name(suite)} over size and over training time]({PICTURE})",
        f"## At equal size\n\n{at_sizes(suite, rows)}",
        *([f"## At equal {suite.metric}\n\n{at_errors(suite, rows)}"] if suite.errors else []),
        f"## Every row\n\n{every_row(suite, rows)}",
        f"## Left out\n\n{_left_out(suite, events)}",
        f"## What the trials chose\n\n{_chosen(suite, events)}",
    ]
    return "\n\n".join(parts) + "\n"


def at_sizes(suite: Suite, rows: Sequence[Event]) -> str:
    """Errors at the suite's sizes, rows by their mean place, the best of a column bold."""
    cells = {
        title: [spread([at_size(points, size) for points in curves(rows, title, suite.size, suite.metric)]) for size in suite.sizes]
        for title in _titles(rows)
    }
    return _ranking(suite, cells, [f"{_name(suite)} at {size:,}" for size in suite.sizes], _error(suite))


def at_errors(suite: Suite, rows: Sequence[Event]) -> str:
    """Sizes at the suite's errors."""
    cells = {
        title: [spread([at_error(points, error) for points in curves(rows, title, suite.size, suite.metric)]) for error in suite.errors]
        for title in _titles(rows)
    }
    shown = [f"{suite.size} at {100 * error:g} %" if suite.metric == "error" else f"{suite.size} at {error:g}" for error in suite.errors]
    return _ranking(suite, cells, shown, "{:,.0f}")


def every_row(suite: Suite, rows: Sequence[Event]) -> str:
    """Each row and strength: means over seeds, the range of errors in brackets."""
    head = ["row", "strength", "seeds", f"{_name(suite)} (range)", "parameters", "nonzeros", "MACs", "CPU s", "training MACs"]
    lines = [[*head, "speed-up, batch 1", "batch 64"]]
    for title in _titles(rows):
        own = [event for event in rows if event["row"] == title]
        for strength in sorted({_plain(event["strength"]) for event in own}, key=lambda word: (len(word), word)):
            lines.append(_line(suite, title, strength, [event for event in own if _plain(event["strength"]) == strength]))
    return _table(lines)


def _line(suite: Suite, title: str, strength: str, own: Sequence[Event]) -> list[str]:
    form, errors = _error(suite), [event[suite.metric] for event in own]
    sizes = [f"{mean(event[key] for event in own):,.0f}" for key in ("parameters", "nonzeros", "macs")]
    speed = [mean(event["speed"][place]["start"] / event["speed"][place]["lean"] for event in own) for place in (0, 1)]
    return [
        title,
        strength,
        str(len(own)),
        f"{_scaled(suite, form, mean(errors))} ({_scaled(suite, form, min(errors))}–{_scaled(suite, form, max(errors))})",
        *sizes,
        f"{mean(event['cpu_seconds'] for event in own):.1f}",
        f"{mean(event['train_macs'] for event in own):.2e}",
        *(f"{ratio:.1f}×" for ratio in speed),
    ]


def _ranking(suite: Suite, cells: Mapping[str, Sequence[Spread | None]], heads: Sequence[str], form: str) -> str:
    order = ranked({title: each for title, each in cells.items() if any(each)})
    lines = [["mean place", "row", "seeds", *heads]]
    for title, place in order.items():
        shown = [str(max(len(cell.values) for cell in cells[title] if cell is not None))]
        for column, cell in enumerate(cells[title]):
            best = min(found.mean for each in cells.values() if (found := each[column]) is not None) if cell is not None else 0.0
            shown.append(_cell(suite, form, cell, cell is not None and cell.mean == best))
        lines.append([f"{place:.1f}", title, *shown])
    return _table(lines)


def _cell(suite: Suite, form: str, cell: Spread | None, best: bool) -> str:
    if cell is None:
        return "–"
    words = _scaled(suite, form, cell.mean)
    if cell.deviation is not None:
        words += f" ± {_scaled(suite, form, cell.deviation)}"
    return f"**{words}**" if best else words


def _protocol(suite: Suite, rows: Sequence[Event]) -> str:
    told, seeds = rows[0]["protocol"], sorted({event["seed"] for event in rows})
    processors = sorted({event["machine"]["processor"] for event in rows})
    versions = sorted({", ".join(f"{key} {value}" for key, value in event["versions"].items()) for event in rows})
    recipe = f"{suite.recipe['epochs']} epochs, {told['allowed_steps']:,} optimizer steps on {told['allowed_examples']:,} examples"
    return (
        f"{recipe} for every row, the same batches in the same order (watched in every training), {suite.metric} of the last epoch on the "
        f"test split, which no training meets before its end. Every row had {suite.trials} trials with {100 * suite.validation:g} % of "
        f"the training split held out. Seeds {', '.join(map(str, seeds))}; ± is the standard deviation over those of a row, where it has "
        f"several. One thread per training; {' / '.join(processors)}; {' / '.join(versions)}. Speed-up: median latency of the common "
        f"network ÷ the result's, timed in turn."
    )


def _left_out(suite: Suite, events: Sequence[Event]) -> str:
    """Rows that are skipped, failed and not made good since, or not run, with some seeds or at all."""
    rows = _current(suite, events)
    told = {event["row"]: event["reason"] for event in events if event["event"] == "skipped"}
    good = [event["settings"] for event in events if event["event"] in ("row", "trial")]
    for event in events:
        if event["event"] == "failed" and event["settings"] not in good:
            told[f"{event['row']} at {_plain(event['strength'])}, seed {event['seed']}"] = event["reason"]
    done = {title: {event["seed"] for event in rows if event["row"] == title} for title in _titles(rows)}
    for title in suite.rows:
        if title not in done:
            told.setdefault(title, "not run")
    lines = [f"- {title}: {reason}" for title, reason in told.items() if title not in done]
    missing = {title: sorted(set(suite.seeds) - seeds) for title, seeds in done.items()}
    lines += [f"- {title}: not run with seed {', '.join(map(str, seeds))}" for title, seeds in missing.items() if seeds]
    return "\n".join(lines) or "Nothing."


def _chosen(suite: Suite, events: Sequence[Event]) -> str:
    word = _name(suite).removeprefix("test ")
    lines = [["row", "candidate", "strengths of the table", f"trials: strength → validation {word}, {suite.size}"]]
    for title, row in suite.rows.items():
        try:
            candidate, strengths = choice(suite, title, events)
        except UsageError:
            continue
        tried = [event for event in events if event["event"] == "trial" and event["row"] == title]
        shown = [
            f"{_plain({**event['candidate'], '': event['strength']} if event['candidate'] else event['strength'])} → "
            f"{_scaled(suite, _error(suite), event[suite.metric])}, {event[suite.size]:,}"
            for event in tried
        ]
        lines.append([title, _plain(candidate) if row.tune != ({},) else "–", "; ".join(map(_plain, strengths)), "; ".join(shown)])
    return _table(lines)


def _current(suite: Suite, events: Sequence[Event]) -> list[Event]:
    """Results of rows the suite has."""
    return [event for event in events if event["event"] == "row" and event["row"] in suite.rows]


def _titles(rows: Sequence[Event]) -> list[str]:
    return list(dict.fromkeys(event["row"] for event in rows))


def _name(suite: Suite) -> str:
    return "test error %" if suite.metric == "error" else "test loss"


def _error(suite: Suite) -> str:
    return "{:.2f}" if suite.metric == "error" else "{:.3f}"


def _scaled(suite: Suite, form: str, value: float) -> str:
    return form.format(100 * value if form == "{:.2f}" else value)


def _plain(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {_plain(inner)}".strip() for key, inner in value.items())
    if isinstance(value, list):
        return "-".join(map(str, value))
    return "–" if value is None else f"{value:g}" if isinstance(value, float) else str(value)


def _table(lines: Sequence[Sequence[str]]) -> str:
    head, *body = ["| " + " | ".join(line) + " |" for line in lines]
    return "\n".join([head, "|---" * len(lines[0]) + "|", *body])
