"""A block of layers under one spectrum: connections that skip layers, and nodes that switch on only where the task needs them."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from parsinet.errors import UsageError
from parsinet.spectral.functions import compose


class SkipBlock(nn.Module):
    """Layers 1 … L whose maps are all blocks of one transfer operator A = ΦΛΦ⁻¹, with φ_k from layer k to k+1 and λ_k of layer k trained.

        W_k = φ_k Λ_k − Λ_{k+1} φ_k        A_kj = (−1)^{k−1−j} W_{k−1} φ_{k−2} … φ_j  for j < k
        n_1 = x,   n_k = σ(Σ_{j<k} A_kj n_j + b_k),   y without σ

    Three layers: y = W32 σ(W21 x) + W31 x with W31 = −W32 φ1. Every layer reads all layers before it, and no product A_kj is ever formed:
    with z_1 = x and z_{k+1} = n_{k+1} − φ_k z_k the sum is W_{k−1} z_{k−1}.

    widths: nodes of the layers, at least two layers. activation: an elementwise module, by default ReLU. φ is Glorot uniform from
    `generator`, biases are zero. λ_k = 0 but λ_L = 1: at the start every W_k before the last is zero and the block is the linear map
    ±φ_{L−1} … φ_1 x (+ for odd L). Input [..., widths[0]], output [..., widths[-1]].

    Raises UsageError. Source: Peri et al., arXiv 2504.00885 (SPARCS); the form for z, biases beside the operator and the fold are ours.
    """

    def __init__(
        self, widths: Sequence[int], generator: torch.Generator, activation: nn.Module | None = None, *, dtype: torch.dtype = torch.float32
    ) -> None:
        super().__init__()
        if len(widths) < 2 or any(not isinstance(width, int) or width < 1 for width in widths):
            raise UsageError(f"SkipBlock: widths must be two or more numbers of nodes ≥ 1, got {list(widths)}.")
        self.widths = tuple(widths)
        self.activation = nn.ReLU() if activation is None else activation
        pairs = list(itertools.pairwise(widths))
        self.phi = nn.ParameterList(_glorot(senders, receivers, generator, dtype) for senders, receivers in pairs)
        self.lambdas = nn.ParameterList(torch.full((width,), float(k == len(pairs)), dtype=dtype) for k, width in enumerate(widths))
        self.bias = nn.ParameterList(torch.zeros(width, dtype=dtype) for width in widths[1:])

    def forward(self, x: Tensor) -> Tensor:
        """y [..., widths[-1]]."""
        z = x
        for k, phi in enumerate(list(self.phi)[:-1]):
            n = self.activation(functional.linear(z, self.weight(k), self.bias[k]))
            z = n - functional.linear(z, phi)
        return functional.linear(z, self.weight(len(self.phi) - 1), self.bias[-1])

    def weight(self, k: int) -> Tensor:
        """W = φ_k Λ_k − Λ_{k+1} φ_k from layer k to the next, counted from 0: [widths[k+1], widths[k]]."""
        return compose(self.lambdas[k], self.lambdas[k + 1], self.phi[k])

    def blocks(self) -> dict[tuple[int, int], Tensor]:
        """All A_kj by (receiving, sending) layer, counted from 0."""
        found = {}
        for k in range(1, len(self.widths)):
            block = self.weight(k - 1)
            for j in reversed(range(k)):
                found[k, j] = block
                block = -block @ self.phi[j - 1] if j else block
        return found

    def penalty(self) -> Tensor:
        """Σ_k ‖λ_k‖₂ over all layers but the last; times 1e-4 in the loss it keeps hidden layers off unless they are needed."""
        return torch.stack([torch.linalg.vector_norm(values) for values in list(self.lambdas)[:-1]]).sum()

    def activity(self) -> list[Tensor]:
        """Norm ‖W_{k−1, i·}‖₂ of what every hidden node i of layer k listens to, layer by layer: 0 says the node is off.

        All its connections A_kj are multiples of that row. |λ_k| where λ_{k−1} = 0 and the rows of φ have norm one. Invariant under adding
        a number to all λ.
        """
        with torch.no_grad():
            return [self.weight(k).norm(dim=1) for k in range(len(self.phi) - 1)]

    def fold(self, threshold: float = 0.0) -> PlainSkips:
        """The block as plain Linear layers, hidden nodes with activity ≤ threshold left out and what they emit, σ(b), put into biases.

        Exact for nodes whose activity is 0. The connections that skip them keep what φ gave through them.
        """
        if not threshold >= 0 or math.isinf(threshold):
            raise UsageError(f"SkipBlock.fold: threshold must be ≥ 0, got {threshold}.")
        with torch.no_grad():
            blocks = self.blocks()
            biases = [bias.detach().clone() for bias in self.bias]
            ends = [torch.ones(width, dtype=torch.bool, device=biases[0].device) for width in (self.widths[0], self.widths[-1])]
            kept = [ends[0], *(norm > threshold for norm in self.activity()), ends[1]]
            for (k, j), block in blocks.items():
                if j:
                    biases[k - 1] += block[:, ~kept[j]] @ self.activation(self.bias[j - 1])[~kept[j]]
            small = {(k, j): block[kept[k]][:, kept[j]] for (k, j), block in blocks.items()}
            return PlainSkips(small, [bias[mask] for bias, mask in zip(biases, kept[1:], strict=True)], self.activation)


class PlainSkips(nn.Module):
    """Layers that read all layers before them, as plain Linear maps: n_k = σ(Σ_{j<k} A_kj n_j + b_k), the last without σ.

    maps: Linear layers named "k_j", receiving layer first; those that start at the input carry the bias. Layers without nodes are absent.
    """

    def __init__(self, blocks: dict[tuple[int, int], Tensor], biases: Sequence[Tensor], activation: nn.Module) -> None:
        super().__init__()
        self.activation = activation
        self.layers = [k for k, bias in enumerate(biases, 1) if len(bias)]
        self.maps = nn.ModuleDict()
        for (k, j), block in blocks.items():
            if k in self.layers and (j == 0 or j in self.layers):
                self.maps[f"{k}_{j}"] = _linear(block, biases[k - 1] if j == 0 else None)

    def forward(self, x: Tensor) -> Tensor:
        """y [..., widths[-1]]."""
        nodes = {0: x}
        for k in self.layers:
            total = torch.stack([self.maps[f"{k}_{j}"](n) for j, n in nodes.items()]).sum(0) if len(nodes) > 1 else self.maps[f"{k}_0"](x)
            nodes[k] = total if k == self.layers[-1] else self.activation(total)
        return nodes[self.layers[-1]]


def _glorot(senders: int, receivers: int, generator: torch.Generator, dtype: torch.dtype) -> Tensor:
    bound = math.sqrt(6.0 / (senders + receivers))
    return torch.empty(receivers, senders, dtype=dtype).uniform_(-bound, bound, generator=generator)


def _linear(weight: Tensor, bias: Tensor | None) -> nn.Linear:
    layer = nn.Linear(weight.shape[1], weight.shape[0], bias=bias is not None, dtype=weight.dtype, device=weight.device)
    layer.weight = nn.Parameter(weight.detach().clone())
    if bias is not None:
        layer.bias = nn.Parameter(bias.detach().clone())
    return layer
