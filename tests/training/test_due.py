"""When a checkpoint is due: by epochs, steps, minutes, as the last one and as the best one; what makes no sense is refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from parsinet.errors import UsageError
from parsinet.training import Recipe, RunResult, load_checkpoint, read_record, recipe_from
from parsinet.training.checkpoint import best_checkpoint, checkpoints
from parsinet.training.due import Due
from parsinet.training.recipe_checkpoint import CheckpointPart

Quick = Callable[..., RunResult]
Recipes = Callable[..., Recipe]


def due(clock: Callable[[], float] = lambda: 0.0, *, best: bool = False, **every: Any) -> Due:
    part = CheckpointPart.model_validate({"best": best, "every": every} if every else {"best": best})
    return Due(part, epochs=10, steps=100, clock=clock)


def epochs_due(plan: Due) -> list[int]:
    return [epoch for epoch in range(1, 11) if plan.after_epoch(epoch, None, lambda: None)]


def test_epochs_steps_and_the_last_one() -> None:
    assert epochs_due(due()) == list(range(1, 11))
    assert epochs_due(due(epochs=4)) == [4, 8, 10]
    assert epochs_due(due(steps=30)) == [10]
    assert [step for step in range(1, 101) if due(steps=30).after_step(step)] == [30, 60, 90]
    assert not any(due().after_step(step) for step in range(1, 101))
    both = due(epochs=5, steps=30)
    assert both.after_step(30)
    assert epochs_due(both) == [5, 10]


def test_minutes_count_from_the_last_checkpoint_of_any_kind() -> None:
    now = [0.0]
    plan = due(lambda: now[0], minutes=2)
    now[0] = 119.9
    assert not plan.after_step(1)
    now[0] = 120
    assert plan.after_step(2)
    plan.saved()
    assert not plan.after_step(3)
    now[0] = 240
    assert plan.after_step(4)


def test_the_best_is_due_where_it_is_lower_than_all_that_are_kept() -> None:
    plan = due(best=True, epochs=10)
    assert plan.after_epoch(1, 0.3, lambda: None)
    assert plan.after_epoch(2, 0.2, lambda: 0.3)
    assert not plan.after_epoch(3, 0.2, lambda: 0.2)
    assert not due(epochs=10).after_epoch(1, 0.1, lambda: 0.2)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"every": {"hours": 1}}, "unknown key 'checkpoint.every.hours'. Known: epochs, minutes, steps."),
        ({"evry": {}}, "unknown key 'checkpoint.evry'. Did you mean 'every'?"),
        ({"every": {}}, "checkpoint.every: needs epochs, steps or minutes"),
        ({"every": 3}, "checkpoint.every must be a section"),
        ({"every": {"epochs": 0}}, "checkpoint.every.epochs must be ≥ 1, got 0."),
        ({"every": {"minutes": 0}}, "checkpoint.every.minutes must be > 0, got 0."),
        ({"every": {"epochs": 21}}, "checkpoint.every.epochs is 21, but epochs is 20."),
        ({"keep": 0}, "checkpoint.keep must be ≥ 1, got 0."),
        ({"best": True}, "checkpoint.best needs a validation split to judge by; set data.validation."),
    ],
)
def test_useless_and_unknown_settings_are_refused(values: dict[str, Any], words: str) -> None:
    with pytest.raises(UsageError) as caught:
        recipe_from({"checkpoint": values})
    assert words in str(caught.value)


def test_more_steps_than_the_run_has_are_refused_before_it_starts(quick: Quick, small: Recipes, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"checkpoint\.every\.steps is 25, but the whole run has 24 steps"):
        quick(small(checkpoint__every={"steps": 25}))
    assert not (tmp_path / "run").exists()


def test_the_newest_and_the_best_of_a_run_are_kept(quick: Quick, small: Recipes) -> None:
    """A rate that is much too high after the first epoch makes that epoch the best one."""
    options = {"optimizer__name": "sgd", "schedule__kind": "steps", "schedule__steps": [[2, 30.0]], "gradient_clip": 1.0}
    result = quick(small(data__validation=0.2, epochs=4, checkpoint={"best": True, "keep": 1, "every": {"steps": 5}}, **options))
    errors = {
        event["step"]: event["validation_error"] for event in read_record(result.folder / "record.jsonl") if event["event"] == "epoch"
    }
    folder = result.folder / "checkpoint"
    best = best_checkpoint(folder)
    assert best is not None
    step = int(best.name.rpartition("-")[2])
    assert errors[step] == min(errors.values())
    assert step < max(errors)
    assert checkpoints(folder) == [best, load_checkpoint(folder).path]
