"""What a worker does: claim a trial, run it, tell the study, until none is left and the others are done too."""

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import optuna
from optuna.trial import TrialState
from rich.console import Console

from parsinet.errors import MissingExtraError, ParsinetError, RunError, StorageError, UsageError
from parsinet.report import numbers
from parsinet.training.environment import versions
from parsinet.tuning import workers
from parsinet.tuning.definition import Definition
from parsinet.tuning.ledger import Ledger
from parsinet.tuning.objectives import ERROR, values_of
from parsinet.tuning.outcome import write_study
from parsinet.tuning.trial import PLACE, PrunedError, place_of, run_trial

FAILURES = 5
"""So many trials of one worker that fail in a row end it: the reason is hardly what they were drawn."""
POLL = 1.0
"""Seconds between two looks at the trials of others."""


def work(
    definition: Definition, folder: Path, storage: str | None, name: str, limit: int, reference: Mapping[str, Any] | None, console: Console
) -> None:
    """Run trials until `limit` are over, writing study.json after each; at the end wait for those that others run.

    Errors: those of `sweep.tune`.
    """
    with workers.at_work(folder) as worker:
        ledger = Ledger(folder, storage, name, definition, worker)
        if not ledger.trials() and any((folder / PLACE).glob("*")):
            raise UsageError(
                f"{folder} holds trials that the study {name!r} does not know. Give the --storage they are in, or another --out."
            )
        hand = _Hand(ledger, folder, console)
        write_study(ledger, folder, reference)
        while True:
            trial = ledger.claim(limit)
            if trial is not None:
                hand.run(trial)
                write_study(ledger, folder, reference)
            elif not hand.wait(limit):
                write_study(ledger, folder, reference)
                return


class _Hand:
    """Runs what was claimed. failures: trials that failed since the last that did not."""

    def __init__(self, ledger: Ledger, folder: Path, console: Console) -> None:
        self.ledger, self.folder, self.console = ledger, folder, console
        self.failures = 0
        self.waiting = False

    def run(self, trial: optuna.Trial) -> None:
        """Run a trial to its end, whatever that is; given back if this worker is stopped, or cannot write."""
        number, definition = trial.number, self.ledger.definition
        try:
            with workers.pulse(lambda count: self.ledger.note(number, beat=count)):
                params = self.ledger.params(trial)
                self._begin(number, params)
                runs = run_trial(trial, definition, params, place_of(self.folder, number))
                self.ledger.note(number, runs=runs)
            values = values_of(runs, definition.objectives)
            self._end(number, TrialState.COMPLETE, values, told=_told(dict(zip(definition.objectives, values, strict=True))))
        except PrunedError as error:
            self._end(number, TrialState.PRUNED, reason=str(error), told=f"given up: {error}")
        except (KeyboardInterrupt, StorageError, MissingExtraError):
            self.ledger.give_back(number)
            raise
        except Exception as error:
            reason = str(error) if isinstance(error, ParsinetError) else f"{type(error).__name__}: {error}"
            self._end(number, TrialState.FAIL, reason=reason, told=f"failed: {reason}")
            self._count(error, reason)

    def wait(self, limit: int) -> bool:
        """Wait a moment where others still run trials; False where none does."""
        others = self.ledger.elsewhere(limit)
        if others and not self.waiting:
            self._say(f"All trials are taken; waiting for {len(others)} of other workers. Ctrl-C leaves them alone.")
        self.waiting = bool(others)
        if others:
            time.sleep(POLL)
        return bool(others)

    def _begin(self, number: int, params: Mapping[str, Any]) -> None:
        definition = self.ledger.definition
        again = place_of(self.folder, number).exists()
        self._say(
            f"trial {number}{', gone on with' if again else ''}: {', '.join(f'{path} {_short(value)}' for path, value in params.items())}"
        )
        recipe = definition.recipe(params, definition.seeds[0]).plain()
        self.ledger.note(number, recipe=recipe, versions={**versions(), "optuna": optuna.__version__})

    def _end(self, number: int, state: TrialState, values: list[float] | None = None, *, reason: str = "", told: str) -> None:
        if state != TrialState.FAIL:
            self.failures = 0
        if not self.ledger.finish(number, state, values, reason):
            told = "another worker has taken it, as this one was silent for too long"
        self._say(f"trial {number}: {told}")

    def _count(self, error: Exception, reason: str) -> None:
        self.failures += 1
        if self.failures == FAILURES:
            raise RunError(f"{FAILURES} trials in a row failed, the last because: {reason} Mend recipe or space.") from error

    def _say(self, sentence: str) -> None:
        self.console.print(sentence, highlight=False, markup=False, soft_wrap=True)


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _told(values: Mapping[str, float]) -> str:
    """`error 3.20 %, macs 12,345`."""
    forms = {ERROR: numbers.error, "bytes": numbers.stored, "latency": numbers.milliseconds}
    return ", ".join(f"{name} {forms.get(name, numbers.count)(value)}" for name, value in values.items())
