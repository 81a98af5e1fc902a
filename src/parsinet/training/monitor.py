"""The callback that turns a training into events, and saves it when that is due."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from parsinet import measure
from parsinet.methods import Removal
from parsinet.training.due import Due
from parsinet.training.evaluate import Evaluation
from parsinet.training.loop import check_finite
from parsinet.training.state import Callback, EpochResult, LoopState
from parsinet.training.stopwatch import Stopwatch

Sink = Callable[[Mapping[str, Any]], None]
PROGRESS = ("epoch", "removal", "settled")
"""Events that steps bring about, and bring about again when they are taken again."""


class Monitor(Callback):
    """Gives every event of the record format to the sinks, in order, and saves after the start, when `due` says so, and after a stop.

    evaluate: model → validation result, None without a validation split. save: writes a checkpoint, given the validation error if one
    is known, returns its path. lowest: the lowest validation error of the checkpoints there are. The stopwatch stands still meanwhile,
    so that training seconds hold steps, removals and batches, not evaluation and files. told: how many events of PROGRESS there were.
    """

    def __init__(
        self,
        example_inputs: Any,
        watch: Stopwatch,
        sinks: Sequence[Sink],
        evaluate: Callable[[], Evaluation | None],
        save: Callable[[float | None], Path],
        due: Due,
        lowest: Callable[[], float | None],
    ) -> None:
        self.example_inputs, self.watch, self.sinks, self.evaluate, self.save = example_inputs, watch, sinks, evaluate, save
        self.due, self.lowest = due, lowest
        self.told = 0
        self.parameters = 0
        self.macs = 0
        self.saved: tuple[int, Path] | None = None
        self._spent = 0
        self._counted = 0

    def emit(self, event: str, **values: Any) -> None:
        """Give one event to every sink."""
        for sink in self.sinks:
            sink({"event": event, **values})
        self.told += event in PROGRESS

    def train_macs(self, state: LoopState) -> int:
        """Forward multiply-adds of training so far: Σ over steps of (macs per example then) · examples, those of comparisons too."""
        return self._spent + (_shown(state) - self._counted) * self.macs

    def state_dict(self, state: LoopState) -> dict[str, Any]:
        """What a resumed run continues."""
        return {"watch": self.watch.state_dict(), "train_macs": self.train_macs(state), "told": self.told}

    def load_state_dict(self, saved: Mapping[str, Any], state: LoopState) -> None:
        """Continue where `state_dict` was taken; `state` has been loaded before."""
        self.watch.load_state_dict(saved["watch"])
        self._spent, self._counted, self.told = saved["train_macs"], _shown(state), saved["told"]

    def on_start(self, state: LoopState) -> None:
        """Measure the model; save if nothing is saved yet."""
        self._measure(state)
        if self.saved is None:
            self._save(state)
        self.watch.start()

    def on_step(self, state: LoopState) -> None:
        """Save in the middle of an epoch, where that is due."""
        if self.due.after_step(state.step):
            check_finite(state, state.epoch)
            with self.watch.paused():
                self._save(state)

    def on_removal(self, state: LoopState, removal: Removal) -> None:
        """Record it and count the smaller network's operations from here on."""
        with self.watch.paused():
            self._spent, self._counted = self.train_macs(state), _shown(state)
            self._measure(state)
            groups = {name: list(units) for name, units in removal.groups.items()}
            self.emit("removal", step=state.step, epoch=state.epoch, groups=groups, parameters=self.parameters, macs=self.macs)

    def on_settled(self, state: LoopState) -> None:
        """Record that the structure is fixed."""
        with self.watch.paused():
            self.emit("settled", step=state.step, epoch=state.epoch)

    def on_epoch(self, state: LoopState, result: EpochResult) -> None:
        """Validate, record, and save where that is due."""
        with self.watch.paused():
            told = self._epoch(state, result)
            self.emit("epoch", **told)
            if self.due.after_epoch(result.epoch, told["validation_error"], self.lowest):
                self._save(state, told["validation_error"])

    def on_end(self, state: LoopState) -> None:
        """After a stop, save and record it."""
        self.watch.stop()
        if state.stop:
            self._save(state)
            self.emit("interrupted", step=state.step, epoch=min(state.epoch, state.epochs))

    def _epoch(self, state: LoopState, result: EpochResult) -> dict[str, Any]:
        validation = self.evaluate()
        return {
            "epoch": result.epoch,
            "epochs": state.epochs,
            "step": state.step,
            "loss": result.loss,
            "train_error": result.error,
            "validation_loss": validation.loss if validation else None,
            "validation_error": validation.error if validation else None,
            "learning_rate": float(state.optimizer.param_groups[0]["lr"]),
            "parameters": self.parameters,
            "macs": self.macs,
            "widths": state.pruner.widths() if state.pruner else {},
            "seconds": self.watch.seconds,
            "cpu_seconds": self.watch.cpu_seconds,
            "method": state.pruner.describe() if state.pruner else {},
        }

    def _measure(self, state: LoopState) -> None:
        self.parameters = measure.parameters(state.model)
        self.macs = measure.macs(state.model, self.example_inputs)

    def _save(self, state: LoopState, validation_error: float | None = None) -> None:
        self.saved = (state.step, self.save(validation_error))
        self.due.saved()


def _shown(state: LoopState) -> int:
    """Examples in all forward passes so far."""
    return state.examples + state.again
