"""The table of networks every law of the engine is tested on: name → (model, example inputs)."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable
from functools import cache
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils._pytree import tree_leaves, tree_map

from architectures import attention, convolutional, handwritten, mixed, strangers
from parsinet import models
from parsinet.structure import Structure, trace

Inputs = Tensor | tuple[Any, ...] | dict[str, Any]


class Branches(nn.Module):
    """Two branches concatenated (inception), a residual, a grouped and a depthwise convolution, H ≠ W ≠ C."""

    def __init__(self) -> None:
        super().__init__()
        self.left = nn.Conv2d(3, 6, 3, padding=1)
        self.right = nn.Conv2d(3, 10, 1)
        self.norm = nn.BatchNorm2d(16)
        self.grouped = nn.Conv2d(16, 24, 3, groups=4, stride=2)
        self.depthwise = nn.Conv2d(24, 24, 3, groups=24, padding=1)
        self.fc = nn.Linear(24, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.norm(torch.cat([self.left(x), self.right(x)], 1)))
        x = F.silu(self.grouped(x))
        return self.fc(F.adaptive_avg_pool2d(x + self.depthwise(x), 1).flatten(1))


class Dense121Block(nn.Module):
    """DenseNet's pattern: every layer reads the concatenation of all before it, batch norm first."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv1d(2, 6, 3, padding=1)
        self.norms = nn.ModuleList(nn.BatchNorm1d(6 + 4 * k) for k in range(3))
        self.convs = nn.ModuleList(nn.Conv1d(6 + 4 * k, 4, 3, padding=1) for k in range(3))
        self.head = nn.Linear(18 * 7, 3)

    def forward(self, x: Tensor) -> Tensor:
        features = [self.stem(x)]
        for norm, conv in zip(self.norms, self.convs, strict=True):
            features.append(conv(F.relu(norm(torch.cat(features, 1)))))
        return self.head(torch.cat(features, 1).flatten(1))


class Gated(nn.Module):
    """A gated linear unit cut with chunk, squeeze-and-excite, group norm, PReLU, a raw parameter, transposed convolution."""

    def __init__(self) -> None:
        super().__init__()
        self.up = nn.ConvTranspose2d(2, 8, 2, stride=2)
        self.norm = nn.GroupNorm(4, 8)
        self.act = nn.PReLU(8)
        self.squeeze, self.excite = nn.Linear(8, 4), nn.Linear(4, 8)
        self.scale = nn.Parameter(torch.rand(8, 1, 1))
        self.glu = nn.Linear(8, 12)
        self.mix = nn.Parameter(torch.randn(6, 3))

    def forward(self, x: Tensor) -> Tensor:
        x = self.act(self.norm(self.up(x))) * self.scale
        x = x * torch.sigmoid(self.excite(F.relu(self.squeeze(x.mean((2, 3))))))[:, :, None, None]
        value, gate = self.glu(x.mean((2, 3))).chunk(2, dim=-1)
        return (value * F.gelu(gate)) @ self.mix


class Twice(nn.Module):
    """One module called twice, tied weights, a residual onto the raw input, a frozen layer."""

    def __init__(self) -> None:
        super().__init__()
        self.lift = nn.Linear(7, 9)
        self.shared = nn.Linear(9, 9)
        self.back = nn.Linear(9, 7)
        self.tied = nn.Linear(7, 9)
        self.tied.weight = self.lift.weight
        self.out = nn.Linear(9, 2)
        self.lift.requires_grad_(False)

    def forward(self, x: Tensor) -> Tensor:
        h = torch.tanh(self.lift(x))
        h = torch.tanh(self.shared(torch.tanh(self.shared(h))))
        return self.out(torch.relu(self.tied(x + self.back(h))))


class Cells(nn.Module):
    """Recurrent cells stepped by hand, and a bidirectional two-layer GRU with what it emits and its last state."""

    def __init__(self) -> None:
        super().__init__()
        self.cell = nn.LSTMCell(3, 5)
        self.gru = nn.GRU(5, 6, 2, batch_first=True, bidirectional=True)
        self.fc = nn.Linear(12, 2)

    def forward(self, x: Tensor) -> Tensor:
        h = c = x.new_zeros(len(x), self.cell.hidden_size)
        steps = []
        for t in range(x.shape[1]):
            h, c = self.cell(x[:, t], (h, c))
            steps.append(h)
        return self.fc(self.gru(torch.stack(steps, 1))[0][:, -1])


def _zoo(name: str, shape: tuple[int, ...], **options: object) -> Callable[[], tuple[nn.Module, Inputs]]:
    def make() -> tuple[nn.Module, Inputs]:
        return models.build(name, shape, 10, **options), torch.randn(2, *shape)

    return make


def _own(kind: type[nn.Module], *shape: int) -> Callable[[], tuple[nn.Module, Inputs]]:
    return lambda: (kind(), torch.randn(2, *shape))


def _with(kind: type[nn.Module], inputs: Callable[[], Inputs]) -> Callable[[], tuple[nn.Module, Inputs]]:
    return lambda: (kind(), inputs())


def _tokens() -> tuple[nn.Module, Inputs]:
    return models.build("char-gpt", (16,), 11, width=24, heads=3), torch.randint(11, (2, 16))


def _set() -> Inputs:
    extra = {"present": torch.rand(2, 5) < 0.7, "side": torch.randn(2, 2)}
    return {"items": torch.randn(2, 5, 4), "extra": extra}


NETWORKS: dict[str, Callable[[], tuple[nn.Module, Inputs]]] = {
    "mlp": _zoo("mlp", (1, 5, 4), widths=(12, 9, 7), activation="tanh"),
    "mlp-batch-norm": _zoo("mlp", (20,), widths=(12, 9), batch_norm=True),
    "lenet-300-100": _zoo("lenet-300-100", (1, 8, 8)),
    "lenet-5-caffe": _zoo("lenet-5-caffe", (1, 28, 28)),
    "vgg-small": _zoo("vgg-small", (3, 32, 32), width=8),
    "resnet-20": _zoo("resnet-20", (3, 16, 16)),
    "resnet-56": _zoo("resnet-56", (3, 8, 8)),
    "wrn-12": _zoo("wrn-12", (1, 28, 28)),
    "wrn-18": _zoo("wrn-18", (1, 12, 12)),
    "wrn-22": _zoo("wrn-22", (3, 8, 8)),
    "tiny-vit": _zoo("tiny-vit", (1, 12, 8), width=24, heads=3, depth=2),
    "char-gpt": _tokens,
    "lstm": _zoo("lstm", (1, 6, 5), hidden=12, layers=2),
    "branches": _own(Branches, 3, 9, 11),
    "densenet": _own(Dense121Block, 2, 7),
    "gated": _own(Gated, 2, 3, 4),
    "twice": _own(Twice, 7),
    "cells": _own(Cells, 4, 3),
    "unet": _own(convolutional.UNet, 2, 8, 12),
    "shufflenet": _own(convolutional.ShuffleUnit, 3, 5, 6),
    "mobilenet": _own(convolutional.InvertedResidual, 3, 7, 9),
    "resnext": _own(convolutional.ResNeXt, 3, 5, 6),
    "inception": _own(convolutional.Inception, 3, 5, 7),
    "super-resolution": _own(convolutional.SuperResolution, 1, 3, 5),
    "volumes": _own(convolutional.Volumes, 2, 5, 3, 4),
    "convnext": _own(convolutional.ConvNeXt, 3, 6, 10),
    "siamese": _with(convolutional.GhostTower, lambda: (torch.randn(2, 1, 8, 10), torch.randn(2, 1, 8, 10))),
    "depthwise": _own(convolutional.Depthwise, 2, 6, 9),
    "gpt": _with(attention.GPT, lambda: torch.randint(13, (2, 7))),
    "grouped-query": _with(attention.GroupedQuery, lambda: torch.randint(11, (2, 6))),
    "native-grouped-query": _with(attention.NativeGroupedQuery, lambda: (torch.randn(2, 7, 5), torch.rand(7, 7) < 0.8)),
    "torch-encoder": _own(attention.TorchEncoder, 6, 5),
    "torch-seq2seq": _with(attention.TorchSeq2Seq, lambda: {"source": torch.randn(5, 2, 4), "target": torch.randn(6, 2, 3)}),
    "cross-attention": _own(attention.CrossAttention, 7, 5),
    "einsum": _own(attention.EinsumAttention, 7, 5),
    "windows": _own(attention.WindowAttention, 3, 8, 12),
    "nano-gpt": _with(handwritten.NanoGPT, lambda: torch.randint(13, (2, 7))),
    "timm": _own(handwritten.Timm, 3, 6, 4),
    "projected": _with(mixed.Projected, lambda: torch.randint(9, (2, 6))),
    "elman": _own(mixed.Elman, 4, 3),
    "seq2seq": _with(mixed.Seq2Seq, lambda: (torch.randn(2, 5, 3), torch.randn(2, 4, 2))),
    "weight-norm": _own(mixed.WeightNormed, 2, 9),
    "spectral-norm": _own(mixed.SpectralNormed, 5),
    "own-parametrization": _own(mixed.Halved, 4),
    "mixer": _own(mixed.Mixer, 3, 8, 12),
    "experts": _own(mixed.Experts, 6),
    "autoencoder": _own(mixed.Autoencoder, 10),
    "state-space": _own(mixed.Mamba, 7, 5),
    "sets": _with(mixed.DeepSets, _set),
    "cross-stage": _own(strangers.CrossStage, 3, 5, 6),
    "res2net": _own(strangers.Res2Net, 3, 5, 6),
    "configured": _own(strangers.Configured, 5, 6),
    "directions": _own(strangers.Directions, 4, 3),
    "conv-lstm": _own(strangers.ConvLSTM, 3, 2, 4, 5),
    "spatial-gating": _own(strangers.SpatialGating, 9, 5),
    "perceiver": _own(strangers.Perceiver, 7, 5),
    "wavenet": _own(strangers.WaveNet, 1, 12),
    "messages": _with(strangers.Messages, lambda: (torch.randn(5, 4), torch.randint(5, (2, 8)))),
    "relative-bias": _with(strangers.RelativeBias, lambda: torch.randint(11, (2, 7))),
    "selective": _own(strangers.Selective, 3, 6, 7),
    "generator": _with(strangers.Generator, lambda: (torch.randn(2, 7), torch.randn(2, 4))),
    "routed": _own(strangers.Routed, 5, 4),
    "dispatched": _with(strangers.Dispatched, lambda: torch.randn(9, 4)),
    "tokens": _own(strangers.Tokens, 5, 4),
    "loops": _with(strangers.Loops, lambda: (torch.randn(5, 4), torch.randint(5, (2, 9)))),
    "checked": _own(strangers.Checked, 3, 9, 9),
    "anchored": _own(strangers.Anchored, 3, 5, 6),
    "patterned": _own(strangers.Patterned, 4, 6),
    "class-token": _own(strangers.ClassToken, 4, 6),
    "packed": _with(strangers.Packed, lambda: (torch.randint(11, (3, 6)), torch.tensor([6, 2, 4]))),
    "lengths": _with(strangers.Lengths, lambda: (torch.randn(3, 6, 4), torch.tensor([3, 6, 2]))),
    "spectrum": _own(strangers.Spectrum, 2, 10),
    "sampled": _own(strangers.Sampled, 2, 8, 8),
    "matrices": _own(strangers.Matrices, 2, 4, 4),
    "splines": _own(strangers.Splines, 4),
}


TELLING = (
    "mlp", "mlp-batch-norm", "lenet-5-caffe", "resnet-20", "tiny-vit", "lstm", "branches", "densenet", "gated", "twice", "cells",
    "shufflenet", "grouped-query", "torch-encoder", "windows", "weight-norm", "experts", "state-space", "cross-stage", "messages",
)  # fmt: skip
"""Networks that have one of every pattern: the default run tests the laws that cost most on these."""
DEEP = ("resnet-56", "wrn-18", "wrn-22")
"""Networks that are another of the table with more layers."""


def cases(default: Iterable[str]) -> pytest.MarkDecorator:
    """Every network as the argument `name` of a test, those that are not in `default` marked slow."""
    quick = set(default)
    return pytest.mark.parametrize("name", [name if name in quick else pytest.param(name, marks=pytest.mark.slow) for name in NETWORKS])


def call(model: nn.Module, inputs: Inputs) -> Any:
    """Run the model: a Tensor is one argument, a tuple all of them, a dict keyword arguments."""
    if isinstance(inputs, dict):
        return model(**inputs)
    return model(*inputs) if isinstance(inputs, tuple) else model(inputs)


def flat(output: Any) -> Tensor:
    """Everything floating-point a model returns, as one vector."""
    return torch.cat([leaf.reshape(-1) for leaf in tree_leaves(output) if isinstance(leaf, Tensor) and leaf.is_floating_point()])


def make(name: str, seed: int = 0) -> tuple[nn.Module, Inputs]:
    """The network with weights and inputs drawn by `seed`, norms with statistics of their own."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model, inputs = NETWORKS[name]()
        for tensor in [*model.parameters(), *model.buffers()]:
            if tensor.is_floating_point() and tensor.dim() == 1:
                tensor.data = torch.rand_like(tensor) + 0.5
    return model, inputs


@cache
def _traced(name: str, double: bool) -> tuple[nn.Module, Inputs, Structure]:
    model, inputs = make(name)
    if double:
        model = model.double()
        inputs = tree_map(lambda leaf: leaf.double() if leaf.is_floating_point() else leaf, inputs)
    return model, inputs, trace(model, inputs)


def traced(name: str, *, double: bool = False) -> tuple[nn.Module, Any, Structure]:
    """A copy of the network for one test, its inputs and its structure; tracing costs most and happens once in a run."""
    model, inputs, structure = _traced(name, double)
    return copy.deepcopy(model), inputs, structure
