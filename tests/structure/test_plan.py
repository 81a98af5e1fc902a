"""Plans: frozen values, refused at the door in the caller's words."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

import parsinet as pn
from networks import make
from parsinet.errors import ArgumentTypeError, StructureError
from parsinet.structure.traced import Structure


@pytest.fixture(scope="module")
def structure() -> Structure:
    model, x = make("mlp")
    return pn.trace(model, x)


def mask(size: int, *gone: int) -> torch.Tensor:
    kept = torch.ones(size, dtype=torch.bool)
    kept[list(gone)] = False
    return kept


def test_an_unknown_group_names_the_nearest(structure: Structure) -> None:
    with pytest.raises(StructureError, match=r"There is no group 'fcl'\. Did you mean 'fc\d'\?"):
        structure.plan({"fcl": mask(12, 0)})


@pytest.mark.parametrize("wrong", [torch.ones(11, dtype=torch.bool), torch.ones(12), [True] * 13, np.ones((12, 1), bool)])
def test_a_mask_that_does_not_fit(structure: Structure, wrong: object) -> None:
    with pytest.raises(StructureError, match=r"mask of group 'fc1' must be bool of length 12, got"):
        structure.plan({"fc1": wrong})


def test_what_is_no_mask_at_all(structure: Structure) -> None:
    with pytest.raises(StructureError, match="mask of group 'fc1' must be bool of length 12"):
        structure.plan({"fc1": "all"})


@pytest.mark.parametrize("wrong", [None, 3, ["fc1"]])
def test_what_is_no_mapping(structure: Structure, wrong: object) -> None:
    with pytest.raises(ArgumentTypeError, match="alive must be a mapping of group names to masks, got"):
        structure.plan(wrong)


def test_the_output_cannot_lose_units_but_may_be_named(structure: Structure) -> None:
    output = structure.groups[-1]
    assert structure.plan({output.name: mask(output.size)}).empty
    with pytest.raises(StructureError, match="cannot lose units: it is part of the model's output"):
        structure.plan({output.name: mask(output.size, 0)})


def test_a_group_keeps_at_least_one_unit(structure: Structure) -> None:
    with pytest.raises(StructureError, match="would leave 'fc1' without any unit; keep at least one of its 12"):
        structure.plan({"fc1": torch.zeros(12, dtype=torch.bool)})


def test_lists_arrays_and_tensors_are_the_same_plan(structure: Structure) -> None:
    kept = mask(12, 1, 5)
    assert structure.plan({"fc1": kept}) == structure.plan({"fc1": kept.tolist()}) == structure.plan({"fc1": kept.numpy()})


def test_a_plan_says_what_it_does(structure: Structure) -> None:
    plan = structure.plan({"fc1": mask(12, 1, 5), "fc2": mask(9)})
    assert str(plan) == "Plan:\n  fc1: 12 → 10"
    assert plan.widths() == {"fc1": (12, 10)}
    assert plan.alive == {"fc1": tuple(mask(12, 1, 5).tolist())}
    assert plan.tensors["fc1.weight", 0] == plan.tensors["fc2.weight", 1] == (0, 2, 3, 4, 6, 7, 8, 9, 10, 11)
    assert plan.silent == {("fc2.weight", 1): (1, 5)}


def test_nothing_to_do(structure: Structure) -> None:
    plan = structure.plan({})
    assert plan.empty
    assert str(plan) == "Plan: nothing leaves"
    assert structure.plan({"fc1": mask(12)}) == plan


def test_frozen(structure: Structure) -> None:
    plan = structure.plan({"fc1": mask(12, 0)})
    with pytest.raises(dataclasses.FrozenInstanceError):
        plan.alive = {}  # type: ignore[misc]
    with pytest.raises(dataclasses.FrozenInstanceError):
        structure.layout = None  # type: ignore[misc,assignment]


def test_after_renumbers_what_stays(structure: Structure) -> None:
    plan = structure.plan({"fc1": mask(12, 0, 3)})
    after = structure.after(plan)
    assert after.group("fc1").size == 10
    assert structure.group("fc1").size == 12
    assert after.plan({"fc1": mask(10, 9)}).tensors["fc2.weight", 1] == tuple(range(9))


def test_readers_say_where_units_are_read() -> None:
    model, x = make("branches")
    structure = pn.trace(model, x)
    reader = next(reader for reader in structure.readers("left") if reader.module == "grouped")
    assert reader.axis == -3
    assert structure.gateable("left")
    with pytest.raises(StructureError, match="no group"):
        structure.readers("lef")
