"""The networks of the speed benchmark, in plain torch: name → (model, example inputs)."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional

from parsinet import models


class Bottleneck(nn.Module):
    """The block of ResNet-50: 1×1, 3×3, 1×1 and a shortcut."""

    def __init__(self, inputs: int, width: int, stride: int) -> None:
        super().__init__()
        outputs = 4 * width
        self.conv1, self.bn1 = nn.Conv2d(inputs, width, 1, bias=False), nn.BatchNorm2d(width)
        self.conv2, self.bn2 = nn.Conv2d(width, width, 3, stride, 1, bias=False), nn.BatchNorm2d(width)
        self.conv3, self.bn3 = nn.Conv2d(width, outputs, 1, bias=False), nn.BatchNorm2d(outputs)
        self.shortcut = nn.Identity()
        if stride > 1 or inputs != outputs:
            self.shortcut = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))

    def forward(self, x: Tensor) -> Tensor:
        y = functional.relu(self.bn1(self.conv1(x)))
        y = functional.relu(self.bn2(self.conv2(y)))
        return functional.relu(self.bn3(self.conv3(y)) + self.shortcut(x))


class ResNet50(nn.Module):
    """He et al. 2015 (arXiv 1512.03385), table 1: 3, 4, 6, 3 bottlenecks, 25.6 million parameters."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 64, 7, 2, 3, bias=False), nn.BatchNorm2d(64), nn.ReLU(), nn.MaxPool2d(3, 2, 1))
        blocks, inputs = [], 64
        for width, count, stride in ((64, 3, 1), (128, 4, 2), (256, 6, 2), (512, 3, 2)):
            for number in range(count):
                blocks.append(Bottleneck(inputs, width, stride if number == 0 else 1))
                inputs = 4 * width
        self.blocks = nn.Sequential(*blocks)
        self.fc = nn.Linear(inputs, 1000)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(functional.adaptive_avg_pool2d(self.blocks(self.stem(x)), 1).flatten(1))


class EncoderLayer(nn.Module):
    """Self-attention and a feed-forward network, each with a residual and a norm after it, as in BERT."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query, self.key, self.value, self.out = (nn.Linear(width, width) for _ in range(4))
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        batch, length, _ = x.shape
        q, k, v = (layer(x).view(batch, length, self.heads, -1).transpose(1, 2) for layer in (self.query, self.key, self.value))
        mixed = functional.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(batch, length, -1)
        x = self.norm1(x + self.out(mixed))
        return self.norm2(x + self.down(functional.gelu(self.up(x))))


class Encoder(nn.Module):
    """A transformer encoder over tokens with a classifying head."""

    def __init__(self, layers: int, width: int = 256, heads: int = 4) -> None:
        super().__init__()
        self.embed = nn.Embedding(1000, width)
        self.position = nn.Parameter(0.02 * torch.randn(1, 16, width))
        self.layers = nn.Sequential(*(EncoderLayer(width, heads) for _ in range(layers)))
        self.head = nn.Linear(width, 10)

    def forward(self, tokens: Tensor) -> Tensor:
        return self.head(self.layers(self.embed(tokens) + self.position).mean(1))


def mlp() -> nn.Module:
    """Three hidden layers of 4096: 54 million parameters."""
    return nn.Sequential(
        nn.Linear(784, 4096), nn.ReLU(), nn.Linear(4096, 4096), nn.ReLU(), nn.Linear(4096, 4096), nn.ReLU(), nn.Linear(4096, 4096),
        nn.ReLU(), nn.Linear(4096, 10),
    )  # fmt: skip


def tokens() -> Tensor:
    return torch.randint(1000, (1, 16))


NETWORKS: dict[str, Callable[[], tuple[nn.Module, Tensor]]] = {
    "resnet-50, 64²": lambda: (ResNet50(), torch.randn(1, 3, 64, 64)),
    "resnet-50, 224²": lambda: (ResNet50(), torch.randn(1, 3, 224, 224)),
    "resnet-56": lambda: (models.build("resnet-56", (3, 32, 32), 10), torch.randn(1, 3, 32, 32)),
    "encoder, 6 layers": lambda: (Encoder(6), tokens()),
    "encoder, 12 layers": lambda: (Encoder(12), tokens()),
    "encoder, 24 layers": lambda: (Encoder(24), tokens()),
    "encoder, 48 layers": lambda: (Encoder(48), tokens()),
    "mlp, 4096 wide": lambda: (mlp(), torch.randn(1, 784)),
}
