"""The table of convergence.py: what its runs came to, over seeds."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from itertools import product
from typing import Any


def table(rows: list[dict[str, Any]], names: Sequence[str]) -> str:
    """Means over seeds, ranges in brackets; errors in per cent. names: of rows, in their order.

    † marks the seconds of rows with one seed: those that are stored were run beside other processes, as README.md says.
    """
    lines = [
        "| decide, estimator | error on | error % | parameters | widths | interior | rounding, points | survivors > ρ | CPU s |",
        "|---" * 9 + "|",
    ]
    for split, name in product(("validation", "test"), names):
        own = [row for row in rows if (row["row"], row["split"]) == (name, split)]
        if not own:
            continue
        seconds = [row["cpu_seconds"] for row in own]
        jumps = [100 * (row["rounded_error"] - row["mean_gates_error"]) for row in own]
        cells = [
            name,
            split,
            _span([100 * row["error"] for row in own], "{:.2f}"),
            _span([row["parameters"] for row in own], "{:,.0f}"),
            " ; ".join("-".join(map(str, row["widths"])) for row in own),
            " ; ".join("/".join(f"{share:.2f}" for share in row["interior"]) for row in own),
            " ; ".join(f"{jump:+.2f}" for jump in jumps),
            _span([row["survivors_worth_their_price"] for row in own], "{:.2f}"),
            _span(seconds, "{:.1f}") if len(own) > 1 else f"{seconds[0]:.0f} †",
        ]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _span(values: list[float], form: str) -> str:
    if len(values) == 1:
        return form.format(values[0])
    return f"{form.format(statistics.mean(values))} ({form.format(min(values))}–{form.format(max(values))})"
