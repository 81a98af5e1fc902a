"""Whole runs with a teacher and with averaged weights: what is recorded, what they cost, what a resume needs, what is refused."""

from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from parsinet.errors import UsageError
from parsinet.training import RunInterrupted, read_record, recipe_from, train, with_values
from parsinet.training.checkpoint import load_checkpoint
from training.runs import Quick, Recipes, interrupted, untimed, weights

BOTH = {"distill__begin": 0.4, "average__begin": 0.8}
EXAMPLES, PER_EPOCH, BATCH = 1438, 12, 128


@pytest.mark.parametrize("step", [10, *(pytest.param(step, marks=pytest.mark.slow) for step in (7, 15, 23))])
def test_interrupted_and_resumed_is_bitwise_the_uninterrupted(
    quick: Quick, tmp_path: Path, console: Console, monkeypatch: pytest.MonkeyPatch, pruning: Recipes, step: int
) -> None:
    """Before and after the teacher is there (step 10), and while weights are averaged (from 19 on)."""
    recipe = pruning(model__batch_norm=True, **BOTH)
    whole = quick(recipe, "whole")
    interrupted(monkeypatch, step)
    with pytest.raises(RunInterrupted):
        quick(recipe, "parts")
    monkeypatch.undo()
    state = load_checkpoint(tmp_path / "parts" / "checkpoint").state
    assert (state["teacher"]["teaches"], state["average"]["averages"] is not None) == (step >= 10, step > 19)
    resumed = train(None, tmp_path / "parts", resume=True, console=console)
    assert weights(whole) == weights(resumed)
    assert untimed(whole.folder) == untimed(tmp_path / "parts")


def test_the_teacher_is_counted(quick: Quick, pruning: Recipes) -> None:
    """Its forward passes are training: macs of the teacher times the examples it saw, beside the student's."""
    plain, taught = (
        quick(pruning(method__decide="round", **options), name) for name, options in (("plain", {}), ("taught", {"distill__begin": 0.4}))
    )
    ends = [list(read_record(result.folder / "record.jsonl"))[-1] for result in (plain, taught)]
    assert "teacher" not in ends[0]
    teacher, seen = ends[1]["teacher"], 2 * EXAMPLES - 10 * BATCH
    assert teacher["examples"] == seen
    total, since, macs = 0, 0, ends[1]["dense_train_macs"] // (2 * EXAMPLES)
    for event in (event for event in read_record(taught.folder / "record.jsonl") if event["event"] == "removal"):
        examples = event["step"] // PER_EPOCH * EXAMPLES + event["step"] % PER_EPOCH * BATCH
        total, since, macs = total + (examples - since) * macs, examples, event["macs"]
    assert ends[1]["train_macs"] == total + (2 * EXAMPLES - since) * macs + seen * teacher["macs"]


def test_a_finished_run_teaches_another(quick: Quick, small: Recipes) -> None:
    first = quick(small(), "first")
    end = list(read_record(quick(small(distill__teacher=str(first.folder), epochs=1), "second").folder / "record.jsonl"))[-1]
    assert end["teacher"] == {"parameters": first.after.parameters, "macs": first.after.macs, "examples": EXAMPLES}


def test_the_first_weights_do_not_depend_on_the_teacher(quick: Quick, small: Recipes) -> None:
    """Loading it draws no random numbers: with next to no weight it changes next to nothing."""
    first = quick(small(), "first")
    taught = quick(small(distill__teacher=str(first.folder), distill__weight=1e-12), "second")
    assert taught.test.loss == pytest.approx(first.test.loss, rel=1e-3)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"distill": {}}, "no unit leaves under method 'dense', so nobody would teach. Set distill.begin or distill.teacher"),
        ({"distill": {"teacher": "nowhere"}}, "nowhere holds no finished run"),
    ],
)
def test_a_teacher_that_cannot_come_is_refused(quick: Quick, small: Recipes, change: dict[str, Any], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        quick(recipe_from(with_values(small().plain(), change)))


def test_a_teacher_that_never_came_and_an_average_that_never_began_warn(quick: Quick, small: Recipes) -> None:
    options = {"method__name": "group-lasso", "method__lam": 1e-9, "method__end": 1.0}
    with (
        pytest.warns(UserWarning, match="nothing was averaged"),
        pytest.warns(UserWarning, match="nothing left the network before the run was over"),
    ):
        quick(recipe_from(with_values(small(**options, epochs=1).plain(), {"distill": {}, "average": {"begin": 0.99}})))
