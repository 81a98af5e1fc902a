"""Which groups are gated unless someone names them: of attention, heads as a whole."""

from __future__ import annotations

import pytest

from networks import traced
from parsinet.baselines import VIB
from parsinet.methods import Gates
from parsinet.methods.base import Budget
from parsinet.methods.choice import against_gates, gateable_groups, left_out


@pytest.mark.parametrize("name", ["char-gpt", "tiny-vit"])
def test_heads_are_gated_as_a_whole_and_features_within_them_where_they_are_named(name: str) -> None:
    model, _, structure = traced(name)
    heads, values = "blocks.0.attn.heads", "blocks.0.attn.v_dim"
    chosen = gateable_groups("Gates", structure, None, weights=True)
    assert {heads, "blocks.0.mlp.fc1"} <= set(chosen)
    assert not any(group.endswith("_dim") for group in chosen)
    reasons = left_out(structure, chosen, against_gates(structure, weights=True))
    assert reasons[values] == f"{heads} are gated as a whole, and groups does not name it"
    assert gateable_groups("Gates", structure, [heads, values]) == [heads, values]
    gates = Gates(groups=[heads, values])
    gates.attach(model, structure, Budget(steps=100))
    assert set(gates.scores()) == {heads, values}


def test_features_of_heads_that_carry_no_gate_are_gated() -> None:
    _, _, structure = traced("char-gpt")
    no_heads = lambda name: "not these" if name.endswith("heads") else ""  # noqa: E731
    assert "blocks.0.attn.v_dim" in gateable_groups("Gates", structure, None, no_heads, weights=True)


def test_the_others_that_multiply_units_choose_alike() -> None:
    model, _, structure = traced("char-gpt")
    method = VIB()
    method.attach(model, structure, Budget(steps=100))
    assert "blocks.0.attn.heads" in method.scores()
    assert "blocks.0.attn.v_dim" not in method.scores()


def test_groups_that_share_a_dimension() -> None:
    _, _, structure = traced("char-gpt")
    assert structure.sharing("blocks.0.attn.v_dim") == ["blocks.0.attn.heads"]
    assert structure.sharing("blocks.0.attn.heads") == ["blocks.0.attn.qk_dim", "blocks.0.attn.v_dim"]
    assert structure.sharing("blocks.0.mlp.fc1") == []
