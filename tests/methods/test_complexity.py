"""Costs by units against what `parsinet.measure` counts on networks that have really lost them."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from networks import TELLING, cases, traced
from parsinet import measure
from parsinet.errors import UsageError
from parsinet.methods.complexity import KINDS, complexity, dense_costs, relative
from parsinet.structure import Structure, shrink, trace

ROUTERS = {"dispatched": {"lift"}}
"""Network → groups that decide how many examples an expert sees; a cost takes that as it was."""


def measured(model: nn.Module, inputs: Any) -> dict[str, float]:
    found = measure.profile(model, inputs, latency=False)
    return {"macs": found.macs, "parameters": found.parameters, "bytes": found.bytes}


def drawn(structure: Structure, share: float, seed: int = 1) -> dict[str, Tensor]:
    """Masks at random that leave every group a unit."""
    generator = torch.Generator().manual_seed(seed)
    masks = {}
    for group in structure.removable():
        masks[group.name] = torch.rand(group.size, generator=generator) < share
        masks[group.name][0] = True
    return masks


def lost(model: nn.Module, structure: Structure, masks: dict[str, Tensor]) -> tuple[nn.Module, Structure]:
    smaller, plan = copy.deepcopy(model), structure.plan(masks)
    shrink(smaller, plan)
    return smaller, structure.after(plan)


@pytest.mark.filterwarnings("ignore:LSTM with projections is not supported with oneDNN")
@cases(TELLING[::2])
def test_a_cost_at_0_and_1_is_what_is_measured_once_the_units_are_gone(name: str) -> None:
    """Whole numbers: multiply-adds per example are rounded by the measurement alone."""
    model, inputs, structure = traced(name)
    masks = {group: mask for group, mask in drawn(structure, 0.6).items() if group not in ROUTERS.get(name, ())}
    smaller, after = lost(model, structure, masks)
    for kind, expected in measured(smaller, inputs).items():
        batch = measure.batch_size(inputs)
        cost = complexity(kind, model, structure, batch=batch)
        assert cost.dense == pytest.approx(measured(model, inputs)[kind], abs=0.5)
        assert cost.of(masks) == pytest.approx(expected, abs=0.5)
        assert complexity(kind, smaller, after, batch=batch).dense == pytest.approx(cost.of(masks), abs=1e-6), "as before the removal"


def test_work_that_depends_on_values_is_that_of_the_example_inputs() -> None:
    """Each example chooses two of three experts: how many see which is up to the examples."""
    model, inputs, structure = traced("dispatched")
    other = torch.randn(inputs.shape, generator=torch.Generator().manual_seed(1)).to(inputs)
    elsewhere = trace(model, other)
    assert [work.fixed for work in structure.layout.work] != [work.fixed for work in elsewhere.layout.work]
    found = complexity("macs", model, elsewhere, batch=len(other))
    assert found.dense == pytest.approx(measured(model, other)["macs"], abs=0.5)


@pytest.mark.parametrize("name", ["mlp", "lenet-5-caffe", "resnet-20", "depthwise", "gated", "grouped-query", "lstm", "twice", "branches"])
def test_a_price_is_the_measured_saving_of_one_unit(name: str) -> None:
    model, inputs, structure = traced(name)
    whole = measured(model, inputs)
    for group in structure.removable()[:4]:
        mask = torch.arange(group.size) != group.size - 1
        smaller = measured(lost(model, structure, {group.name: mask})[0], inputs)
        for kind in KINDS:
            cost = complexity(kind, model, structure, batch=measure.batch_size(inputs))
            saving = cost.gradient({group.name: torch.ones(group.size)})[group.name][-1]
            assert float(saving) == pytest.approx(whole[kind] - smaller[kind], abs=0.5), (group.name, kind)


def test_the_law_objects_to_an_operator_that_is_left_out() -> None:
    model, inputs, structure = traced("lenet-5-caffe")
    layout = replace(structure.layout, work=structure.layout.work[1:])
    cost = complexity("macs", model, Structure(layout), batch=measure.batch_size(inputs))
    assert cost.dense != pytest.approx(measured(model, inputs)["macs"], rel=0.01)


def test_relative_cost_is_1_for_the_dense_network_and_unchanged_by_a_removal_of_closed_units() -> None:
    model, _, structure = traced("lenet-5-caffe")
    shares = {"macs": 0.3, "parameters": 0.7}
    dense = dense_costs(shares, model, structure)
    cost = relative(shares, dense, model, structure)
    assert cost.dense == pytest.approx(1, abs=1e-12)
    masks = drawn(structure, 0.5)
    generator = torch.Generator().manual_seed(2)
    theta = {name: mask * torch.rand(len(mask), generator=generator, dtype=torch.float64) for name, mask in masks.items()}
    smaller, after = lost(model, structure, masks)
    rest = {name: theta[name][mask] for name, mask in masks.items()}
    assert float(relative(shares, dense, smaller, after).expected(rest)) == pytest.approx(float(cost.expected(theta)), rel=1e-12)


def test_prices_of_lenet_300_100() -> None:
    """By hand, per unit: 784 + 1 + 100 and 300 + 1 + 10 of 266,610 parameters."""
    model = nn.Sequential(nn.Linear(784, 300), nn.ReLU(), nn.Linear(300, 100), nn.ReLU(), nn.Linear(100, 10))
    structure = trace(model, torch.randn(2, 784))
    cost = relative({"parameters": 1.0}, dense_costs(["parameters"], model, structure), model, structure)
    prices = cost.gradient({"0": torch.ones(300), "2": torch.ones(100)})
    assert [float(prices[name][0]) for name in ("0", "2")] == pytest.approx([885 / 266_610, 311 / 266_610], rel=1e-12)


def test_only_the_gated_groups_are_units() -> None:
    model, _, structure = traced("mlp")
    first, *_ = (group.name for group in structure.removable())
    cost = complexity("parameters", model, structure, groups=[first])
    assert {group for term in cost.terms for axis in term.axes for group in axis} == {first}
    assert cost.dense == complexity("parameters", model, structure).dense


def test_a_unit_that_stands_for_modules_holds_all_that_is_inside() -> None:
    model = nn.Sequential(nn.Linear(4, 6), nn.Sequential(nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 6)), nn.Linear(6, 3))
    structure = trace(model, torch.randn(2, 4))
    inside = sum(parameter.numel() for parameter in model[1].parameters())
    cost = complexity("parameters", model, structure, blocks={"block": ["1"]})
    assert cost.dense - cost.of({"block": torch.tensor([False])}) == inside
    theta = {"block": torch.tensor([0.5]), "1.0": torch.full((5,), 0.5)}
    gradient = cost.gradient(theta)
    assert float(gradient["1.0"][0]) == pytest.approx(0.5 * (6 + 1 + 6)), "a unit inside is there while its block is"
    macs = complexity("macs", model, structure, batch=2, blocks={"block": ["1"]})
    assert macs.dense - macs.of({"block": torch.tensor([False])}) == 60


@pytest.mark.parametrize("number", [0, 1])
def test_a_residual_branch_costs_what_is_gone_without_it(number: int) -> None:
    model, inputs, _ = traced("resnet-20")
    structure = trace(model, inputs, blocks=True)
    block = [entry.name for entry in structure.blocks if entry.removable][number]
    plan = structure.plan({block: torch.tensor([False])})
    blocks = {block: tuple(plan.absent)}
    batch = measure.batch_size(inputs)
    costs = {kind: complexity(kind, model, structure, batch=batch, blocks=blocks) for kind in KINDS}
    shrink(model, plan)
    for kind, expected in measured(model, inputs).items():
        assert costs[kind].of({block: torch.tensor([False])}) == pytest.approx(expected, abs=0.5)
        assert complexity(kind, model, structure.after(plan), batch=batch).dense == pytest.approx(expected, abs=0.5)


def test_an_unknown_cost_is_refused() -> None:
    model, _, structure = traced("mlp")
    with pytest.raises(UsageError, match=r"There is no cost 'parameter'. Did you mean 'parameters'\?"):
        complexity("parameter", model, structure)
