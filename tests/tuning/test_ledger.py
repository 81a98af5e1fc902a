"""The ledger: trials claimed once, lost ones taken over, the limit kept, draws that depend on the trial alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from parsinet.errors import StorageError, UsageError
from tuning.sweeps import count_faults, dead_worker, definition

optuna = pytest.importorskip("optuna")

from parsinet.tuning import ledger as ledgers  # noqa: E402
from parsinet.tuning import outcome, sampler, workers  # noqa: E402
from parsinet.tuning.ledger import LOSSES, Ledger  # noqa: E402

COMPLETE, FAIL, RUNNING, WAITING = (optuna.trial.TrialState[name] for name in ("COMPLETE", "FAIL", "RUNNING", "WAITING"))
DEFINITION = definition()


@pytest.fixture(params=[pytest.param("database", marks=pytest.mark.slow), "journal"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> str | None:
    return None if request.param == "database" else str(tmp_path / "journal.log")


def opened(folder: Path, place: str | None, worker: str = "one", **options: Any) -> Ledger:
    return Ledger(folder, place, "sweep", definition(**options) if options else DEFINITION, worker)


def finished(ledger: Ledger, limit: int) -> list[dict[str, Any]]:
    """Claim and finish trials until none is left; their parameters."""
    drawn = []
    while (trial := ledger.claim(limit)) is not None:
        drawn.append(ledger.params(trial))
        assert ledger.finish(trial.number, COMPLETE, [0.1, 10.0])
    return drawn


def test_two_workers_split_the_trials(tmp_path: Path, place: str | None) -> None:
    one, two = opened(tmp_path, place), opened(tmp_path, place, "two")
    claims = [ledger.claim(5) for ledger in (one, two, one, two, one, two)]
    assert claims[-1] is None
    assert [trial.number for trial in claims[:-1]] == [0, 1, 2, 3, 4]
    for ledger, trial in zip((one, two, one, two, one), claims, strict=False):
        assert ledger.finish(trial.number, COMPLETE, [0.1, 10.0])
    trials = [outcome._plain(one, trial) for trial in one.trials()]
    assert count_faults(trials, 5) == []
    assert [trial["worker"] for trial in trials] == ["one", "two", "one", "two", "one"]


def test_the_limit_holds_where_two_workers_ask_at_once(tmp_path: Path, place: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    one, two = opened(tmp_path, place), opened(tmp_path, place, "two")
    ask = one.study.ask

    def late(*arguments: Any) -> Any:
        assert two.claim(1).number == 0
        return ask(*arguments)

    monkeypatch.setattr(one.study, "ask", late)
    assert one.claim(1) is None
    assert [trial.number for trial in one.trials()] == [0]
    assert two.finish(0, COMPLETE, [0.1, 10.0])
    assert count_faults([outcome._plain(two, trial) for trial in two.trials()], 1) == []
    monkeypatch.undo()
    assert one.claim(2).number == 2, "a sweep that is extended goes on behind the surplus"


def test_the_check_of_counts_objects(tmp_path: Path, place: str | None) -> None:
    ledger = opened(tmp_path, place)
    finished(ledger, 2)
    plain = [outcome._plain(ledger, trial) for trial in ledger.trials()]
    assert count_faults(plain, 2) == []
    ledger.study.ask()
    planted = [outcome._plain(ledger, trial) for trial in ledger.trials()]
    assert count_faults(planted, 2) == ["3 trials instead of 2", "trial 2 is running"]
    assert "trial 0 is there 2 times" in count_faults([plain[0], plain[0]], 2)


def test_a_dead_workers_trial_is_gone_on_with_at_once(tmp_path: Path, place: str | None) -> None:
    lost = opened(tmp_path, place, dead_worker(tmp_path))
    trial = lost.claim(1)
    other = opened(tmp_path, place, "other")
    again = other.claim(1)
    assert (again.number, other.params(again)) == (trial.number, lost.params(trial))
    assert other.trials()[0].user_attrs["lost"] == 1
    assert not (tmp_path / ".workers" / "dead").exists()
    assert not lost.finish(trial.number, COMPLETE, [0.5, 1.0]), "who was given up has no say"
    assert other.finish(trial.number, COMPLETE, [0.1, 10.0])
    assert other.trials()[0].values == [0.1, 10.0]


def test_a_living_worker_keeps_its_trial(tmp_path: Path, place: str | None) -> None:
    with workers.at_work(tmp_path) as name:
        opened(tmp_path, place, name).claim(1)
        assert opened(tmp_path, place, "other").claim(1) is None
    assert not list((tmp_path / ".workers").iterdir())


def test_a_worker_elsewhere_is_given_up_once_it_is_silent(tmp_path: Path, place: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr(workers.time, "monotonic", lambda: now[0])
    far, near = opened(tmp_path, place, "far"), opened(tmp_path, place, "near")
    number = far.claim(1).number
    for count in range(3):
        far.note(number, beat=count)
        assert near.claim(1) is None
        now[0] += workers.GRACE - 1
        assert near.claim(1) is None
    now[0] += 2
    assert near.claim(1).number == number


def test_what_ends_its_workers_has_failed(tmp_path: Path, place: str | None) -> None:
    for attempt in range(LOSSES):
        assert opened(tmp_path, place, dead_worker(tmp_path, f"dead-{attempt}")).claim(1).number == 0
    ledger = opened(tmp_path, place, "last")
    assert ledger.claim(1) is None
    (trial,) = ledger.trials()
    assert trial.state == FAIL
    assert "3 workers ended without a word" in trial.user_attrs["reason"]


def test_what_is_given_back_is_gone_on_with(tmp_path: Path, place: str | None) -> None:
    one = opened(tmp_path, place)
    trial = one.claim(3)
    one.give_back(trial.number)
    again = opened(tmp_path, place, "two").claim(3)
    assert (again.number, again.params) == (trial.number, trial.params)
    assert one.trials()[0].user_attrs.get("lost", 0) == 0


@pytest.mark.parametrize("name", ["random", "tpe", "nsga2"])
def test_a_continued_study_draws_what_one_that_never_stopped_draws(name: str, tmp_path: Path) -> None:
    whole = finished(opened(tmp_path, str(tmp_path / "whole"), sampler=name), 6)
    parts = [opened(tmp_path, str(tmp_path / "parts"), worker, sampler=name) for worker in ("one", "two")]
    assert finished(parts[0], 3) + finished(parts[1], 6) == whole
    assert len({str(params) for params in whole}) == 6
    assert finished(opened(tmp_path, str(tmp_path / "other"), sampler=name, seed=1), 6) != whole


def test_the_law_of_draws_objects_to_a_sampler_with_one_seed_per_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ledgers, "SeededByTrial", lambda name, seed: sampler.SAMPLERS[name](seed))
    one, two = (opened(tmp_path, str(tmp_path / "journal"), worker) for worker in ("one", "two"))
    assert finished(one, 1) == finished(two, 2)


@pytest.mark.parametrize(
    ("options", "word"),
    [({"seed": 1}, "seed"), ({"base": {**dict(DEFINITION.base), "epochs": 1}}, "recipe"), ({"sampler": "tpe"}, "sampler")],
)
def test_another_sweep_in_the_same_place_is_refused(options: dict[str, Any], word: str, tmp_path: Path) -> None:
    place = str(tmp_path / "journal")
    opened(tmp_path, place)
    with pytest.raises(UsageError, match=f"was begun with another {word}"):
        opened(tmp_path, place, "two", **options)


@pytest.mark.parametrize(
    ("place", "kind", "words"),
    [
        ("sweep.db", UsageError, "sqlite:///file.db"),
        ("nonsense://x", UsageError, "no database"),
        ("://", UsageError, "no database URL"),
        ("sqlite:////nowhere/at/all.db", StorageError, "cannot be used"),
    ],
)
def test_a_storage_that_cannot_be_is_said(place: str, kind: type[Exception], words: str, tmp_path: Path) -> None:
    with pytest.raises(kind, match=words):
        opened(tmp_path, place)


def test_passwords_are_not_shown(tmp_path: Path) -> None:
    with pytest.raises(UsageError) as refusal:
        opened(tmp_path, "nonsense://me:secret@host/sweeps")
    assert "secret" not in str(refusal.value)
    assert "host/sweeps" in str(refusal.value)


def test_a_storage_that_is_no_database_is_said(tmp_path: Path) -> None:
    (tmp_path / "study.db").write_text("this is no database, it is a letter" * 100)
    with pytest.raises(StorageError, match="cannot be used"):
        opened(tmp_path, None)
