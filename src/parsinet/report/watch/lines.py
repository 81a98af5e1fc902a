"""Following a run in the terminal: a screen that is drawn anew, or a line per epoch where the output is no terminal or a dumb one."""

import time
from pathlib import Path

from rich.console import Console
from rich.live import Live

from parsinet.report import numbers, table
from parsinet.report.page.words import one
from parsinet.report.records import Epoch, Run
from parsinet.report.watch.screen import screen
from parsinet.report.watch.tail import State, Tail

EVERY = 1.0
"""Seconds between two looks at the record."""


def follow(folder: Path, console: Console, every: float = EVERY) -> State:
    """Show the run in `folder` until it finishes, fails or is interrupted; return the last state. It need not exist yet.

    KeyboardInterrupt ends it at any time.
    """
    tail = Tail(folder)
    redrawn = console.is_terminal and not console.is_dumb_terminal
    return _drawn(tail, console, every) if redrawn else _told(tail, console, every)


def _drawn(tail: Tail, console: Console, every: float) -> State:
    blocks = console.encoding.lower().startswith("utf")
    with Live(console=console, auto_refresh=False, vertical_overflow="crop") as live:
        while True:
            state = tail.look()
            age = None if state.changed is None else max(0.0, time.time() - state.changed)
            live.update(screen(state, age, console.height, blocks=blocks), refresh=True)
            if state.over:
                return state
            time.sleep(every)


def _told(tail: Tail, console: Console, every: float) -> State:
    """Each epoch once, and each reason for waiting once."""
    reason, shown = "", 0
    while True:
        state = tail.look()
        if state.run is None:
            if state.reason != reason:
                _say(console, f"Waiting: {state.reason}")
            reason, shown = state.reason, 0
        else:
            for epoch in state.run.epochs:
                if epoch.epoch > shown:
                    _say(console, _line(state.run, epoch))
            shown = state.run.epochs[-1].epoch if state.run.epochs else 0
            if state.over:
                _say(console, " ".join(one(table.rows([state.run])[0])))
                return state
        time.sleep(every)


def _line(run: Run, epoch: Epoch) -> str:
    of = f"/{run.total_epochs}" if run.total_epochs else ""
    known = (("validation", epoch.validation_error), ("training", epoch.train_error))
    errors = [f"{kind} error {numbers.error(value)}" for kind, value in known if value is not None]
    sizes = [f"{numbers.count(epoch.size.parameters)} parameters", f"{numbers.count(epoch.size.macs)} MACs"]
    return "  ".join([f"epoch {epoch.epoch}{of}", *errors, *sizes, numbers.duration(epoch.seconds)])


def _say(console: Console, words: str) -> None:
    console.print(words, highlight=False, markup=False, soft_wrap=True)
    console.file.flush()
