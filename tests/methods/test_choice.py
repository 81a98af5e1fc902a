"""Which groups are gated unless someone names them: of attention, heads as a whole."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from networks import traced
from parsinet.baselines import VIB, MagnitudeUnits
from parsinet.errors import UsageError
from parsinet.methods import Gates
from parsinet.methods.base import Budget
from parsinet.methods.choice import against_gates, chosen_groups, gateable_groups, left_out
from parsinet.structure import trace


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


class Normed(nn.Module):
    """Attention that takes all its sizes from the tensors it is given, as in nanoGPT: heads and width are one."""

    def __init__(self) -> None:
        super().__init__()
        self.emb, self.norm, self.qkv, self.out = nn.Embedding(7, 8), nn.LayerNorm(8), nn.Linear(8, 24), nn.Linear(8, 5)

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.emb(tokens)
        b, t, c = x.shape
        q, k, v = (y.view(b, t, 2, c // 2).transpose(1, 2) for y in self.qkv(self.norm(x)).split(c, 2))
        y = functional.scaled_dot_product_attention(q, k, v).transpose(1, 2).contiguous().view(b, t, c)
        return self.out(x + y)


def test_groups_that_are_not_exact_say_that_they_are_taken_where_they_are_named() -> None:
    model = Normed()
    structure = trace(model, torch.zeros(2, 3, dtype=torch.long))
    told = r"emb.heads: .* normalises over it, so it is only taken where groups names it; .*after `y.view\(B, T, -1\)`"
    for method in (Gates(), VIB(), MagnitudeUnits()):
        with pytest.raises(UsageError, match=told):
            method.attach(model, structure, Budget(steps=10))
    assert chosen_groups("Gates", "gated", structure, ["emb.heads"], lambda name: "") == ["emb.heads"]
    with pytest.raises(UsageError, match=r"normalises over it; "):
        chosen_groups("Gates", "gated", structure, None, lambda name: "never")
    reasons = left_out(structure, [], lambda name: "")
    assert reasons["emb.heads"].endswith("so it is only taken where groups names it")
    assert reasons["out"] == "it is part of the model's output"


def test_groups_that_share_a_dimension() -> None:
    _, _, structure = traced("char-gpt")
    assert structure.sharing("blocks.0.attn.v_dim") == ["blocks.0.attn.heads"]
    assert structure.sharing("blocks.0.attn.heads") == ["blocks.0.attn.qk_dim", "blocks.0.attn.v_dim"]
    assert structure.sharing("blocks.0.mlp.fc1") == []
