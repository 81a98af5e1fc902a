"""Weights that are computed from several parameters: silence, and what is said where zeros do not reach the weight."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import parsinet as pn

HALF = torch.arange(12) % 2 == 0

ZERO: dict[str, Callable[[_Computed], Tensor]] = {
    "sum": lambda m: m.w + m.d,
    "merged low rank": lambda m: m.w + 2 * (m.up @ m.down),
    "low rank first": lambda m: torch.addmm(m.w, m.up, m.down),
    "lerp": lambda m: torch.lerp(m.w, m.d, m.share),
    "where": lambda m: torch.where(m.share > 0.5, m.w, m.d),
    "chosen by a buffer": lambda m: torch.where(m.mask, m.w, m.d),
    "stack": lambda m: torch.stack([m.w, m.d]).mean(0),
    "concatenation": lambda m: torch.cat([m.w, m.d]),
    "noise": lambda m: torch.addcmul(m.w, m.d, m.share),
    "sum of sums": lambda m: (m.w + m.share * m.d) - (m.d + m.up @ m.down),
    "in place": lambda m: m.w.clone().add_(m.d),
    "product": lambda m: m.w * m.d,
    "odd function": lambda m: (m.w - m.d).tanh(),
}
"""Weights that are zero where all that they are computed from is."""

LASTING: dict[str, Callable[[_Computed], Tensor]] = {
    "exponential": lambda m: m.w.exp(),
    "softmax": lambda m: m.w.softmax(0),
    "offset": lambda m: m.w + m.offset,
    "sigmoid of a sum": lambda m: (m.w + m.d).sigmoid(),
}


class _Computed(nn.Module):
    """Twelve units are read by a weight that `make` computes."""

    def __init__(self, make: Callable[[_Computed], Tensor]) -> None:
        super().__init__()
        self.make = make
        self.first = nn.Linear(5, 12)
        self.w, self.d = (nn.Parameter(torch.randn(7, 12)) for _ in range(2))
        self.up, self.down, self.offset = nn.Parameter(torch.randn(7, 3)), nn.Parameter(torch.randn(3, 12)), nn.Parameter(torch.randn(7, 1))
        self.register_buffer("share", torch.rand(7, 12))
        self.register_buffer("mask", torch.rand(7, 12) > 0.5)

    def forward(self, x: Tensor) -> Tensor:
        y = F.linear(self.first(x).relu(), self.make(self))
        return y.sum(1)


def _silent(model: _Computed, x: Tensor) -> Tensor:
    """What the network gives where whoever reads a leaving unit reads zero, by a hook on the units."""
    hook = model.first.register_forward_hook(lambda *called: called[-1] * HALF)
    try:
        return model(x)  # type: ignore[no-any-return]
    finally:
        hook.remove()


@pytest.mark.parametrize("kind", ZERO)
def test_all_terms_of_a_computed_weight_are_silenced(kind: str) -> None:
    torch.manual_seed(0)
    model, x = _Computed(ZERO[kind]).double(), torch.randn(4, 5).double()
    structure = pn.trace(model, x)
    assert (structure.group("first").exact, structure.group("first").reason) == (True, "")
    plan = structure.plan({"first": HALF})
    with torch.no_grad():
        expected = _silent(model, x)
        with pn.silence(model, plan):
            torch.testing.assert_close(model(x), expected)
        pn.shrink(model, plan)
        torch.testing.assert_close(model(x), expected)


@pytest.mark.parametrize("kind", LASTING)
def test_a_weight_that_zeros_do_not_reach_is_named(kind: str) -> None:
    torch.manual_seed(0)
    model, x = _Computed(LASTING[kind]), torch.randn(4, 5)
    state = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    group = pn.trace(model, x).group("first")
    assert (group.removable, group.exact) == (True, False)
    assert group.reason.startswith("`linear` at test_computed.py:")
    assert group.reason.endswith("reads a weight of it that is not zero where its parameters are zero")
    assert all(torch.equal(tensor, state[name]) for name, tensor in model.state_dict().items())


class _Noisy(nn.Module):
    """A linear layer whose weight has noise of a scale of its own, in training."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.mean, self.scale = (nn.Parameter(torch.randn(outputs, inputs)) for _ in range(2))
        self.register_buffer("noise", torch.randn(outputs, inputs))

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.mean + self.scale * self.noise if self.training else self.mean)


def test_noisy_layers_shrink_to_the_silenced_network_in_training_too() -> None:
    torch.manual_seed(0)
    model, x = nn.Sequential(_Noisy(5, 12), nn.ReLU(), _Noisy(12, 3)).double(), torch.randn(4, 5).double()
    structure = pn.trace(model, x)
    group = structure.groups[0]
    assert (group.removable, group.exact) == (True, True)
    plan = structure.plan({group.name: HALF})
    assert {name for name, _ in plan.incoming} == {"0.mean", "0.scale"}
    model.train()
    with torch.no_grad():
        with pn.silence(model, plan):
            expected = model(x)
        pn.shrink(model, plan)
        torch.testing.assert_close(model(x), expected)


def test_weights_gated_where_they_are_read_are_gated_in_every_term() -> None:
    structure = pn.trace(_Computed(ZERO["sum"]), torch.randn(4, 5))
    assert [(weigher.tensor, weigher.dim) for weigher in structure.weighers("first")] == [("d", 1), ("w", 1)]
