"""An operator of your own and a module with a size of its own: one rule and one hint, and both take part in removals.

python examples/own_rule.py
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

import parsinet as pn
from parsinet.structure import Tracing, Value


@torch.library.custom_op("example::gated", mutates_args=())
def gated(x: Tensor, up: Tensor, gate: Tensor) -> Tensor:
    """(x upᵀ) · sigmoid(x gateᵀ), as a fused kernel would compute it."""
    return (x @ up.T) * torch.sigmoid(x @ gate.T)


@gated.register_fake
def _(x: Tensor, up: Tensor, gate: Tensor) -> Tensor:
    return x.new_empty(*x.shape[:-1], up.shape[0])


def gated_rule(ctx: Tracing, x: Value, up: Value, gate: Value) -> Value:
    """Both weights read the last axis of x; row i of one goes with row i of the other, and is unit i of the result."""
    last = len(x.axes) - 1
    ctx.contract(x, last, up, 1)
    ctx.contract(x, last, gate, 1)
    units = ctx.labels.unify(up.axes[0], gate.axes[0], ctx.where)
    ctx.produce(units, ctx.module)
    return x.with_axes((*x.axes[:-1], units))


class Gated(nn.Module):
    """The operator with its weights."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.up, self.gate = (nn.Parameter(torch.randn(outputs, inputs) / inputs**0.5) for _ in range(2))

    def forward(self, x: Tensor) -> Tensor:
        return gated(x, self.up, self.gate)


class Capsules(nn.Module):
    """Lengths of capsules: their number goes through arithmetic of its own, in which nobody can follow it."""

    def __init__(self, inputs: int, capsules: int, size: int) -> None:
        super().__init__()
        self.capsules = capsules
        self.lift = nn.Linear(inputs, capsules * size)

    def forward(self, x: Tensor) -> Tensor:
        return self.lift(x).view(len(x), int(self.capsules), -1).square().sum(-1)


def main() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), Gated(16, 12), Capsules(12, 6, 4), nn.Linear(6, 3))
    x = torch.randn(5, 8)
    print("without rule and hint:")
    for group in pn.trace(model, x).groups:
        print(f"  {group.name}: {group.size}" + (f", stays: {group.reason}" if not group.removable else ""))
    structure = pn.trace(model, x, rules={"example::gated": gated_rule}, hints={"3": {"capsules": "3.lift"}})
    print("with them:")
    for group in structure.groups:
        print(f"  {group.name}: {group.size}" + (f", stays: {group.reason}" if not group.removable else ""))
    plan = structure.plan({group.name: torch.arange(group.size) % 3 > 0 for group in structure.removable()})
    with pn.silence(model, plan), torch.no_grad():
        silenced = model(x)
    pn.shrink(model, plan)
    print("capsules:", model[3].capsules, "shrunk equals silenced:", torch.allclose(model(x), silenced, atol=1e-5))


if __name__ == "__main__":
    main()
