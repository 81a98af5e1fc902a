"""What a training shows: a live line in a terminal, and one line per epoch everywhere."""

import math
import time
from collections.abc import Iterable, Mapping
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.text import Text

from parsinet.lettering import lettered
from parsinet.training.state import Callback, LoopState

REFRESH_SECONDS = 0.2
REFRESH_SHARE = 0.01
REMOVAL_SECONDS = 1.0


class Display(Callback):
    """Reads events as the record does. In a terminal also a bar with loss, error and size, for which it takes at most 1 % of the time.

    Removals are told at most once a second in a terminal, else once an epoch, each group with its width before and after all of them.
    title: in front of the bar. steps: optimizer steps of the whole run. Use it as a context manager around `fit`.
    """

    def __init__(self, console: Console, title: str, steps: int) -> None:
        self.console = console
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=16),
            _Numbers(),
            TimeRemainingColumn(),
            console=console,
            auto_refresh=False,
        )
        self._task = self._progress.add_task(title, total=steps, loss="", size="")
        self._due = 0.0
        self._tell = 0.0
        self._removed: dict[str, tuple[int, int]] = {}

    def __enter__(self) -> "Display":
        if self.console.is_terminal:
            self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self.console.is_terminal:
            self._progress.stop()

    def show(self, event: Mapping[str, Any]) -> None:
        """Show one event of the record."""
        match event["event"]:
            case "start":
                self._size(event)
            case "resumed":
                self._print(f"Resumed at epoch {event['epoch']}, step {event['step']:,}.")
            case "removal":
                self._removal(event)
            case "settled":
                self._print(f"The structure is fixed from step {event['step']:,} on.")
            case "epoch":
                self._epoch(event)
            case "end":
                self._tell_removals()
                self._print(end_line(event))

    def on_step(self, state: LoopState) -> None:
        """Redraw the bar when it is due."""
        now = time.monotonic()
        if self.console.is_terminal and now >= self._due:
            tally = state.tally
            loss = "" if math.isnan(tally.loss) else f"loss {tally.loss:.3f}  error {percent(tally.error)}"
            self._progress.update(self._task, completed=state.step, loss=f"epoch {state.epoch}/{state.epochs}  {loss}", refresh=True)
            done = time.monotonic()
            self._due = done + max(REFRESH_SECONDS, (done - now) / REFRESH_SHARE)

    def _removal(self, event: Mapping[str, Any]) -> None:
        self._size(event)
        for name, (before, after) in event["groups"].items():
            self._removed[name] = (self._removed.get(name, (before,))[0], after)
        now = time.monotonic()
        if self.console.is_terminal and now >= self._tell:
            self._tell = now + REMOVAL_SECONDS
            self._tell_removals()

    def _tell_removals(self) -> None:
        if self._removed:
            self._print(f"  {changes(sorted(self._removed.items()))}")
            self._removed = {}

    def _epoch(self, event: Mapping[str, Any]) -> None:
        self._size(event)
        self._print(epoch_line(event))
        self._tell_removals()

    def _size(self, event: Mapping[str, Any]) -> None:
        self._progress.update(self._task, size=f"{short(event['parameters'])} parameters  {short(event['macs'])} MACs")

    def _print(self, line: str) -> None:
        say(self._progress.console, line)


class _Numbers(ProgressColumn):
    """Loss, error and size behind the bar."""

    def render(self, task: Task) -> Text:
        """Text of the column."""
        return Text("  ".join(part for part in (task.fields["loss"], task.fields["size"]) if part), no_wrap=True, overflow="ellipsis")


def epoch_line(event: Mapping[str, Any]) -> str:
    """One epoch on one line, from its event."""
    width = len(str(event["epochs"]))
    validation = event["validation_error"]
    parts = [
        f"epoch {event['epoch']:>{width}}/{event['epochs']}",
        f"loss {event['loss']:.4f}",
        f"train error {percent(event['train_error']):>7}",
        *([] if validation is None else [f"validation error {percent(validation):>7}"]),
        f"{event['parameters']:,} parameters",
        f"{event['macs']:,} MACs",
        f"{event['seconds']:.1f} s",
    ]
    return "  ".join(parts)


def end_line(event: Mapping[str, Any]) -> str:
    """What came out, on one line, from the last event."""
    before, after = event["before"], event["after"]
    parts = [
        f"test error {percent(event['test_error'])}",
        f"{after['parameters']:,} parameters ({percent(after['parameters'] / max(before['parameters'], 1))} of the start)",
        f"{after['macs']:,} MACs ({percent(after['macs'] / max(before['macs'], 1))})",
        *(
            f"batch {entry['batch']}: {1e3 * entry['after']['median']:.3f} ms (start {1e3 * entry['before']['median']:.3f})"
            for entry in event["latency"]
        ),
        f"trained in {event['train_seconds']:.1f} s",
    ]
    return "  ".join(parts)


def say(console: Console, line: str) -> None:
    """Print a line as it is, in letters that the output's encoding has."""
    console.print(lettered(line, console.encoding), highlight=False, markup=False, soft_wrap=True)


def changes(groups: Iterable[tuple[str, Any]]) -> str:
    """`fc1 300→212, fc2 100→71` from (name, (before, after))."""
    return ", ".join(f"{name} {before}→{after}" for name, (before, after) in groups)


def short(count: int) -> str:
    """A count in at most four digits: `570k`, `1.75M`, `842`."""
    for size, suffix in ((10**9, "G"), (10**6, "M"), (10**3, "k")):
        if count >= 0.9995 * size:
            return f"{count / size:.3g}{suffix}"
    return str(count)


def percent(fraction: float) -> str:
    """A fraction as per cent: `3.21 %`."""
    return f"{100 * fraction:.2f} %"
