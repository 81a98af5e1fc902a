"""A run while it goes: the loop with its callbacks, checkpoints and record, started or resumed."""

import contextlib
import itertools
import warnings
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from rich.console import Console

from parsinet import measure
from parsinet.errors import ParsinetError, ParsinetWarning, RunError
from parsinet.training import environment
from parsinet.training.assembly import Assembly
from parsinet.training.checkpoint import Loaded, checkpoints, load_checkpoint, lowest_error, save_checkpoint
from parsinet.training.display import Display, say
from parsinet.training.due import Due
from parsinet.training.evaluate import Evaluation, evaluate
from parsinet.training.folder import RunFolder
from parsinet.training.loggers import Loggers
from parsinet.training.loop import NotFiniteError, fit
from parsinet.training.monitor import PROGRESS, Monitor, Sink
from parsinet.training.outcome import Outcome, conclude
from parsinet.training.own_numbers import OwnNumbers
from parsinet.training.recipe import Recipe
from parsinet.training.record import RecordWriter, begun, keep_events
from parsinet.training.schedule import learning_rate
from parsinet.training.snapshot import elsewhere, foreign, restore, snapshot
from parsinet.training.start_event import start_event
from parsinet.training.state import LoopState
from parsinet.training.stopping import RunInterrupted
from parsinet.training.stopwatch import Stopwatch


class Session:
    """The pieces of a run while it goes."""

    def __init__(self, assembly: Assembly, folder: RunFolder, console: Console, watch: Sink | None = None) -> None:
        self.assembly, self.folder, self.console = assembly, folder, console
        self.state = LoopState(assembly.model, assembly.optimizer, assembly.batches, assembly.recipe.epochs, assembly.pruner)
        self.state.replicas, self.ranks = assembly.replicas, assembly.ranks
        recipe = assembly.recipe
        self.display = Display(console, f"{recipe.model.name} · {recipe.method.name}", assembly.steps)
        self.writer = RecordWriter(folder.record)
        together = min(recipe.data.batch_size, len(assembly.dataset.train))
        batch = measure.resize_batch(assembly.example_inputs, together)  # weights are composed once for all of it
        due = Due(recipe.checkpoint, epochs=recipe.epochs, steps=assembly.steps)
        lowest = partial(lowest_error, folder.checkpoint)
        loggers = (Loggers(recipe.loggers, folder.path, recipe.plain()),) if recipe.loggers else ()
        watching = () if watch is None else (watch,)
        sinks = (self.writer.write, self.display.show, *loggers, *watching) if self.leads else ()
        self.monitor = Monitor(batch, Stopwatch(), sinks, self._validate, self._save, due, lowest)
        self.training = False

    @property
    def leads(self) -> bool:
        """Whether this is rank 0, which writes, shows and saves; the others only train."""
        return self.ranks.rank == 0

    def request_stop(self) -> bool:
        """End after the running step; False if no step runs or a stop was asked for before."""
        graceful = self.training and not self.state.stop
        self.state.stop = self.state.stop or graceful
        return graceful

    def start(self) -> None:
        """Take the folder and write the first event."""
        self.ranks.first(partial(self.folder.begin, self.assembly.recipe))
        self.monitor.emit("start", **start_event(self.assembly))

    def resume(self) -> None:
        """Go back to the newest whole checkpoint; events that came after it leave the record, since their steps come again.

        A run that ended before its first checkpoint starts anew.
        """
        loaded = self.ranks.first(self._newest)
        if loaded is None:
            self._say(f"{self.folder.path} has no checkpoint yet: the run starts from its first step.")
            self.start()
            return
        self._say(loaded.warning)
        self._say(elsewhere(loaded.state, self.assembly))
        if self.leads and not begun(self.folder.record):
            self._say(f"{self.folder.record} has lost its beginning, which is told anew; what it held of the run so far is gone.")
            self.folder.record.unlink(missing_ok=True)
            self.monitor.emit("start", **start_event(self.assembly))
        restore(loaded.state, self.assembly, self.state, self.monitor)
        self.monitor.saved = (self.state.step, loaded.path)
        if not self.leads:
            return
        counted = itertools.count()
        keep_events(self.folder.record, lambda event: event["event"] not in PROGRESS or next(counted) < self.monitor.told)
        if (lost := self.monitor.told - next(counted)) > 0:
            self._say(f"{self.folder.record} has lost {lost} of {self.monitor.told} events before this checkpoint; its curves lack them.")
        here = {"versions": environment.versions(), "machine": environment.machine(self.assembly.device), "processes": self.ranks.size}
        epoch = min(self.state.epoch, self.state.epochs)
        self.monitor.emit("resumed", step=self.state.step, epoch=epoch, checkpoint=loaded.path.name, **here)

    def fit(self) -> None:
        """Train what is left."""
        recipe = self.assembly.recipe
        rate = partial(_rate, recipe, self.assembly.steps, self.assembly.steps_per_epoch)
        self.training = True
        with self.display:
            fit(
                self.state.model,
                self.state.optimizer,
                self.state.batches,
                epochs=recipe.epochs,
                pruner=self.assembly.pruner,
                teacher=self.assembly.teacher,
                average=self.assembly.average,
                learning_rate=rate,
                gradient_clip=recipe.gradient_clip,
                precision=self.assembly.precision,
                accumulate=recipe.accumulate,
                compiled=self.assembly.compiled,
                callbacks=(self.monitor, self.display) if self.leads else (OwnNumbers(recipe.seed, self.ranks.rank),),
                state=self.state,
            )
        self.training = False
        if self.state.stop:
            raise RunInterrupted(self.folder.path)

    def conclude(self) -> Outcome:
        """Finish, measure, save the model and write the last event."""
        outcome = conclude(self.assembly, self.folder.model)
        if not self.leads:
            return outcome
        if outcome.closing:
            size = {"parameters": outcome.after.parameters, "macs": outcome.after.macs}
            self.monitor.emit("removal", step=self.state.step, epoch=self.state.epochs, groups=outcome.closing, **size)
        watch, teacher = self.monitor.watch, self._teacher()
        self.monitor.emit(
            "end",
            **outcome.event(),
            **({} if teacher is None else {"teacher": teacher}),
            **({} if self.assembly.compiled is None else {"compilations": self.assembly.compiled.compilations}),
            train_seconds=watch.seconds,
            train_cpu_seconds=watch.cpu_seconds,
            train_macs=self.monitor.train_macs(self.state) + (0 if teacher is None else teacher["macs"] * teacher["examples"]),
            dense_train_macs=self.state.examples * self.assembly.before.macs,
        )
        return outcome

    @contextlib.contextmanager
    def recorded(self) -> Iterator[None]:
        """Write into the record how the run ended if it did not end well."""
        try:
            yield
        except RunInterrupted:
            raise
        except KeyboardInterrupt:
            if self.monitor.saved is None:
                raise
            self.monitor.emit("interrupted", step=self.monitor.saved[0], epoch=min(self.state.epoch, self.state.epochs))
            raise RunInterrupted(self.folder.path) from None
        except NotFiniteError as error:
            self._failed(error, error.step, error.epoch)
            where = f" The last good state is {self.monitor.saved[1]}." if self.monitor.saved else ""
            raise RunError(f"{error}{where}") from error
        except Exception as error:
            self._failed(error, self.state.step, min(self.state.epoch, self.state.epochs))
            raise

    def _failed(self, error: Exception, step: int, epoch: int) -> None:
        """A record that cannot be written must not hide the reason of the failure."""
        good = self.monitor.saved[0] if self.monitor.saved else None
        reason = str(error) if isinstance(error, ParsinetError) else f"{type(error).__name__}: {error}"
        with contextlib.suppress(ParsinetError):
            if self.folder.record.exists():
                self.monitor.emit("failed", reason=reason, step=step, epoch=epoch, last_good_step=good)

    def _teacher(self) -> dict[str, int] | None:
        """What the teacher is and was asked; warns if the network was never large enough to have an earlier self."""
        teacher = self.assembly.teacher
        if teacher is None:
            return None
        if teacher.network is None:
            warnings.warn(
                "distill: nothing left the network before the run was over, so no earlier self has taught it. Set distill.begin.",
                ParsinetWarning,
                stacklevel=2,
            )
            return {"parameters": 0, "macs": 0, "examples": 0}
        profile = measure.profile(teacher.network, self.monitor.example_inputs, latency=False)
        return {"parameters": profile.parameters, "macs": profile.macs, "examples": teacher.examples * self.ranks.size}

    def _validate(self) -> Evaluation | None:
        split = self.assembly.dataset.validation
        return None if split is None else evaluate(self.state.model, split, device=self.assembly.device)

    def _save(self, validation_error: float | None) -> Path:
        state = snapshot(self.assembly, self.state, self.monitor)
        keep = self.assembly.recipe.checkpoint.keep
        return save_checkpoint(self.folder.checkpoint, self.state.step, state, keep=keep, validation_error=validation_error)

    def _newest(self) -> Loaded | None:
        """The newest whole checkpoint; None where there never was one."""
        if not checkpoints(self.folder.checkpoint):
            return None
        return load_checkpoint(self.folder.checkpoint, partial(foreign, recipe=self.assembly.recipe, data=self.assembly.fingerprint))

    def _say(self, sentence: str | None) -> None:
        if sentence is not None:
            say(self.console, sentence)


def _rate(recipe: Recipe, steps: int, steps_per_epoch: int, step: int) -> float:
    return learning_rate(recipe.schedule, recipe.optimizer.lr, step, steps, steps_per_epoch)
