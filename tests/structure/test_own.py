"""Rules and hints of the user's own: they take part in removals, wrong ones do no harm, misspelt ones are refused."""

from __future__ import annotations

import runpy
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import parsinet as pn
from parsinet.errors import StructureError, UsageError
from parsinet.structure import Tracing, Value

EXAMPLE = Path(__file__).parent.parent.parent / "examples" / "own_rule.py"


@pytest.fixture(scope="module")
def example() -> dict[str, Any]:
    return runpy.run_path(str(EXAMPLE))


def build(example: dict[str, Any]) -> tuple[nn.Module, Tensor]:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(8, 16), nn.ReLU(), example["Gated"](16, 12), nn.Linear(12, 3)), torch.randn(5, 8)


def test_a_rule_makes_units_removable(example: dict[str, Any]) -> None:
    model, x = build(example)
    assert [group.name for group in pn.trace(model, x).removable()] == []
    structure = pn.trace(model, x, rules={"example::gated": example["gated_rule"]})
    assert [(group.name, group.size, group.exact) for group in structure.removable()] == [("0", 16, True), ("2", 12, True)]


def test_the_pruner_passes_rules_on(example: dict[str, Any]) -> None:
    model, x = build(example)
    method = pn.methods.Gates()
    optimizer = torch.optim.Adam(method.param_groups(model))
    assert pn.Pruner(model, optimizer, pn.methods.Dense(), x, rules={"example::gated": example["gated_rule"]}).widths() == {
        "0": 16,
        "2": 12,
    }


def backwards(ctx: Tracing, x: Value, up: Value, gate: Value) -> Value:
    """A wrong rule: row i of one weight with row n − i of the other."""
    from parsinet.structure.axes import labelled

    for weight in (up, gate):
        ctx.contract(x, len(x.axes) - 1, weight, 1)
    units = ctx.labels.unify(up.axes[0], labelled(gate.axes[0].rows[:, ::-1].copy()), ctx.where)
    ctx.produce(units, ctx.module)
    return x.with_axes((*x.axes[:-1], units))


def test_a_wrong_rule_is_found_out(example: dict[str, Any]) -> None:
    model, x = build(example)
    group = pn.trace(model, x, rules={"example::gated": backwards}).group("2")
    assert not (group.removable and group.exact)


def sized(example: dict[str, Any]) -> tuple[nn.Module, Tensor]:
    return nn.Sequential(example["Capsules"](8, 6, 4), nn.Linear(6, 3)), torch.randn(5, 8)


@pytest.mark.parametrize("counted", ["0.lift", "1.weight[1]"])
def test_a_hint_lets_an_attribute_follow(example: dict[str, Any], counted: str, tmp_path: Path) -> None:
    model, x = sized(example)
    assert not pn.trace(model, x).group("0.lift").removable
    structure = pn.trace(model, x, hints={"0": {"capsules": counted}})
    pn.shrink(model, structure.plan({"0.lift": torch.arange(6) != 2}))
    assert model[0].capsules == 5
    pn.save(model, tmp_path)
    assert torch.equal(pn.load(tmp_path, lambda: sized(example)[0])(x), model(x))


@pytest.mark.parametrize(
    ("hints", "words"),
    [
        ({"0": {"capsules": "0.lfit"}}, r"no group or tensor dimension '0\.lfit'\. Did you mean"),
        ({"O": {"capsules": "0.lift"}}, "no module 'O'"),
        ({"0": {"capsule": "0.lift"}}, "'capsule' of 0 must be a whole number"),
        ({"0": {"capsules": "0.lift#2"}}, "is 6, but 0.lift#2 has 4 units"),
    ],
)
def test_hints_that_do_not_fit(example: dict[str, Any], hints: dict[str, dict[str, str]], words: str) -> None:
    model, x = sized(example)
    with pytest.raises(StructureError, match=words):
        pn.trace(model, x, hints=hints)


@pytest.mark.parametrize(("rules", "words"), [({"gated": len}, "library::operator"), ({"a::b": 3}, "must be a function")])
def test_rules_that_are_none(rules: dict[str, Any], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        pn.trace(nn.Linear(2, 2), torch.randn(1, 2), rules=rules)
