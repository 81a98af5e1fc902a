"""Random small networks, random plans: the trace never crashes, and what is offered as exact is exact."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F

import parsinet as pn
from parsinet.errors import StructureError

WIDTHS = (4, 6, 8, 12)
OPERATIONS = (
    "linear",
    "norm",
    "add",
    "multiply",
    "cat",
    "chunk",
    "shuffle",
    "heads",
    "slice",
    "tanh",
    "scale",
    "swap",
    "sum",
    "write",
    "glu",
)


class Program(nn.Module):
    """A pool of [batch, width] tensors; every step reads one or two of them and adds its result."""

    def __init__(self, steps: list[tuple[str, int, int]]) -> None:
        super().__init__()
        self.steps, self.layers = steps, nn.ModuleDict()
        self.scales = nn.ParameterDict()
        with torch.no_grad():
            self.last = nn.Identity()
            self.last = nn.Linear(self(torch.randn(3, 6), build=True).shape[1], 3)

    def forward(self, x: Tensor, build: bool = False) -> Tensor:
        pool = [x]
        for k, (name, i, j) in enumerate(self.steps):
            a, b = pool[i % len(pool)], pool[j % len(pool)]
            pool.append(self.apply_step(f"{k}", name, a, b, WIDTHS[(i + j) % 4], build))
        return self.last(torch.cat(pool[1:], 1))

    def layer(self, key: str, build: bool, make: object) -> nn.Module:
        if build:
            self.layers[key] = make()  # type: ignore[operator]
        return self.layers[key]

    def apply_step(self, key: str, name: str, a: Tensor, b: Tensor, width: int, build: bool) -> Tensor:
        n = a.shape[1]
        match name:
            case "linear":
                return self.layer(key, build, lambda: nn.Linear(n, width))(a)
            case "norm":
                return self.layer(key, build, lambda: (nn.LayerNorm, nn.BatchNorm1d)[width % 3 == 0](n).eval())(a)
            case "add" | "multiply" if a.shape == b.shape:
                return a + b if name == "add" else a * b
            case "cat":
                return torch.cat([a, b], 1)
            case "chunk" if n % 2 == 0:
                return a.chunk(2, 1)[width % 2] * 2
            case "shuffle" if n % 2 == 0:
                return a.view(-1, 2, n // 2).transpose(1, 2).reshape(len(a), -1)
            case "heads" if n % 2 == 0:
                q, k = (part.reshape(len(a), 2, -1) for part in (a, a.sin()))
                return (q @ k.transpose(1, 2) @ q).flatten(1)
            case "slice" if n > 3:
                return a[:, 1:-1]
            case "scale":
                if build:
                    self.scales[key] = nn.Parameter(torch.rand(n))
                return a * self.scales[key]
            case "swap" if n % 2 == 0:
                return torch.cat(a.split(n // 2, 1)[::-1], 1)
            case "sum":
                return a + a.sum(1, keepdim=True) / 7
            case "write" if n > 2:
                y = torch.zeros_like(a)
                y[:, : n // 2] = a[:, : n // 2]
                return y
            case "glu" if n % 2 == 0:
                return F.glu(a)
        return torch.tanh(a)


STEPS = st.lists(st.tuples(st.sampled_from(OPERATIONS), st.integers(0, 6), st.integers(0, 6)), min_size=3, max_size=9)


@settings(max_examples=12, deadline=None)
@given(steps=STEPS, seed=st.integers(0, 1000))
def test_exact_means_exact(steps: list[tuple[str, int, int]], seed: int) -> None:
    exact_is_exact(steps, seed)


@pytest.mark.slow
@settings(max_examples=100, deadline=None)
@given(steps=STEPS, seed=st.integers(0, 1000))
def test_exact_means_exact_in_many_networks(steps: list[tuple[str, int, int]], seed: int) -> None:
    exact_is_exact(steps, seed)


def exact_is_exact(steps: list[tuple[str, int, int]], seed: int) -> None:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = Program([("linear", 0, 0), *steps]).double().eval()
        x = torch.randn(3, 6).double()
    structure = pn.trace(model, x)
    generator = torch.Generator().manual_seed(seed)
    alive = {}
    for group in structure.removable():
        if group.exact:
            alive[group.name] = torch.rand(group.size, generator=generator) < 0.6
            alive[group.name][seed % group.size] = True
    try:
        plan = structure.plan(alive)
    except StructureError:  # masks that are each allowed may leave nothing of a tensor they share
        return
    with pn.silence(model, plan), torch.no_grad():
        silenced = model(x)
    pn.shrink(model, plan)
    assert torch.allclose(model(x), silenced, rtol=0, atol=1e-10 * max(1.0, float(silenced.abs().max())))
