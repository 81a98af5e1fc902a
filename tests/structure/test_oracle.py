"""Torch-Pruning as an oracle: where it works, it finds the same coupled (parameter, dimension) sets as ours."""

from __future__ import annotations

import warnings

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

import parsinet as pn
from parsinet import models

peer = pytest.importorskip("torch_pruning", reason="the oracle is Torch-Pruning: pip install parsinet[peers]")

COARSER = {("attention", "query"), ("attention", "value")}
"""Groups it finds too large: it takes the product of two activations for an operator that acts entry by entry, and so joins what the
product sums over (query and key) to what it does not (value)."""

Places = frozenset[tuple[str, int]]


class Attention(nn.Module):
    """Two residual blocks of one attention head with a feed-forward network, without a view."""

    def __init__(self) -> None:
        super().__init__()
        self.lift = nn.Linear(5, 12)
        self.query, self.key, self.value, self.out = nn.Linear(12, 8), nn.Linear(12, 8), nn.Linear(12, 10), nn.Linear(10, 12)
        self.up, self.down = nn.Linear(12, 20), nn.Linear(20, 12)
        self.norm = nn.LayerNorm(12)
        self.head = nn.Linear(12, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.lift(x)
        x = x + self.out((self.query(x) @ self.key(x).transpose(1, 2)).softmax(-1) @ self.value(x))
        return self.head(self.norm(x + self.down(functional.gelu(self.up(x)))).mean(1))


class Plain(nn.Module):
    """Convolutions, a concatenation, a depthwise convolution, a linear layer over flattened positions."""

    def __init__(self) -> None:
        super().__init__()
        self.left, self.right = nn.Conv2d(3, 6, 3, padding=1), nn.Conv2d(3, 10, 1)
        self.norm = nn.BatchNorm2d(16)
        self.depthwise = nn.Conv2d(16, 16, 3, groups=16, padding=1)
        self.mix = nn.Conv2d(16, 9, 1)
        self.fc = nn.Linear(9 * 4 * 5, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm(torch.cat([self.left(x), self.right(x)], 1))
        return self.fc(functional.relu(self.mix(self.depthwise(x))).flatten(1))


CASES = {
    "lenet-5-caffe": lambda: (models.build("lenet-5-caffe", (1, 28, 28), 10), torch.randn(1, 1, 28, 28)),
    "vgg-small": lambda: (models.build("vgg-small", (3, 32, 32), 10), torch.randn(1, 3, 32, 32)),
    "resnet-20": lambda: (models.build("resnet-20", (3, 32, 32), 10), torch.randn(1, 3, 32, 32)),
    "attention": lambda: (Attention(), torch.randn(2, 4, 5)),
    "plain": lambda: (Plain(), torch.randn(1, 3, 4, 5)),
}


def ours(model: nn.Module, x: Tensor) -> dict[str, Places]:
    """Group → the (parameter, dimension) places that lose entries with one of its units; buffers apart."""
    structure = pn.trace(model, x)
    parameters = dict(model.named_parameters())
    found = {}
    for group in structure.removable():
        plan = structure.plan({group.name: torch.arange(group.size) > 0})
        found[group.name] = frozenset(place for place in plan.tensors if place[0] in parameters)
    return found


def theirs(model: nn.Module, x: Tensor, layer: nn.Module) -> Places:
    """The places of the group that begins at the first output of `layer`."""
    kinds = peer.function
    outputs = (kinds.prune_conv_out_channels, kinds.prune_linear_out_channels, kinds.prune_depthwise_conv_out_channels)
    inputs = (kinds.prune_conv_in_channels, kinds.prune_linear_in_channels)
    vectors = (kinds.prune_batchnorm_out_channels, kinds.prune_layernorm_out_channels)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        graph = peer.DependencyGraph().build_dependency(model, example_inputs=x)
        start = kinds.prune_linear_out_channels if isinstance(layer, nn.Linear) else kinds.prune_conv_out_channels
        group = graph.get_pruning_group(layer, start, idxs=[0])
    names = {module: name for name, module in model.named_modules()}
    places: set[tuple[str, int]] = set()
    for dependency, _ in group:
        module, handler = dependency.target.module, dependency.handler
        if module not in names:
            continue
        kept = {key for key, _ in module.named_parameters(recurse=False)}
        if handler in inputs:
            places.add((f"{names[module]}.weight", 1))
        elif handler in outputs or handler in vectors:
            places.update((f"{names[module]}.{key}", 0) for key in kept)
    return frozenset(places)


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.slow) if name in ("resnet-20", "vgg-small") else name for name in CASES]
)
def test_the_same_places_are_coupled(name: str) -> None:
    model, x = CASES[name]()
    model.eval()
    compared = 0
    for group, places in ours(model, x).items():
        layer = model.get_submodule(group) if group in dict(model.named_modules()) else None
        if isinstance(layer, nn.Linear | nn.Conv2d) and layer.weight.shape[0] == pn.trace(model, x).group(group).size:
            found = theirs(model, x, layer)
            assert found > places if (name, group) in COARSER else found == places, group
            compared += 1
    assert compared >= 2


@pytest.mark.parametrize("group", ["query", "value"])
def test_query_and_value_leave_apart(group: str) -> None:
    """Where the oracle joins them, the network that has lost one of both without the other runs and equals the silenced one."""
    model, x = CASES["attention"]()
    model, x = model.double(), x.double()
    structure = pn.trace(model, x)
    plan = structure.plan({group: torch.arange(structure.group(group).size) != 3})
    with pn.silence(model, plan):
        silenced = model(x)
    pn.shrink(model, plan)
    assert torch.allclose(model(x), silenced, rtol=0, atol=1e-12)
    assert (model.query.out_features, model.value.out_features) == ((7, 10) if group == "query" else (8, 9))
