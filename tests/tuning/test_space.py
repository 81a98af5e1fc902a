"""Spaces: what is refused before anything runs, and how values are drawn and read back."""

from __future__ import annotations

from typing import Any

import pytest

from parsinet.errors import ArgumentTypeError, UsageError
from parsinet.tuning import Choices, Range, space_from
from tuning.sweeps import BASE, definition

LR: dict[str, Any] = {"low": 1e-3, "high": 1e-1}


@pytest.mark.parametrize(
    ("space", "words"),
    [
        ({}, "Space is empty"),
        ({"optimizer.lr": 0.1}, "optimizer.lr needs"),
        ({"optimizer.lr": {}}, "optimizer.lr needs"),
        ({"optimizer.lr": {"low": 1}}, "high is missing"),
        ({"optimizer.lr": {"hihg": 1, "low": 0}}, "unknown key 'hihg'. Did you mean 'high'?"),
        ({"optimizer.lr": {"low": 1e-1, "high": 1e-3}}, "the range from 0.1 to 0.001 is empty"),
        ({"optimizer.lr": {"low": 0.1, "high": 0.1}}, "is empty. low must be < high"),
        ({"optimizer.lr": {"low": "1e-3", "high": 1}}, "low must be a finite number, got '1e-3'"),
        ({"optimizer.lr": {"low": True, "high": 2}}, "low must be a finite number, got True"),
        ({"optimizer.lr": {"low": 0.0, "high": float("inf")}}, "high must be a finite number"),
        ({"optimizer.lr": {"low": 0.0, "high": 1.0, "log": True}}, "a logarithmic range needs low > 0"),
        ({"optimizer.lr": {**LR, "log": "yes"}}, "log must be true or false"),
        ({"optimizer.lr": {**LR, "log": True, "step": 0.01}}, "log and step exclude each other"),
        ({"optimizer.lr": {**LR, "step": 0.0}}, "step must be > 0"),
        ({"optimizer.lr": {**LR, "step": 1.0}}, "step must be > 0 and at most high − low"),
        ({"optimizer.lr": {"choices": []}}, "at least two values"),
        ({"optimizer.lr": {"choices": [0.1]}}, "A single value belongs into the recipe"),
        ({"optimizer.lr": {"choices": "adam"}}, "must be a list"),
        ({"optimizer.lr": {"choices": [0.1, 0.1]}}, "the choice 0.1 is there twice"),
        ({"optimizer.lr": {"choices": [0.1, float("nan")]}}, "choices must be numbers, words"),
        ({"optimizer.lr": {"choices": [0.1, 0.2], "low": 1}}, "choices go alone, without low"),
        ({"optimizer..lr": LR}, "is no entry of a recipe"),
        ({3: LR}, "3 is no entry of a recipe"),
        ({"optimizer": {"choices": [{"lr": 0.1}, {"lr": 0.2}]}, "optimizer.lr": LR}, "optimizer.lr lies within optimizer"),
        ({"seed": {"low": 0, "high": 3}}, "--seeds"),
        ({"data.validation": {"low": 0.1, "high": 0.3}}, "judged by the same examples"),
        ({"data.split_seed": {"choices": [0, 1]}}, "judged by the same examples"),
        ({"data": {"choices": [{}, {"source": "mnist"}]}}, "data cannot be tuned"),
        ({"checkpoint.keep": {"low": 1, "high": 3}}, "checkpoint.keep cannot be tuned"),
        ({"optimizer.lrr": LR}, "unknown key 'optimizer.lrr'. Did you mean 'lr'?"),
        ({"optimiser.lr": LR}, "unknown key 'optimiser'. Did you mean 'optimizer'?"),
        ({"optimizer.lr": {"low": -1.0, "high": 1.0}}, "optimizer.lr = -1.0: optimizer.lr must be > 0"),
        ({"epochs": {"low": 1.5, "high": 3.0}}, "epochs = 1.5: epochs must be a valid integer"),
        ({"epochs.last": LR}, "epochs is no section"),
        ({"method.price": LR}, "has no option 'price'"),
        ({"method": {"choices": [{"name": "gates"}, {"name": "gate"}]}}, "There is no method 'gate'"),
        ({"optimizer.name": {"choices": ["adam", "adm"]}}, "unknown optimizer 'adm'. Did you mean"),
        ({"model.width": {"choices": [[4], [8]]}}, "has no option 'width'. Did you mean 'widths'?"),
        ({"model.widths": {"choices": [[4], [0]]}}, "Space: model.widths = [0]: "),
    ],
)
def test_what_is_refused(space: dict[Any, Any], words: str) -> None:
    with pytest.raises(UsageError) as refusal:
        definition(space=space)
    assert words in str(refusal.value)
    assert str(refusal.value).startswith("Space")


@pytest.mark.parametrize(
    ("base", "options", "words"),
    [
        ({**BASE, "data": {"source": "digits"}}, {}, "never by the test split"),
        ({**BASE, "data": {"source": "digts", "validation": 0.1}}, {}, "Did you mean 'digits'?"),
        ({**BASE, "epoch": 3}, {}, "unknown key 'epoch'"),
        (BASE, {"objectives": ("macs",)}, "A size alone is smallest"),
        (BASE, {"objectives": ("macs", "error")}, "objectives must be error"),
        (BASE, {"objectives": ("error", "macs", "bytes")}, "objectives must be error"),
        (BASE, {"objectives": ("error", "flops")}, "no objective 'flops'"),
        (BASE, {"objectives": ()}, "got none"),
        (BASE, {"sampler": "tpee"}, "no sampler 'tpee'. Did you mean 'tpe'?"),
        (BASE, {"pruner": "medain", "objectives": ("error",)}, "no pruner 'medain'. Did you mean 'median'?"),
        (BASE, {"pruner": "median"}, "two objectives: a trial with a large error may still be the smallest"),
        (BASE, {"seeds": []}, "at least one"),
        (BASE, {"seeds": [1, 1]}, "different"),
        (BASE, {"seeds": [-1]}, "≥ 0"),
        (BASE, {"seed": -1}, "≥ 0"),
    ],
)
def test_a_sweep_that_makes_no_sense_is_refused(base: dict[str, Any], options: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=r".") as refusal:
        definition(base, **options)
    assert words in str(refusal.value)


def test_seeds_are_whole_numbers() -> None:
    with pytest.raises(ArgumentTypeError, match="whole numbers"):
        definition(seeds=[0.5])


def test_ranges_between_whole_numbers_are_whole_only_where_the_recipe_has_whole_numbers() -> None:
    space = definition(space={"epochs": {"low": 1, "high": 4}, "optimizer.weight_decay": {"low": 0, "high": 1}}).space
    assert space["epochs"] == Range(1, 4, True)
    assert space["optimizer.weight_decay"] == Range(0, 1, False)


def test_choices_of_any_kind_are_told_apart() -> None:
    entry = space_from({"x": {"choices": [1, True, "1", [1], {"a": 1}]}})["x"]
    assert isinstance(entry, Choices)
    assert len(set(entry.names())) == 5


def test_a_trial_is_the_recipe_with_its_values() -> None:
    made = definition(seeds=[3, 4]).recipe({"optimizer.lr": 0.5, "model.widths": [4]}, 4)
    assert (made.optimizer.lr, made.model.options["widths"], made.seed, made.data.validation) == (0.5, [4], 4, 0.2)


def test_workers_need_not_agree_on_what_belongs_to_a_machine() -> None:
    here, there = definition(), definition({**BASE, "threads": 2, "checkpoint": {"keep": 1}})
    assert here.plain() == there.plain()
    assert here.plain() != definition({**BASE, "epochs": 1}).plain()
