"""The ledger of a sweep: one Optuna study that workers share, with trials claimed, given back, and finished."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.storages import BaseStorage
from optuna.trial import FrozenTrial, Trial, TrialState

from parsinet.errors import RunError, UsageError
from parsinet.tuning import workers
from parsinet.tuning.definition import Definition
from parsinet.tuning.sampler import SeededByTrial, pruner
from parsinet.tuning.space import Choices, Entry
from parsinet.tuning.storage import storage_at, storage_faults

LOSSES = 3
"""So many workers may be lost over one trial, then it has failed: it is what ends them."""


class Ledger:
    """The study as one worker sees it. Trials are meant by their numbers; `surplus` ones, drawn when all were taken, are of no account."""

    def __init__(self, folder: Path, place: str | None, name: str, definition: Definition, worker: str) -> None:
        self.folder, self.definition, self.worker = folder, definition, worker
        self.silence = workers.Silence()
        with workers.alone(folder), storage_faults(place):
            self.storage = storage_at(place, folder)
            self.study = _study(self.storage, name, definition)
            self.study_id = self.storage.get_study_id_from_name(name)

    def trials(self) -> list[FrozenTrial]:
        """All trials that count, by their numbers."""
        with storage_faults():
            return [trial for trial in self.study.get_trials(deepcopy=False) if not trial.user_attrs.get("surplus")]

    def claim(self, limit: int) -> Trial | None:
        """The next trial of the first `limit`, this worker's from now on, with its parameters drawn: one that was lost or given back, or a
        new one. None if all are taken."""
        self._take_from_the_lost()
        known = self.trials()
        if len(known) >= limit and not any(trial.state == TrialState.WAITING for trial in known[:limit]):
            return None
        with storage_faults():
            trial = self.study.ask({path: _distribution(entry) for path, entry in self.definition.space.items()})
            if sum(other.number < trial.number for other in self.trials()) >= limit:
                trial.set_user_attr("surplus", True)
                self.study.tell(trial, state=TrialState.FAIL)
                return None
            trial.set_user_attr("worker", self.worker)
        return trial

    def params(self, trial: FrozenTrial | Trial) -> dict[str, Any]:
        """Dotted path → value, as the recipe takes it."""
        return {path: _value(self.definition.space[path], value) for path, value in trial.params.items() if path in self.definition.space}

    def elsewhere(self, limit: int) -> list[FrozenTrial]:
        """Trials that others run."""
        return [trial for trial in self.trials()[:limit] if trial.state == TrialState.RUNNING]

    def note(self, number: int, **attributes: Any) -> None:
        """Write what is known of a trial into the study."""
        with storage_faults():
            for key, value in attributes.items():
                self.storage.set_trial_user_attr(self._id(number), key, value)

    def give_back(self, number: int) -> None:
        """Let the next worker that asks go on with a trial of this one."""
        with storage_faults():
            self.storage.set_trial_user_attr(self._id(number), "worker", "")
            self.storage.set_trial_state_values(self._id(number), TrialState.WAITING)

    def finish(self, number: int, state: TrialState, values: Sequence[float] | None = None, reason: str = "") -> bool:
        """End a trial; False if somebody else has meanwhile taken it, as this worker was silent for too long."""
        with storage_faults():
            trial = self.storage.get_trial(self._id(number))
            if trial.state != TrialState.RUNNING or trial.user_attrs.get("worker") != self.worker:
                return False
            if reason:
                self.storage.set_trial_user_attr(self._id(number), "reason", reason)
            self.study.tell(number, values, state)
            return True

    def _take_from_the_lost(self) -> None:
        for trial in self.trials():
            if trial.state != TrialState.RUNNING:
                continue
            worker = str(trial.user_attrs.get("worker", ""))
            silent = self.silence.of(trial.number, (worker, trial.user_attrs.get("beat"))) > workers.GRACE
            with workers.ended(self.folder, worker) as over:
                if over or (over is None and silent):
                    self._take(trial.number, worker)

    def _take(self, number: int, worker: str) -> None:
        """Put a lost trial back, unless another has done so; one that was lost too often has failed."""
        with storage_faults():
            trial = self.storage.get_trial(self._id(number))
            if trial.state != TrialState.RUNNING or trial.user_attrs.get("worker", "") != worker:
                return
            lost = int(trial.user_attrs.get("lost", 0)) + 1
            self.note(number, worker="", lost=lost)
            if lost >= LOSSES:
                self.note(number, reason=f"{lost} workers ended without a word while they ran it; was their memory enough?")
            self.storage.set_trial_state_values(self._id(number), TrialState.FAIL if lost >= LOSSES else TrialState.WAITING)

    def _id(self, number: int) -> int:
        return self.storage.get_trial_id_from_study_id_trial_number(self.study_id, number)


def _study(storage: BaseStorage, name: str, definition: Definition) -> optuna.Study:
    """The study of that name, made where there is none.

    Errors: UsageError if it has another definition; RunError if it is no study of this library.
    """
    study = optuna.create_study(
        storage=storage,
        sampler=SeededByTrial(definition.sampler, definition.seed),
        pruner=pruner(definition.pruner, definition.epochs),
        study_name=name,
        directions=["minimize"] * len(definition.objectives),
        load_if_exists=True,
    )
    here = definition.plain()
    there = study.user_attrs.get("definition")
    if there is None:
        if study.get_trials(deepcopy=False):
            raise RunError(f"The study {name!r} in the storage was not made by parsinet tune. Choose another --name.")
        study.set_user_attr("definition", here)
        there = study.user_attrs["definition"]
    changed = [key for key in here if here[key] != there.get(key)]
    if changed:
        raise UsageError(
            f"tune: the study {name!r} was begun with another {' and '.join(changed)}, and its trials would not compare. "
            "Give what it was begun with, or another --out and --name."
        )
    return study


def _distribution(entry: Entry) -> BaseDistribution:
    if isinstance(entry, Choices):
        return CategoricalDistribution(entry.names())
    if entry.whole:
        return IntDistribution(int(entry.low), int(entry.high), log=entry.log, step=int(entry.step or 1))
    return FloatDistribution(float(entry.low), float(entry.high), log=entry.log, step=entry.step)


def _value(entry: Entry, drawn: Any) -> Any:
    return dict(zip(entry.names(), entry.values, strict=True))[drawn] if isinstance(entry, Choices) else drawn
